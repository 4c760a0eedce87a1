"""What the NVIDIA driver and NVML say of this host, asked in processes of their own, which a broken driver may hang.

`python -m prunectl.scheduler.devices.probe driver` prints a `Driver`, `… nvml` an `Nvml`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

PROC, SYS = Path("/proc"), Path("/sys")
NVIDIA, DISPLAY = "0x10de", "0x03"
"""PCI's number of the vendor, and how the class of a display or 3D controller begins."""
SUCCESS, NO_DEVICE = 0, 100
"""CUDA_SUCCESS and CUDA_ERROR_NO_DEVICE of cuda.h."""
MAJOR, MINOR, COMPUTE_MODE = 75, 76, 20
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, …_MINOR and CU_DEVICE_ATTRIBUTE_COMPUTE_MODE of cuda.h."""


class DriverDevice(msgspec.Struct, frozen=True):
    """A device as CUDA shows it, in CUDA's order."""

    uuid: str
    """32 hex digits."""
    name: str
    memory: int
    """Bytes."""
    capability: tuple[int, int] = (0, 0)
    compute_mode: int = 0
    """CUcomputemode: 0 default, 2 prohibited, 3 exclusive to a process."""


class Driver(msgspec.Struct, frozen=True):
    """What libcuda says, and which cards are in the machine."""

    found: bool
    """There is a libcuda.so.1."""
    error: int = SUCCESS
    """CUresult of the first call that failed."""
    message: str = ""
    """Of the error."""
    cuda: int = 0
    """The newest CUDA that the driver supports: 13000 for 13.0."""
    devices: tuple[DriverDevice, ...] = ()
    cards: tuple[str, ...] = ()
    """PCI addresses of NVIDIA's cards."""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""


class Holder(msgspec.Struct, frozen=True):
    """A process that holds memory of a device."""

    pid: int
    memory: int
    """Bytes; 0 where NVML does not say."""
    name: str = ""
    """What it is and whose; empty where this host does not show it, as in a container."""


class NvmlDevice(msgspec.Struct, frozen=True):
    """A device, or a MIG instance of one, as NVML shows it."""

    uuid: str
    """With its prefix, ``GPU-`` or ``MIG-``."""
    used: int | None = None
    total: int | None = None
    """Bytes of memory."""
    holders: tuple[Holder, ...] = ()
    mig: bool = False
    """It is divided into MIG instances."""


class Nvml(msgspec.Struct, frozen=True):
    """What NVML says."""

    driver: str = ""
    """The driver's version."""
    devices: tuple[NvmlDevice, ...] = ()
    missing: str = ""
    """Why there is no NVML: module, library or driver."""
    error: str = ""
    """Of the first query that failed although NVML is there."""


def ask_driver() -> Driver:
    """Ask libcuda."""
    cards, visible = tuple(_cards()), os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as missing:
        return Driver(found=False, message=str(missing), cards=cards, visible=visible)
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    error = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    devices = (_device(cuda, index) for index in range(count.value))
    return Driver(
        True,
        error,
        _message(cuda, error),
        version.value,
        tuple(device for device in devices if device is not None),
        cards,
        visible,
    )


def _device(cuda: Any, index: int) -> DriverDevice | None:
    """Describe a device; None where the driver lists it and gives no answer about it."""
    device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    name, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
    get_uuid = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    if cuda.cuDeviceGet(ctypes.byref(device), index) or get_uuid(raw, device):
        return None
    cuda.cuDeviceGetName(name, 256, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    return DriverDevice(
        bytes(raw).hex(),
        name.value.decode(errors="replace"),
        size.value,
        (attribute(MAJOR), attribute(MINOR)),
        attribute(COMPUTE_MODE),
    )


def _message(cuda: Any, error: int) -> str:
    text = ctypes.c_char_p()
    if error != SUCCESS:
        cuda.cuGetErrorString(error, ctypes.byref(text))
    return (text.value or b"").decode(errors="replace")


def _cards(sys: Path = SYS) -> Iterator[str]:
    """Yield the PCI addresses of NVIDIA's cards, whether there is a driver or not."""
    for folder in sorted(sys.glob("bus/pci/devices/*")):
        with contextlib.suppress(OSError):
            vendor = (folder / "vendor").read_text().strip()
            if vendor == NVIDIA and (folder / "class").read_text().startswith(DISPLAY):
                yield folder.name


def ask_nvml() -> Nvml:
    """Ask NVML."""
    try:
        import pynvml as nvml
    except ImportError:
        return Nvml(missing="the Python package nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Nvml(missing=str(error))
    try:
        version = str(nvml.nvmlSystemGetDriverVersion())
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        devices = [each for handle in handles for each in _described(nvml, handle)]
    except nvml.NVMLError as error:
        return Nvml(error=str(error))
    return Nvml(version, tuple(devices))


def _described(nvml: Any, handle: Any) -> Iterator[NvmlDevice]:
    """Yield a device, and its MIG instances."""

    def ask(function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the answer; None where this device or driver has none."""
        try:
            return function(*arguments)
        except nvml.NVMLError:
            return None

    divided = (ask(nvml.nvmlDeviceGetMigMode, handle) or (0, 0))[0] == 1
    most = ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0 if divided else 0
    instances = [ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, i) for i in range(most)]
    for each in (handle, *(instance for instance in instances if instance is not None)):
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, each)
        processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses, each) or ()
        yield NvmlDevice(
            str(nvml.nvmlDeviceGetUUID(each)),
            None if memory is None else memory.used,
            None if memory is None else memory.total,
            tuple(Holder(p.pid, p.usedGpuMemory or 0, _process(p.pid)) for p in processes),
            divided and each is handle,
        )


def _process(pid: int) -> str:
    """Return what a process is, and whose."""
    import psutil

    try:
        process = psutil.Process(pid)
        ours = "prunectl.worker" in process.cmdline()
        return f"{'prunectl worker' if ours else process.name()} of {process.username()}"
    except (psutil.Error, KeyError):  # a KeyError: no such user in a container
        return ""


ASK: dict[str, Callable[[], Driver | Nvml]] = {"driver": ask_driver, "nvml": ask_nvml}


if __name__ == "__main__":
    print(msgspec.json.encode(ASK[sys.argv[1]]()).decode())

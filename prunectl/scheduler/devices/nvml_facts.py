"""All that NVML says of this host, at once: `python -m prunectl.scheduler.devices.nvml_facts` prints an `Nvml`.

In a process of its own, which a broken driver may hang or crash. A scheduler asks `nvml_child` for less and more often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from prunectl.scheduler.devices.nvml_child import NvmlReader


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
    divided: bool = False
    """Into MIG instances."""


class Nvml(msgspec.Struct, frozen=True):
    """What NVML says."""

    driver: str = ""
    """The driver's version."""
    devices: tuple[NvmlDevice, ...] = ()
    missing: str = ""
    """Why there is no NVML: module, library or driver."""
    error: str = ""
    """Of the first query that failed although NVML is there."""


def ask_nvml() -> Nvml:
    """Ask NVML, in this process."""
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
    reader = NvmlReader(nvml)
    for each in (handle, *(instance for instance in instances if instance is not None)):
        uuid = str(nvml.nvmlDeviceGetUUID(each))
        usage = reader.read(uuid)
        holders = tuple(Holder(pid, memory, _process(pid)) for pid, memory in usage.processes)
        whole = divided and each is handle
        yield NvmlDevice(uuid, usage.memory_used, usage.memory_total, holders, whole)


def _process(pid: int) -> str:
    """Return what a process is, and whose."""
    import psutil

    try:
        process = psutil.Process(pid)
        ours = "prunectl.worker" in process.cmdline()
        return f"{'prunectl worker' if ours else process.name()} of {process.username()}"
    except (psutil.Error, KeyError):  # a KeyError: no such user in a container
        return ""


if __name__ == "__main__":
    print(msgspec.json.encode(ask_nvml()).decode())

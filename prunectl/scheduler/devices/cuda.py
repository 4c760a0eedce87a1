"""CUDA devices: enumerated by the driver, observed through NVML, matched by UUID.

The driver is asked in a short process of its own: it alone knows CUDA's order and respects CUDA_VISIBLE_DEVICES, and
a driver that hangs or crashes must not take the scheduler with it. NVML (nvidia-ml-py) is imported when first needed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from prunectl.scheduler.devices.base import Device, Usage

TEMPERATURE_GPU = 0
"""NVML_TEMPERATURE_GPU of nvml.h: the sensor of the chip."""
ENUMERATE_SECONDS = 60.0
"""The driver's first start on a large machine without persistence mode can take tens of seconds."""

# The driver's C interface (cuda.h): 0 is success; the UUID is 16 bytes. `_v2` knows MIG instances.
_ENUMERATE = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
found = []
count = ctypes.c_int()
if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
    get_uuid = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    for index in range(count.value):
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        name, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
        if cuda.cuDeviceGet(ctypes.byref(device), index) or get_uuid(raw, device):
            continue
        cuda.cuDeviceGetName(name, 256, device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        found.append([bytes(raw).hex(), name.value.decode(errors="replace"), size.value])
print(json.dumps(found))
"""


class CudaLayer:
    """The CUDA devices of this host, or none."""

    def __init__(
        self,
        environment: Mapping[str, str],
        nvml: Any = None,
        enumerate_devices: Callable[[Mapping[str, str]], list[tuple[str, str, int]]] | None = None,
    ) -> None:
        """Tests pass `nvml` (the module, or False for none) and `enumerate_devices` (`ask_driver` by default)."""
        self._environment = environment
        self._nvml = nvml
        self._enumerate = enumerate_devices or ask_driver
        self._handles: dict[str, Any] = {}
        self._devices: list[Device] | None = None

    def devices(self) -> list[Device]:
        """Return the devices in CUDA's order, one slot each; enumerated once."""
        if self._devices is None:
            self._devices = [
                Device(f"cuda:{index}", "cuda", name, 1, self._uuid(raw), memory)
                for index, (raw, name, memory) in enumerate(self._enumerate(self._environment))
            ]
        return self._devices

    def _uuid(self, raw: str) -> str:
        """Return the UUID as CUDA_VISIBLE_DEVICES takes it: the driver's lacks the prefix of a MIG instance."""
        import uuid  # 4 ms, which a machine without CUDA need not pay

        text = str(uuid.UUID(hex=raw))
        names = (f"{prefix}-{text}" for prefix in ("GPU", "MIG"))
        return next((name for name in names if self._handle(name) is not None), f"GPU-{text}")

    def _handle(self, name: str) -> Any:
        if name not in self._handles:
            self._handles[name] = self._ask("nvmlDeviceGetHandleByUUID", name)
        return self._handles[name]

    def _ask(self, function: str, *arguments: Any) -> Any:
        """Return what a function of NVML does; None where NVML is missing or does not know."""
        if self._nvml is None:
            self._nvml = _load_nvml()
        if self._nvml is False:
            return None
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError:
            return None

    def usage(self, device: Device) -> Usage:
        """Return how busy the device is; only its memory where NVML is missing."""
        handle = self._handle(device.uuid or "")
        if handle is None:
            return Usage(memory_total=device.memory)
        rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        temperature = self._ask("nvmlDeviceGetTemperature", handle, TEMPERATURE_GPU)
        power = self._ask("nvmlDeviceGetPowerUsage", handle)
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", handle) or ()
        return Usage(
            utilisation=None if rates is None else float(rates.gpu),
            memory_used=None if memory is None else memory.used,
            memory_total=device.memory if memory is None else memory.total,
            temperature=None if temperature is None else float(temperature),
            power=None if power is None else power / 1000,  # from mW
            processes=tuple((process.pid, process.usedGpuMemory or 0) for process in processes),
        )


def _load_nvml() -> Any:
    """Return the initialised module, or False where the module, the library or the driver is missing."""
    try:
        import pynvml
    except ImportError:
        return False
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return pynvml


def ask_driver(environment: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """Return (UUID in hex, name, bytes of memory) of each device that CUDA shows; nothing without a driver."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _ENUMERATE],
            env=dict(environment),
            capture_output=True,
            timeout=ENUMERATE_SECONDS,
            check=False,
        )
        return msgspec.json.decode(done.stdout or b"[]", type=list[tuple[str, str, int]])
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return []

"""The process that asks NVML: a line with UUIDs comes in, a line with how busy these devices are goes out.

NVML can hang or crash with its driver, and then only this process does (`nvml` is its other side). It ends where NVML
is missing, and where nothing at all can be read: the next one loads the library afresh.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from prunectl.scheduler.devices.base import Usage

TEMPERATURE_GPU = 0
"""NVML_TEMPERATURE_GPU of nvml.h: the sensor of the chip."""


class NvmlReader:
    """Reads what NVML knows of devices."""

    def __init__(self, nvml: Any) -> None:
        """`nvml` is the initialised module."""
        self._nvml = nvml
        self._handles: dict[str, Any] = {}

    def read(self, uuid: str) -> Usage:
        """Return how busy the device is; None in what NVML does not tell."""
        if uuid not in self._handles:
            self._handles[uuid] = self._ask("nvmlDeviceGetHandleByUUID", uuid)
        handle = self._handles[uuid]
        if handle is None:
            del self._handles[uuid]  # asked for anew the next time
            return Usage()
        rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        temperature = self._ask("nvmlDeviceGetTemperature", handle, TEMPERATURE_GPU)
        power = self._ask("nvmlDeviceGetPowerUsage", handle)
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", handle) or ()
        return Usage(
            utilisation=None if rates is None else float(rates.gpu),
            memory_used=None if memory is None else memory.used,
            memory_total=None if memory is None else memory.total,
            temperature=None if temperature is None else float(temperature),
            power=None if power is None else power / 1000,  # from mW
            processes=tuple((process.pid, process.usedGpuMemory or 0) for process in processes),
        )

    def _ask(self, function: str, *arguments: Any) -> Any:
        """Return what a function of NVML does; None where NVML does not know."""
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError:
            return None


def main() -> None:
    """Answer until the input ends. Exits with 1 where NVML is of no use."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # of the module, of the library, or of the driver
        sys.exit(f"no NVML: {error}")
    reader = NvmlReader(pynvml)
    for line in sys.stdin.buffer:
        asked = msgspec.json.decode(line, type=list[str])
        usages = {uuid: reader.read(uuid) for uuid in asked}
        if all(usage == Usage() for usage in usages.values()):
            sys.exit("NVML reads nothing")
        sys.stdout.buffer.write(msgspec.json.encode(usages) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

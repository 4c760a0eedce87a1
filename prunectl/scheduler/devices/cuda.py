"""CUDA devices: enumerated by the driver (`driver`), observed through NVML (`nvml`), known to both by UUID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from prunectl.scheduler.devices.base import Device, Usage
from prunectl.scheduler.devices.driver import AskDriver, Driver, ask_driver, full_names
from prunectl.scheduler.devices.missing_cuda import explain
from prunectl.scheduler.devices.nvml import NvmlMonitor
from prunectl.scheduler.devices.torch_build import torch_build


class CudaLayer:
    """The CUDA devices of this host, or none."""

    def __init__(
        self,
        environment: Mapping[str, str],
        ask: AskDriver = ask_driver,
        monitor: NvmlMonitor | None = None,
    ) -> None:
        """Tests pass another driver to `ask`, and another `monitor`."""
        self._environment = environment
        self._ask = ask
        self._monitor = monitor or NvmlMonitor(environment)
        self._driver: Driver | None = None
        self._devices: list[Device] = []

    @property
    def driver(self) -> Driver:
        """Return what the driver says; asked once."""
        if self._driver is None:
            self._driver = self._ask(self._environment)
            shown = self._driver.devices
            names = full_names(self._environment, shown, self._ask) if shown else []
            self._devices = [
                Device(f"cuda:{index}", "cuda", device.name, 1, name, device.memory)
                for index, (device, name) in enumerate(zip(shown, names, strict=True))
            ]
        return self._driver

    def devices(self) -> list[Device]:
        """Return the devices in CUDA's order, one slot each; enumerated once."""
        return self._devices if self.driver.devices else []

    def about(self) -> str:
        """Return why there is no other device than those, in lines."""
        return explain(self.driver, self._environment, torch_build())

    def usage(self, device: Device) -> Usage:
        """Return how busy the device was lately; only its memory where NVML has said nothing."""
        usage = self._monitor.usage(device.uuid or "")
        return usage if usage.memory_total else replace(usage, memory_total=device.memory)

    def close(self) -> None:
        """End the process that asks NVML."""
        self._monitor.close()

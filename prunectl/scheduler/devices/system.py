"""The devices of this host: the CPU and the CUDA devices."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prunectl.scheduler.devices.base import Device, Usage
from prunectl.scheduler.devices.cpu import CpuLayer
from prunectl.scheduler.devices.cuda import CudaLayer


class SystemLayer:
    """The CPU and the CUDA devices of this host."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._cpu = CpuLayer()
        self._cuda = CudaLayer(environment)

    def devices(self) -> list[Device]:
        """Return the CUDA devices in CUDA's order, then the CPU."""
        return [*self._cuda.devices(), *self._cpu.devices()]

    def about_cuda(self) -> str:
        """Return why there is no other CUDA device than those, in lines."""
        return self._cuda.about()

    def usage(self, device: Device) -> Usage:
        """Return how busy the device is."""
        return (self._cuda if device.kind == "cuda" else self._cpu).usage(device)

    def close(self) -> None:
        """End what watches the devices."""
        self._cuda.close()

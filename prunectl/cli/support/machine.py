"""What a bench's figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING

from prunectl.version import __version__

if TYPE_CHECKING:  # msgspec, which `--help` must not pay for
    from prunectl.bench.records import Machine


def machine() -> Machine:
    """Describe what was measured on: processor, cores, versions."""
    from prunectl.bench.records import Machine
    from prunectl.scheduler.devices.cpu import CpuLayer

    cpu = CpuLayer().devices()[0]
    return Machine(
        cpu=cpu.name,
        cores=cpu.slots,
        threads=os.cpu_count(),
        python=platform.python_version(),
        torch=metadata.version("torch"),
        torchvision=metadata.version("torchvision"),
        prunectl=__version__,
    )

"""What computed a stage, versions and device: recorded with it, never part of its key."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from pathlib import Path

import numpy
import torch

from prunectl.spec.key import NUMERICS
from prunectl.version import __version__


@cache
def versions() -> dict[str, str | int | None]:
    """Versions of what the numbers depend on."""
    return {
        "prunectl": __version__,
        "numerics": NUMERICS,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        if torch.cuda.is_available()
        else None,
    }


@cache
def device_name(device: str) -> str:
    """The model of a device: of a CUDA device as its driver has it, of a CPU as Linux has it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""What computed a stage: recorded with it, never part of its key."""

from __future__ import annotations

import platform
from functools import cache

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
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        if torch.cuda.is_available()
        else None,
    }

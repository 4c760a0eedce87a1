"""Waits of the host for a CUDA device, as errors."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def no_waits() -> Iterator[None]:
    """Raise RuntimeError where torch makes the host wait for the device."""
    with warnings.catch_warnings():
        # The first use of the mode in a process warns that it is a prototype.
        warnings.filterwarnings("ignore", "Synchronization debug mode")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")

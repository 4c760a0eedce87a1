"""Memory that stages use: on a CUDA device what torch reserved, on a CPU the process's resident set."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import torch

PROC = Path("/proc/self")


def restart_peak(device: str) -> None:
    """Reset the peak, so that the memory of earlier stages no longer counts."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # proc(5): 5 resets the peak resident set size
        (PROC / "clear_refs").write_text("5")


def peak_memory(device: str) -> int:
    """Return the most that the worker has used, in bytes; all its slots together."""
    if device.startswith("cuda"):
        # Reserved, not allocated: what a captured step works in belongs to its graph and counts as free.
        return torch.cuda.max_memory_reserved(device)
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = (PROC / "status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

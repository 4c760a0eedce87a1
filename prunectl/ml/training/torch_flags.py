"""What torch computes with: its process-wide switches.

Stages that differ in the switches do not share a process.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

from prunectl.spec.settings import TrainSettings


def configure(device: str | torch.device, settings: TrainSettings) -> None:
    """Set determinism, TF32 and threads for all training that this process will do on `device`.

    Deterministic kernels on CUDA need CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment from the process's start.
    """
    if torch.device(device).type == "cpu":
        # One thread per worker, one worker per core: small batches lose more to waiting than they gain, and sums
        # split between threads would depend on how many there are.
        torch.set_num_threads(1)
        keep_freed_memory()
    torch.use_deterministic_algorithms(settings.deterministic)
    # Deterministic mode would also fill every new tensor, to show up reads of memory nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = settings.deterministic
    torch.backends.cudnn.benchmark = not settings.deterministic
    torch.backends.cuda.matmul.allow_tf32 = settings.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = settings.precision == "tf32"


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep what the process frees instead of giving it back. Returns False where it does not.

    A training step frees and takes the same activations again. Given back in between, their pages are cleared and
    mapped anew at every step: 23,000 page faults for ResNet-20 at batch 128, a tenth of its time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False  # no glibc
    # Older versions take no more than 32 MiB; and with only the other one set they would map every large tensor.
    kept = mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 32 << 20)
    return bool(kept) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


INSTRUCTIONS = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}
"""Flags in /proc/cpuinfo, any of which means products in the precision, of x86 and of Arm."""


@cache
def emulation(kind: str, precision: str) -> str | None:
    """Return a note where devices of a kind ("cpu", "cuda") compute in a precision without instructions for it; None
    elsewhere."""
    if precision not in INSTRUCTIONS or _has(kind, precision):
        return None
    return f"{precision} is emulated on this device, and slow; another precision would be another stage"


def _has(kind: str, precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether products in a precision are instructions."""
    if kind == "cuda":
        # fp16 since Pascal, older than anything that torch supports.
        return precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True  # not Linux: nothing is known, so nothing is said
    flags = {
        flag
        for line in lines
        if line.partition(":")[0].strip() in ("flags", "Features")
        for flag in line.partition(":")[2].split()
    }
    return bool(flags & INSTRUCTIONS[precision])

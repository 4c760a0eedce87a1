"""Why a stage failed, as one word that the scheduler acts on."""

from __future__ import annotations

import traceback

import torch

from prunectl.errors import DataError, DiskError
from prunectl.ml.pruning.masks import NonFiniteWeights
from prunectl.store.records.events import Failed
from prunectl.store.records.messages import StageFailed
from prunectl.store.refusals import is_refusal, refused

NO_ROOM = ("can't allocate memory", "CUDA error: out of memory")
"""What errors say that are no OutOfMemoryError."""


class MissingInput(Exception):
    """A stage this one builds on lacks the file it needs; `key` is that stage's."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class ReplayDiffers(Exception):
    """A replay did not reproduce what the dense run recorded: its checkpoint would be another network's."""


def has_lost(device: str) -> bool:
    """Return whether this process can use its CUDA device no more: errors of kernels are sticky.

    What the error says does not tell, so the device is tried.
    """
    if not device.startswith("cuda"):
        return False
    try:
        torch.cuda.synchronize(device)
        return bool(torch.ones(1, device=device).add_(1).item() != 2)
    except torch.OutOfMemoryError:
        return False
    except Exception:
        return True


def reason(error: Exception, device: str) -> str:
    """Classify an error on the device as one of `REASONS`: ``oom``, ``nonfinite``, ``missing``, ``data``, ``disk``,
    ``device`` or ``exception``."""
    if isinstance(error, NonFiniteWeights):
        return "nonfinite"
    if isinstance(error, MissingInput):
        return "missing"
    # A file of the data set that the system does not let be read is not what is wrong with the data.
    of_the_system = error.__cause__ if isinstance(error, DataError) else error
    if isinstance(error, DiskError) or (of_the_system is not None and is_refusal(of_the_system)):
        return "disk"
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "oom"
    # The CPU allocator has no class of its own for it, nor has CUDA where a context or a kernel has no room.
    if isinstance(error, RuntimeError) and any(word in str(error) for word in NO_ROOM):
        return "oom"
    # Nor has cuDNN where there is no workspace for any of its plans.
    if "unable to find an engine" in str(error) and torch.cuda.memory_stats().get("num_ooms"):
        return "oom"
    return "device" if has_lost(device) else "exception"


def failed_record(error: Exception, device: str, step: int) -> Failed:
    """Return the record of an error that ended an attempt on the device after so many steps."""
    why = reason(error, device)
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if why == "disk":  # it ends the run, which says so
        message = str(refused(error) if isinstance(error, OSError) else error)
    return Failed(
        reason=why,
        # CUDA's errors go on for lines with advice on debugging.
        message=message.splitlines()[0] if why == "device" else message,
        traceback="".join(traceback.format_exception(error)),
        step=step,
        missing=error.key if isinstance(error, MissingInput) else None,
    )


def failed_message(key: str, attempt: int, record: Failed) -> StageFailed:
    """Return what the scheduler is told of it."""
    return StageFailed(
        key=key,
        attempt=attempt,
        reason=record.reason,
        message=record.message,
        traceback=record.traceback,
        step=record.step,
        missing=record.missing,
    )

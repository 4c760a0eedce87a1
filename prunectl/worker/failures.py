"""Why a stage failed, as one word that the scheduler acts on."""

from __future__ import annotations

import traceback

import torch

from prunectl.errors import DiskError
from prunectl.ml.pruning.masks import NonFiniteWeights
from prunectl.store.records.events import Failed
from prunectl.store.records.messages import StageFailed


class MissingInput(Exception):
    """A stage this one builds on lacks the file it needs; `key` is that stage's."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class ReplayDiffers(Exception):
    """A replay did not reproduce what the dense run recorded: its checkpoint would be another network's."""


def reason(error: Exception) -> str:
    """Classify an error as ``oom``, ``nonfinite``, ``missing``, ``disk`` or ``exception``."""
    if isinstance(error, NonFiniteWeights):
        return "nonfinite"
    if isinstance(error, MissingInput):
        return "missing"
    if isinstance(error, DiskError):
        return "disk"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "oom"
    # The CPU allocator has no class of its own for it.
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return "oom"
    return "exception"


def failed_record(error: Exception, step: int) -> Failed:
    """Return the record of an error that ended an attempt after so many steps."""
    return Failed(
        reason=reason(error),
        message=f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
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

"""The result of a stage, computed from its epochs, and what is checked of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prunectl.spec.stage import Stage
from prunectl.spec.task import Metric
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import Epoch, latest_epochs
from prunectl.store.records.result import Result
from prunectl.worker.failures import ReplayDiffers


def add_epochs(result: Result, epochs: Sequence[Epoch], score: Metric) -> None:
    """Fill in what the result says of the stage's epochs; a replay may have none."""
    result.epochs = len(epochs)
    if not epochs:
        return
    last = epochs[-1]
    for name in FROM_LAST_EPOCH:
        setattr(result, name, getattr(last, name))
    scores = [value for epoch in epochs if (value := _finite(epoch.score)) is not None]
    result.best_score = max(scores, key=lambda value: score.sign * value, default=None)
    result.metrics = {**result.metrics, **last.metrics, f"best_{score.name}": result.best_score}


FROM_LAST_EPOCH = (
    "train_loss", "loss", "validation_loss", "train_score", "score", "validation_score",
)  # fmt: skip
"""Fields that are copied from the last epoch's record."""


def flag(stage: Stage, epochs: Sequence[Epoch], test_images: int, score: Metric) -> str | None:
    """``diverged``: a loss that is not finite. ``collapsed``: no better than guessing. None for a replay."""
    if stage.replay:
        return None
    last = epochs[-1]
    if is_diverged(last):
        return "diverged"
    assert last.score is not None
    return "collapsed" if score.is_chance(last.score, stage.network.classes, test_images) else None


def is_diverged(epoch: Epoch) -> bool:
    """Whether a loss of the epoch is not finite; None is what such a one is on the disk."""
    return _finite(epoch.train_loss) is None or _finite(epoch.loss) is None


def _finite(value: float | None) -> float | None:
    """Return a number as it comes back from the disk: None where it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def check_replay(record: Epoch, recorded: Sequence[LogRecord], until: int) -> None:
    """Compare an epoch of a replay with the dense run's at the same step.

    Raises ReplayDiffers where they are not equal: `until` is the step that is replayed to.
    """
    for other in latest_epochs(recorded):
        if other.step == record.step:
            for name in ("train_loss", "loss", "score"):
                ours, theirs = _finite(getattr(record, name)), _finite(getattr(other, name))
                if ours != theirs:
                    raise ReplayDiffers(
                        f"replaying the dense run to step {until} gave {name} "
                        f"{ours} at step {record.step}, where {theirs} was recorded: "
                        "another device, library version or code computed it"
                    )

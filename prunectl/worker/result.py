"""The result of a stage, computed from its epochs, and what is checked of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from prunectl.spec.stage import StageSpec
from prunectl.store.journal import Record
from prunectl.store.records.events import latest_epochs
from prunectl.store.records.result import FROM_LAST_EPOCH
from prunectl.worker.failures import ReplayDiffers


def measurements(epochs: Sequence[Record]) -> dict[str, Any]:
    """What the result says of the stage's epochs; null where a replay has none."""
    last = epochs[-1] if epochs else {}
    return {
        **{name: last.get(name) for name in FROM_LAST_EPOCH},
        "best_accuracy": max((record["accuracy"] for record in epochs), default=None),
        "validation_accuracy": last.get("validation_accuracy"),
        "validation_loss": last.get("validation_loss"),
        "epochs": len(epochs),
    }


def flag(spec: StageSpec, epochs: Sequence[Record], test_images: int) -> str | None:
    """``diverged``: a loss that is not finite. ``collapsed``: no better than guessing. None for a replay.

    Guessing is right p = 1/classes of the time; an accuracy within three standard errors √(p(1−p)/n) of that
    cannot be told from it.
    """
    if spec.replay:
        return None
    if is_diverged(epochs[-1]):
        return "diverged"
    chance = 1 / spec.network.classes
    error = math.sqrt(chance * (1 - chance) / test_images)
    return "collapsed" if epochs[-1]["accuracy"] <= 100 * (chance + 3 * error) else None


def is_diverged(epoch: Record) -> bool:
    """Whether a loss of the epoch is not finite."""
    return not (math.isfinite(epoch["train_loss"]) and math.isfinite(epoch["loss"]))


def check_replay(record: Record, recorded: Sequence[Record], until: int) -> None:
    """Compare an epoch of a replay with the dense run's at the same step.

    Raises ReplayDiffers where they are not equal: `until` is the step that is replayed to.
    """
    for other in latest_epochs(recorded):
        if other["step"] == record["step"]:
            for name in ("train_loss", "loss", "accuracy"):
                if other[name] != record[name]:
                    raise ReplayDiffers(
                        f"replaying the dense run to step {until} gave {name} "
                        f"{record[name]} at step {record['step']}, where {other[name]} was recorded: "
                        "another device, library version or code computed it"
                    )

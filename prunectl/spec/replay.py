"""Replay stages: making a rewind checkpoint that a finished dense stage did not keep.

Both sides build the same value from the dense stage, so both know its key: the scheduler, which queues it, and the
stage that starts from `rewind-<step>` and looks for it in the dense stage's folder first, in the replay's second.
"""

from __future__ import annotations

from dataclasses import replace

from prunectl.spec.lr_schedule import window
from prunectl.spec.stage import StageSpec, Weights


def replay_of(dense: StageSpec, key: str, step: int) -> StageSpec:
    """The stage that trains the dense stage `key` again up to its step number `step`, only to keep that state.

    Raises ValueError where the stage is no dense stage (only those start from nothing but their seed), and
    where it has no such step.
    """
    if dense.weights.stage is not None or dense.mask is not None or dense.replay:
        raise ValueError("only a dense stage can be replayed")
    return replace(
        dense,
        lr=window(dense.lr, 0, step),
        weights=Weights(stage=key, step=step),
        replay=True,
    )

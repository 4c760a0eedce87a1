"""Rewind points that a dense run did not keep: a small stage of its own makes each."""

from __future__ import annotations

from dataclasses import replace

from prunectl.core.schedule import window
from prunectl.plan.identity import stage_key
from prunectl.plan.spec import StageSpec, Weights


def replay_of(dense: StageSpec, step: int) -> tuple[str, StageSpec]:
    """Key and spec of the stage that trains `dense` again up to `step`, only to leave a checkpoint there."""
    spec = replace(
        dense,
        lr=window(dense.lr, 0, step),
        weights=Weights(stage_key(dense), step),
        replay=True,
    )
    return stage_key(spec), spec

"""A learning-rate schedule as the runs that a table of a paper would list."""

from __future__ import annotations

from collections.abc import Sequence

from prunectl.spec.lr_schedule import Segment, rates


def runs(schedule: Sequence[Segment]) -> list[tuple[int, float]]:
    """The schedule as (first step, rate), one per change of the rate."""
    out: list[tuple[int, float]] = []
    for step, lr in enumerate(rates(schedule)):
        if not out or out[-1][1] != lr:
            out.append((step, lr))
    return out

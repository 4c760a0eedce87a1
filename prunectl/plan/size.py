"""How many trials a plan asks for, counted by arithmetic before any of them is made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError

from prunectl.plan.grid import Axis, Combination, axes, kind_of, schedules, skipping
from prunectl.plan.load import LoadedPlan
from prunectl.plan.pruning import PruningSchedule
from prunectl.plan.strategies import DENSE, fixes_length

LIMIT = 1_000_000
"""Of stages on the paths of a plan's trials, and of combinations of its grid's values. Those of 100,000 seeds × 5
strategies, one-shot, take `show` 15 s of CPU and 1.1 GB, and the plan's record 0.7 GB of disk."""


class Size(NamedTuple):
    """What a plan or a part of it comes to."""

    trials: int
    stages: int
    """On their paths: one that several trials share counts for each of them."""


def check_size(plan: LoadedPlan) -> None:
    """Raise PlanError, with file and line, where the plan is larger than can be laid out."""
    every = axes(plan)
    factors = " × ".join(f"{axis.key} {len(axis.values):,}" for axis in every if axis.varies)
    combined = _combined(every)
    if combined > LIMIT:
        _refuse(plan, f"{combined:,} combinations: {factors}", "combinations")
    size = count(plan)
    if size.stages > LIMIT:
        seeds = len(plan.content.seeds)
        found = f"{size.trials:,} trials: {seeds:,} seeds × {size.trials // seeds:,} of the grid"
        found += f" ({factors})" if factors else ""
        _refuse(plan, f"{found}, with {size.stages:,} stages", "stages on the trials' paths")


def _refuse(plan: LoadedPlan, found: str, what: str) -> None:
    raise plan.fail(
        "too many trials for one plan: take fewer seeds or values, or split it",
        "grid",
        found=found,
        allowed=[f"at most {LIMIT:,} {what}"],
        suggestion="",
    )


def count(plan: LoadedPlan) -> Size:
    """Count a plan's trials: two ways to say the same one count twice, and a schedule that is not valid counts once.

    Raises PlanError as `axes`.
    """
    grid, every = plan.content.grid, axes(plan)
    recipes = _combined(axis for axis in every if axis.path[0] == "recipe")
    pruning = [axis for axis in every if axis.path[0] == "pruning"]
    others = _combined(axis for axis in pruning if axis.path[1] != "schedule")
    sizes = [(kind_of(schedule), _size(schedule)) for schedule in schedules(plan)]
    trials = stages = 0
    for names in itertools.product(grid.network, grid.dataset, grid.strategy):
        part, strategy = Combination(*names, None, ()), names[-1]
        left = [size for kind, size in sizes if not skipping(plan, part, kind)]
        if strategy == DENSE:  # the same whatever pruning and lengths of retraining are beside it
            times, left = 1, left[:1] and [Size(1, 1)]
        elif fixes_length(strategy, plan.content.strategies):
            times = others
        else:
            times = others * len(grid.retrain or (None,))
        trials += times * sum(size.trials for size in left)
        stages += times * sum(size.stages for size in left)
    times = recipes * len(plan.content.seeds)
    return Size(times * trials, times * stages)


def _combined(axes: Iterable[Axis]) -> int:
    """Count the combinations of the axes' values."""
    return math.prod(len(axis.values) or 1 for axis in axes)


def _size(schedule: object) -> Size:
    try:
        valid = PruningSchedule.model_validate(schedule)
    except ValidationError:  # it is found with its place when the grid is resolved
        return Size(1, 1)
    levels = valid.levels
    return Size(levels, 2 * levels) if valid.kind == "one-shot" else Size(1, 1 + levels)

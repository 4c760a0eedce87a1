"""How many trials a plan asks for, counted by arithmetic before any of them is made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError

from prunectl.plan.grid import Axis, Combination, SkipIndex, axes, kind_of, schedules
from prunectl.plan.load import LoadedPlan
from prunectl.plan.pruning import PruningSchedule
from prunectl.plan.seeds import count
from prunectl.plan.strategies import DENSE, fixes_length

MOST_STAGES = 400_000
"""On the paths of a plan's trials, those counted in that `OF_A_TRIAL` and `OF_A_STAGE` say. At the limit `show` takes 5
to 8 s of CPU and up to 0.5 GB, 20 μs a stage, and the plan's record up to 0.3 GB of disk."""
OF_A_TRIAL, OF_A_STAGE = 15, 4
"""Stages that each trial and each stage of one seed count for besides: what they are is resolved and encoded once, for
all seeds, which takes about 300 and 70 μs."""
MOST_COMBINATIONS = 100_000
"""Of the grid's values, before any is skipped: each is looked at, in 20 μs."""


class Size(NamedTuple):
    """What a plan or a part of it comes to."""

    trials: int
    stages: int
    """On their paths: one that several trials share counts for each of them."""


def check_size(plan: LoadedPlan) -> None:
    """Raise PlanError, with file and line, where the plan is larger than can be laid out in seconds."""
    every = axes(plan)
    factors = " × ".join(f"{axis.key} {len(axis.values):,}" for axis in every if axis.varies)
    combined = _combined(every)
    if combined > MOST_COMBINATIONS:
        _refuse(plan, f"{combined:,} combinations: {factors}", MOST_COMBINATIONS, "combinations")
    of_a_seed, seeds = count_of_a_seed(plan), count(plan.content.seeds)
    stages = seeds * of_a_seed.stages
    counted = stages + OF_A_TRIAL * of_a_seed.trials + OF_A_STAGE * of_a_seed.stages
    if counted > MOST_STAGES:
        found = (
            f"{seeds * of_a_seed.trials:,} trials: {seeds:,} {'seeds' if seeds > 1 else 'seed'} × "
        )
        found += f"{of_a_seed.trials:,} of the grid" + (f" ({factors})" if factors else "")
        what = f"stages, each trial and stage of one seed counted as {OF_A_TRIAL} and {OF_A_STAGE} more"
        _refuse(plan, f"{found}, with {stages:,} stages: {counted:,}", MOST_STAGES, what)


def _refuse(plan: LoadedPlan, found: str, most: int, what: str) -> None:
    raise plan.fail(
        "too many trials for one plan: take fewer seeds or values, or split it",
        "grid",
        found=found,
        allowed=[f"at most {most:,} {what}"],
        suggestion="",
    )


def count_of_a_seed(plan: LoadedPlan) -> Size:
    """Count a plan's trials of one seed: two ways to say the same one count twice, and a schedule that is not valid
    counts once.

    Raises PlanError as `axes`.
    """
    index = SkipIndex(plan.content.grid.skip)
    grid, every = plan.content.grid, axes(plan)
    recipes = _combined(axis for axis in every if axis.path[0] == "recipe")
    pruning = [axis for axis in every if axis.path[0] == "pruning"]
    others = _combined(axis for axis in pruning if axis.path[1] != "schedule")
    sizes = [(kind_of(schedule), _size(schedule)) for schedule in schedules(plan)]
    trials = stages = 0
    for names in itertools.product(grid.network, grid.dataset, grid.strategy):
        part, strategy = Combination(*names, None, ()), names[-1]
        left = [size for kind, size in sizes if not index.matching(part, kind)]
        if strategy == DENSE:  # the same whatever pruning and lengths of retraining are beside it
            times, left = 1, left[:1] and [Size(1, 1)]
        elif fixes_length(strategy, plan.content.strategies):
            times = others
        else:
            times = others * len(grid.retrain or (None,))
        trials += times * sum(size.trials for size in left)
        stages += times * sum(size.stages for size in left)
    return Size(recipes * trials, recipes * stages)


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

"""Points of the grid, resolved: everything a stage's identity needs but the seed, fixed once for all seeds."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from prunectl.errors import PlanError, UnknownName
from prunectl.ml.criteria import registry as criteria
from prunectl.ml.datasets import registry as datasets
from prunectl.plan import strategies
from prunectl.plan.grid import Combination, combinations
from prunectl.plan.load import LoadedPlan, check
from prunectl.plan.pruning import Pruning
from prunectl.plan.retraining import Retraining, retraining
from prunectl.plan.training import Training, described, training


@dataclass(frozen=True)
class Point:
    """A grid point without its seed."""

    training: Training
    pruning: Pruning | None
    """None for the dense network alone."""
    strategy: str
    retraining: Retraining | None


def points(plan: LoadedPlan) -> Iterator[Point]:
    """Every combination of the grid, in the order of the file.

    Raises PlanError with the plan's file and line for the first one that is not possible.
    """
    _names(plan)
    trainings: dict[tuple[str, str, str], Training] = {}
    prunings: dict[str, Pruning] = {}
    describe = functools.cache(functools.partial(described, plan))
    for found in combinations(plan):
        about = (found.network, found.dataset, found.about("recipe"))
        if about not in trainings:
            trainings[about] = training(plan, found, describe)
        if found.strategy == strategies.DENSE:
            yield Point(trainings[about], None, found.strategy, None)
            continue
        cut = found.about("pruning")
        if cut not in prunings:
            prunings[cut] = _pruning(plan, found)
        how = retraining(plan, trainings[about], found.strategy, found.retrain)
        yield Point(trainings[about], prunings[cut], found.strategy, how)


def _pruning(plan: LoadedPlan, found: Combination) -> Pruning:
    pruning = check(Pruning, found.changed(plan.content.pruning, "pruning"), ("pruning",))
    if isinstance(pruning, PlanError):
        raise pruning.at(plan.file, plan.line(pruning.key or "pruning"))
    try:
        criteria.find(pruning.criterion)
    except UnknownName as error:
        raise plan.unknown(error, "pruning.criterion") from None
    return pruning


def _names(plan: LoadedPlan) -> None:
    """The plan's own names must not hide built-in ones, and lengths of retraining must be a strategy's."""
    own = plan.content.strategies
    for name in own:
        if strategies.built_in(name) or name == strategies.DENSE:
            raise plan.fail(
                "a built-in strategy has this name: give yours another", f"strategies.{name}"
            )
    for name in plan.content.datasets:
        if name in datasets.names():
            raise plan.fail("a data set of prunectl has this name", f"datasets.{name}")
    lengths = plan.content.recipe.get("retrain")
    for name in lengths if isinstance(lengths, dict) else ():
        try:
            strategies.find(name, own)
        except UnknownName as error:
            raise plan.unknown(error, f"recipe.retrain.{name}") from None
        if _fixed(name, plan):
            raise plan.fail("this strategy fixes its length itself", f"recipe.retrain.{name}")
    if plan.content.grid.retrain and all(
        name == strategies.DENSE or _fixed(name, plan) for name in plan.content.grid.strategy
    ):
        raise plan.fail("every strategy of the grid fixes its length itself", "grid.retrain")


def _fixed(name: str, plan: LoadedPlan) -> bool:
    try:
        return strategies.find(name, plan.content.strategies).retrain is not None
    except UnknownName:
        return False

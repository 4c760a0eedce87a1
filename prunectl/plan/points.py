"""Points of the grid, resolved: everything that a stage's key is made of but the seed, once for all seeds."""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from prunectl.ml.criteria import registry as criteria
from prunectl.ml.datasets import registry as datasets
from prunectl.ml.datasets.files import Progress
from prunectl.plan import strategies
from prunectl.plan.grid import Combination, combinations, schedules
from prunectl.plan.load import LoadedPlan
from prunectl.plan.pruning import Pruning, PruningSchedule
from prunectl.plan.retraining import Retraining, resolve_retraining
from prunectl.plan.training import Training, describe_dataset, resolve_training
from prunectl.spec.lr_schedule import length


@dataclass(frozen=True)
class GridPoint:
    """A grid point without its seed."""

    training: Training
    pruning: Pruning | None
    """None for the dense network alone."""
    strategy: str
    """As the plan names it."""
    label: str
    """Of the strategy."""
    schedule: str
    """Label of the pruning schedule."""
    retraining: Retraining | None

    @property
    def longest(self) -> int:
        """Steps of its longest stage."""
        return max(length(self.training.lr), self.retraining.steps if self.retraining else 0)


def grid_points(plan: LoadedPlan, progress: Progress | None = None) -> Iterator[GridPoint]:
    """Resolve every combination of the grid, in the order of the file.

    `progress` hears of data that is read. Raises PlanError with the plan's file and line for the first one that is
    not possible.
    """
    _check_names(plan)
    trainings: dict[tuple[str, str, str], Training] = {}
    prunings: dict[str, Pruning] = {}
    schedule_label = _schedule_labels(plan)
    describe = functools.cache(functools.partial(describe_dataset, plan, progress))
    for combination in combinations(plan):
        # Combinations of the same network, data set and recipe share their training, those of the same pruning table
        # their pruning: the 200 points of plans/renda-structured.toml resolve 2 recipes.
        training_key = (combination.network, combination.dataset, combination.values_in("recipe"))
        if training_key not in trainings:
            trainings[training_key] = resolve_training(plan, combination, describe)
        training = trainings[training_key]
        if combination.strategy == strategies.DENSE:
            yield GridPoint(training, None, *(strategies.DENSE,) * 3, None)
            continue
        pruning_key = combination.values_in("pruning")
        if pruning_key not in prunings:
            prunings[pruning_key] = _pruning(plan, combination)
        retraining = resolve_retraining(plan, training, combination.strategy, combination.retrain)
        pruning = prunings[pruning_key]
        yield GridPoint(
            training=training,
            pruning=pruning,
            strategy=combination.strategy,
            label=strategies.label(combination.strategy, plan.content.strategies),
            schedule=schedule_label(pruning.schedule),
            retraining=retraining,
        )


def _pruning(plan: LoadedPlan, combination: Combination) -> Pruning:
    table = combination.changed(plan.content.pruning, "pruning")
    pruning = plan.validated(Pruning, table, "pruning")
    with plan.naming("pruning.criterion"):
        criteria.find(pruning.criterion)
    return pruning


def _schedule_labels(plan: LoadedPlan) -> Callable[[PruningSchedule], str]:
    """Return what gives a schedule of the grid its label: with its end where ladders of one rate have several."""
    ends: dict[str, set[str]] = defaultdict(set)
    for table in schedules(plan):
        # What is not valid is found, with its place, when the grid is resolved.
        with contextlib.suppress(ValidationError):
            found = PruningSchedule.model_validate(table)
            ends[found.label].add(found.end)

    def label(schedule: PruningSchedule) -> str:
        several = len(ends[schedule.label]) > 1
        return f"{schedule.label} {schedule.end}" if several else schedule.label

    return label


def _check_names(plan: LoadedPlan) -> None:
    """Raise PlanError where a name of the plan hides a built-in one, or `recipe.retrain` names no strategy."""
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
        with plan.naming(f"recipe.retrain.{name}"):
            strategies.find(name, own)
        if strategies.fixes_length(name, own):
            raise plan.fail("this strategy fixes its length itself", f"recipe.retrain.{name}")
    if plan.content.grid.retrain and all(
        name == strategies.DENSE or strategies.fixes_length(name, own)
        for name in plan.content.grid.strategy
    ):
        raise plan.fail("every strategy of the grid fixes its length itself", "grid.retrain")

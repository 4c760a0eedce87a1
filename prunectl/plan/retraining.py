"""Retraining by a strategy under one recipe: where weights come from, which learning rates follow, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from prunectl.plan import strategies
from prunectl.plan.load import LoadedPlan
from prunectl.plan.schema import ConstantRate, Strategy, WindowFrom
from prunectl.plan.training import Training, check_evaluations, in_steps
from prunectl.spec.length import Length
from prunectl.spec.lr_schedule import Schedule, constant, last_value, length, window


@dataclass(frozen=True)
class Retraining:
    """A strategy under one recipe, all lengths in steps."""

    steps: int
    source: str
    """``parent``, ``dense`` or ``init``."""
    source_step: int | None
    """Step of the dense run the weights come from; None for its end and for the other sources."""
    lr: Schedule
    optimizer_state: Literal["fresh", "carried"]
    batchnorm: Literal["source", "parent"]
    label: str
    """The length as it stands in the plan or the recipe."""


def resolve_retraining(plan: LoadedPlan, training: Training, name: str, axis: Any) -> Retraining:
    """Resolve the strategy `name` under a recipe; `axis` is the grid's length of retraining, if it has one.

    Raises PlanError with file and line for what is impossible.
    """
    with plan.naming("grid.strategy"):
        strategy = strategies.find(name, plan.content.strategies)
    key = f"strategies.{name}" if name in plan.content.strategies else "grid.strategy"
    total = length(training.lr)
    wanted, wanted_key = _retrain_length(plan, training, strategy, name, axis, key)
    steps = total if wanted == "full" else in_steps(plan, wanted, training.layout, wanted_key)
    if steps < 1:
        raise plan.fail("retraining needs at least one step", wanted_key, found=str(wanted))
    if "rewound" in (strategy.weights_from, strategy.lr_window) and steps > total:
        raise plan.fail(
            f"{name} rewinds by the length of retraining, which cannot exceed the {total} steps "
            "of training",
            wanted_key,
            found=f"{wanted} = {steps} steps",
        )
    check_evaluations(plan, steps, training.settings)
    source, source_step = _source(plan, training, strategy, steps, key)
    state = strategy.optimizer_state or training.recipe.optimizer_state
    return Retraining(
        steps=steps,
        source=source,
        source_step=source_step,
        lr=_window(plan, training, strategy, steps, key),
        # Fresh weights have no momenta to carry.
        optimizer_state="fresh" if source == "init" else state,
        batchnorm=strategy.batchnorm,
        label=str(wanted),
    )


def _retrain_length(
    plan: LoadedPlan, training: Training, strategy: Strategy, name: str, axis: Any, key: str
) -> tuple[Any, str]:
    """Find the length and the key that gives it: the strategy's own, else the plan's axis, else the recipe's default.

    So an axis of lengths leaves alone what is a full training by definition, such as ``reinit``.
    """
    if strategy.retrain is not None:
        return strategy.retrain, f"{key}.retrain" if key.startswith("strategies") else key
    if axis is not None:
        return axis, "grid.retrain"
    recipe = training.recipe
    if name in recipe.retrain:
        return recipe.retrain[name], f"recipe.retrain.{name}"
    raise plan.fail(
        f"the recipe has no length of retraining for {name}: set recipe.retrain.{name}, "
        "grid.retrain or the strategy's own `retrain`",
        key,
        found=name,
        allowed=sorted(recipe.retrain),
        suggestion="",
    )


def _source(
    plan: LoadedPlan, training: Training, strategy: Strategy, steps: int, key: str
) -> tuple[str, int | None]:
    """Find where the weights come from, as `Retraining.source` and `source_step`."""
    wanted = strategy.weights_from
    if wanted == "parent" or wanted == "init":
        return wanted, None
    total = length(training.lr)
    if wanted == "rewound":
        step = total - steps
    elif isinstance(wanted.dense, Length):
        step = wanted.dense.to_steps(training.layout)
    else:
        step = round(wanted.dense * total)
    if step > total:
        raise plan.fail(
            f"the rewind point lies past the {total} steps of training",
            f"{key}.weights_from",
            found=f"step {step}",
        )
    return "dense", None if step == total else step


def _window(
    plan: LoadedPlan, training: Training, strategy: Strategy, steps: int, key: str
) -> Schedule:
    """Make the learning rates of the retraining: a window of the dense schedule, or one rate."""
    wanted = strategy.lr_window
    dense = training.lr
    if isinstance(wanted, ConstantRate):
        return constant(wanted.constant, steps)
    if wanted == "last-value":
        last = last_value(dense)
        if last == 0:
            raise plan.fail(
                "the schedule ends at a learning rate of 0, with which nothing is learned: use a "
                "strategy with lr_window = { constant = … }",
                key,
                found="lr_window = last-value",
            )
        return constant(last, steps)
    total = length(dense)
    first = total - steps if wanted == "rewound" else 0
    if isinstance(wanted, WindowFrom):
        first = wanted.start.to_steps(training.layout)
    if first + steps > total:
        raise plan.fail(
            f"the window of the schedule ends at step {first + steps}, but training has {total}",
            key,
            found=f"{steps} steps from step {first}",
        )
    return window(dense, first, steps)

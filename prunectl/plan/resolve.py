"""One point of the grid, resolved: names looked up, lengths in steps, schedules as segments.

Everything a stage's identity needs but the seed is fixed here once, and shared by the point's seeds.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from prunectl.core.criteria import registry as criteria
from prunectl.core.datasets import registry as datasets
from prunectl.core.layout import Layout
from prunectl.core.networks import registry as networks
from prunectl.core.schedule import (
    Schedule,
    constant,
    decaying,
    last_value,
    length,
    stepwise,
    warmed_up,
    window,
)
from prunectl.core.settings import (
    AugmentSettings,
    DataSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from prunectl.errors import DataError, PlanError, UnknownName
from prunectl.plan import strategies
from prunectl.plan.load import LoadedPlan, check, merged, recipe_data
from prunectl.plan.schema import (
    ConstantRate,
    DenseWeights,
    LearningRates,
    Pruning,
    Recipe,
    Strategy,
    WindowFrom,
)
from prunectl.plan.units import Length

_Options = dict[str, datasets.OptionValue]


@dataclass(frozen=True)
class Retraining:
    """What a strategy comes to under one recipe: all lengths in steps."""

    steps: int
    source: str
    """``parent``, ``dense`` or ``init``."""
    source_step: int | None
    """Step of the dense run the weights come from; None for its end and for the other sources."""
    lr: Schedule
    optimizer_state: str
    batchnorm: str
    label: str
    """The length as the plan or the recipe says it."""


@dataclass(frozen=True)
class Point:
    """A grid point without its seed."""

    network: NetworkSettings
    dataset: str
    """As the plan names it; a variant of its own has a name of its own."""
    data: DataSettings
    place: dict[str, datasets.OptionValue]
    """Where the data lies on this machine, as far as the plan says; part of no stage."""
    train: TrainSettings
    dense_lr: Schedule
    layout: Layout
    pruning: Pruning
    strategy: str
    retraining: Retraining
    recipe: str
    """Its label: the base's name, and what the plan changes of it."""


def points(plan: LoadedPlan) -> Iterator[Point]:
    """Every combination of the grid, in the order of the file.

    Raises PlanError with the plan's file and line for the first one that is not possible.
    """
    grid = plan.content.grid
    axes = [*_axes(plan, grid.recipe, "recipe"), *_axes(plan, grid.pruning, "pruning")]
    # A folder of one's own is listed and hashed, so once.
    describe = functools.cache(functools.partial(_dataset, plan))
    for network, dataset, strategy, retrain, *values in itertools.product(
        grid.network, grid.dataset, grid.strategy, grid.retrain or (None,), *(a[1] for a in axes)
    ):
        changes = [(path, value) for (path, _), value in zip(axes, values, strict=True)]
        yield _point(plan, network, dataset, strategy, retrain, changes, describe)


def axes(plan: LoadedPlan) -> list[str]:
    """Keys the grid gives more than one value, as the tables name them."""
    grid = plan.content.grid
    found = [
        name
        for name in ("network", "dataset", "strategy", "retrain")
        if len(getattr(grid, name) or ()) > 1
    ]
    inner = [*_axes(plan, grid.recipe, "recipe"), *_axes(plan, grid.pruning, "pruning")]
    return found + [".".join(path) for path, values in inner if len(values) > 1]


def _axes(plan: LoadedPlan, table: dict[str, Any], *path: str) -> list[tuple[tuple[str, ...], Any]]:
    """The lists in a table of the grid, each with its dotted key."""
    out: list[tuple[tuple[str, ...], Any]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            out += _axes(plan, value, *path, name)
        elif isinstance(value, list) and value:
            out.append(((*path, name), value))
        else:
            key = ".".join(("grid", *path, name))
            raise plan.fail("an axis is a list of at least one value", key, found=str(value))
    return out


def _point(
    plan: LoadedPlan,
    network: str,
    dataset: str,
    strategy: str,
    retrain: Any,
    changes: list[tuple[tuple[str, ...], Any]],
    describe: Callable[[str], tuple[str, _Options, datasets.Description]],
) -> Point:
    name, own = _recipe_table(plan, network, changes)
    checked = check(Recipe, own, ("recipe",))
    if isinstance(checked, PlanError):
        raise checked.at(plan.file, plan.line(checked.key or "recipe"))
    pruning = check(Pruning, _changed(plan.content.pruning, changes, "pruning"), ("pruning",))
    if isinstance(pruning, PlanError):
        raise pruning.at(plan.file, plan.line(pruning.key or "pruning"))
    try:
        networks.find(network)
    except UnknownName as error:
        raise _unknown(plan, error, "grid.network") from None
    try:
        criteria.find(pruning.criterion)
    except UnknownName as error:
        raise _unknown(plan, error, "pruning.criterion") from None
    kind, said, info = describe(dataset)
    options, place = datasets.divide(kind, said)
    constants = checked.network
    settings = NetworkSettings(
        name=network,
        shape=info.shape,
        classes=info.classes,
        shortcut=constants.shortcut,
        bn_momentum=constants.bn_momentum,
        bn_eps=constants.bn_eps,
        initializer=constants.initializer,
    )
    held_out = checked.validation.count if checked.validation.taken_from == "train" else 0
    available = info.test if checked.validation.taken_from == "test" else info.train
    if checked.validation.count >= available:
        raise plan.fail(
            f"{dataset} has {available} images to take it from",
            "recipe.validation.count",
            found=str(checked.validation.count),
        )
    train = _train(plan, checked, info)
    try:
        layout = Layout(train, info.train - held_out)
    except ValueError as error:
        raise plan.fail(str(error), "recipe.batch", found=str(checked.batch)) from None
    if checked.evaluate != "end":
        train = replace(train, evaluate_every=checked.evaluate.to_steps(layout))
    dense_lr = _schedule(plan, checked, layout)
    return Point(
        network=settings,
        dataset=dataset,
        data=DataSettings(
            name=kind,
            fingerprint=info.fingerprint,
            options=tuple(sorted(options.items())),
            validation_from=checked.validation.taken_from,
            validation_count=checked.validation.count,
        ),
        place=place,
        train=train,
        dense_lr=dense_lr,
        layout=layout,
        pruning=pruning,
        strategy=strategy,
        retraining=_retraining(plan, checked, strategy, retrain, dense_lr, layout),
        recipe=name,
    )


def _recipe_table(
    plan: LoadedPlan, network: str, changes: list[tuple[tuple[str, ...], Any]]
) -> tuple[str, dict[str, Any]]:
    """The base recipe under the plan's own keys and the grid's values, and the label of the result."""
    own = _changed(plan.content.recipe, changes, "recipe")
    base = own.pop("base", None)
    if isinstance(base, dict):
        if network not in base:
            allowed = sorted(base)
            raise plan.fail("no recipe for it", "recipe.base", found=network, allowed=allowed)
        base = base[network]
    if base is None:
        changed = _changed({}, changes, "recipe")
        return " ".join(["own", *_said(changed)]), own
    if not isinstance(base, str):
        raise plan.fail("a recipe's name, or a table of them by network", "recipe.base", found=base)
    try:
        shipped = recipe_data(base)
    except UnknownName as error:
        raise _unknown(plan, error, "recipe.base") from None
    return " ".join([base, *_said(own)]), merged(shipped, own)


def _said(table: dict[str, Any], *path: str) -> list[str]:
    """A plan's changes of a recipe as ``key=value`` words."""
    out: list[str] = []
    for name, value in table.items():
        if isinstance(value, dict):
            out += _said(value, *path, name)
        else:
            out.append(f"{'.'.join((*path, name))}={value}".replace(" ", ""))
    return out


def _changed(
    table: dict[str, Any], changes: list[tuple[tuple[str, ...], Any]], first: str
) -> dict[str, Any]:
    out = copy.deepcopy(table)
    for path, value in changes:
        if path[0] == first:
            inside = out
            for part in path[1:-1]:
                inside = inside.setdefault(part, {})
            inside[path[-1]] = value
    return out


def _unknown(plan: LoadedPlan, error: UnknownName, key: str) -> PlanError:
    return plan.fail(f"unknown {error.kind}", key, found=error.found, allowed=error.allowed)


def _dataset(plan: LoadedPlan, name: str) -> tuple[str, _Options, datasets.Description]:
    """Registry name, complete options and description of a data set the plan names."""
    own = plan.content.datasets
    options = dict(own.get(name, {}))
    kind = options.pop("kind", None) if name in own else name
    if not isinstance(kind, str):
        raise plan.fail("needs `kind`, the data set it is a variant of", f"datasets.{name}")
    key = f"datasets.{name}" if name in own else "grid.dataset"
    try:
        return kind, datasets.complete(kind, options), datasets.describe(kind, options)
    except UnknownName as error:
        allowed = [*own, *error.allowed] if key == "grid.dataset" else error.allowed
        raise plan.fail(f"unknown {error.kind}", key, found=error.found, allowed=allowed) from None
    except DataError as error:
        raise plan.fail(str(error), key) from None


def _schedule(plan: LoadedPlan, recipe: Recipe, layout: Layout) -> Schedule:
    """The learning rates of the whole dense training."""
    rates: LearningRates = recipe.schedule
    total = recipe.length.to_steps(layout)
    if total < 1:
        raise plan.fail("training needs at least one step", "recipe.length", found=recipe.length)
    if rates.kind == "step":
        milestones = [milestone.to_steps(layout) for milestone in rates.milestones]
        if any(b <= a for a, b in itertools.pairwise([0, *milestones, total])):
            raise plan.fail(
                f"milestones must increase and lie inside the {total} steps of training",
                "recipe.schedule.milestones",
                found=", ".join(str(milestone) for milestone in rates.milestones),
            )
        schedule = stepwise(rates.lr, total, milestones, rates.gamma)
    elif rates.kind == "constant":
        schedule = constant(rates.lr, total)
    else:
        schedule = decaying(rates.kind, rates.lr, rates.end, total)
    warmup = rates.warmup.to_steps(layout)
    if warmup > total:
        raise plan.fail(
            f"longer than training ({total} steps)",
            "recipe.schedule.warmup",
            found=str(rates.warmup),
        )
    return warmed_up(schedule, warmup)


def _train(plan: LoadedPlan, recipe: Recipe, info: datasets.Description) -> TrainSettings:
    normalize = NormalizeSettings(kind=recipe.normalize.kind)
    if recipe.normalize.kind == "channel":
        mean = info.mean if recipe.normalize.mean == "dataset" else recipe.normalize.mean
        std = info.std if recipe.normalize.std == "dataset" else recipe.normalize.std
        if len(mean) != info.shape[0] or len(std) != info.shape[0] or min(std, default=0) <= 0:
            raise plan.fail(
                f"needs a mean and a positive std for each of the {info.shape[0]} channels",
                "recipe.normalize",
                found=f"mean {list(mean)}, std {list(std)}",
            )
        normalize = NormalizeSettings("channel", tuple(mean), tuple(std))
    micro = recipe.micro_batch or 0
    return TrainSettings(
        batch=recipe.batch,
        straddle=recipe.batches == "straddle",
        drop_last=recipe.last_batch == "drop",
        # No less than the batch is the whole batch: one stage, not two.
        micro_batch=0 if micro >= recipe.batch else micro,
        optimizer=OptimizerSettings(**recipe.optimizer.model_dump()),  # type: ignore[attr-defined]
        label_smoothing=recipe.label_smoothing,
        augment=AugmentSettings(**recipe.augment.model_dump()),  # type: ignore[attr-defined]
        normalize=normalize,
        precision=recipe.precision,
        deterministic=recipe.deterministic,
    )


def _retraining(
    plan: LoadedPlan,
    recipe: Recipe,
    name: str,
    axis: Any,
    dense: Schedule,
    layout: Layout,
) -> Retraining:
    try:
        strategy = strategies.find(name, plan.content.strategies)
    except UnknownName as error:
        raise _unknown(plan, error, "grid.strategy") from None
    key = f"strategies.{name}" if name in plan.content.strategies else "grid.strategy"
    total = length(dense)
    said, said_at = _length_of_retraining(plan, recipe, strategy, name, axis, key)
    steps = total if said == "full" else said.to_steps(layout)
    if steps < 1:
        raise plan.fail("retraining needs at least one step", said_at, found=str(said))
    if "rewound" in (strategy.weights_from, strategy.lr_window) and steps > total:
        raise plan.fail(
            f"{name} rewinds by the length of retraining, which cannot exceed the {total} steps "
            "of training",
            said_at,
            found=f"{said} = {steps} steps",
        )
    source, source_step = _source(plan, strategy, steps, total, layout, key)
    state = strategy.optimizer_state or recipe.optimizer_state
    return Retraining(
        steps=steps,
        source=source,
        source_step=source_step,
        lr=_window(plan, strategy, steps, dense, layout, key),
        optimizer_state="fresh" if source == "init" else state,
        batchnorm=strategy.batchnorm,
        label=str(said),
    )


def _length_of_retraining(
    plan: LoadedPlan, recipe: Recipe, strategy: Strategy, name: str, axis: Any, key: str
) -> tuple[Any, str]:
    """The plan's axis, the strategy's own, the recipe's default: the first of them that is there."""
    if axis is not None:
        return axis, "grid.retrain"
    if strategy.retrain is not None:
        return strategy.retrain, f"{key}.retrain" if key.startswith("strategies") else key
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
    plan: LoadedPlan, strategy: Strategy, steps: int, total: int, layout: Layout, key: str
) -> tuple[str, int | None]:
    wanted = strategy.weights_from
    if wanted == "parent" or wanted == "init":
        return wanted, None
    if isinstance(wanted, DenseWeights):
        point = wanted.dense
        step = point.to_steps(layout) if isinstance(point, Length) else round(point * total)
    else:
        step = total - steps
    if step > total:
        raise plan.fail(
            f"the rewind point lies past the {total} steps of training",
            f"{key}.weights_from",
            found=f"step {step}",
        )
    return "dense", None if step == total else step


def _window(
    plan: LoadedPlan,
    strategy: Strategy,
    steps: int,
    dense: Schedule,
    layout: Layout,
    key: str,
) -> Schedule:
    wanted = strategy.lr_window
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
    if isinstance(wanted, WindowFrom):
        first = wanted.start.to_steps(layout)
    else:
        first = total - steps if wanted == "rewound" else 0
    if first + steps > total:
        raise plan.fail(
            f"the window of the schedule ends at step {first + steps}, but training has {total}",
            key,
            found=f"{steps} steps from step {first}",
        )
    return window(dense, first, steps)

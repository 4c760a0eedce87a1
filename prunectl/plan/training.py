"""Training of a grid point: its recipe looked up and resolved, lengths in steps, learning rates as segments."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from prunectl.errors import DataError, UnknownName
from prunectl.ml.datasets import registry as datasets
from prunectl.ml.datasets.files import Progress
from prunectl.ml.networks import registry as networks
from prunectl.plan import labels
from prunectl.plan.grid import Combination
from prunectl.plan.load import LoadedPlan, merged, recipe_data
from prunectl.plan.schema import Recipe
from prunectl.plan.tasks import check_task
from prunectl.spec import lr_schedule
from prunectl.spec.batch_layout import Layout
from prunectl.spec.length import Length
from prunectl.spec.lr_schedule import Schedule, constant, decaying, stepwise, warmed_up
from prunectl.spec.ranges import MOST_STEPS, SMALL
from prunectl.spec.settings import (
    AugmentSettings,
    DataSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)


@dataclass(frozen=True)
class Training:
    """A network, its data and its dense training."""

    network: NetworkSettings
    dataset: str
    """As the plan names it; a variant of its own has a name of its own."""
    data: DataSettings
    description: datasets.Description
    place: dict[str, datasets.OptionValue]
    """Where the data lies on this machine, as far as the plan gives it; part of no stage."""
    settings: TrainSettings
    lr: Schedule
    layout: Layout
    recipe: Recipe
    label: str
    """The recipe's name, and what the plan changes of it."""
    name: str
    """The same without digits of the content of a recipe of the plan's own: what ids of trials are made of."""


@dataclass(frozen=True)
class Dataset:
    """A data set that the plan names, looked up."""

    kind: str
    """Its name in the registry."""
    options: dict[str, datasets.OptionValue]
    """All of them, defaults included."""
    description: datasets.Description


def resolve_training(
    plan: LoadedPlan, combination: Combination, describe: Callable[[str], Dataset]
) -> Training:
    """Resolve the recipe for one network and data set.

    `describe` is `describe_dataset` of this plan, which a caller may cache. Raises PlanError with file and line.
    """
    label, name, table = _recipe_table(plan, combination)
    recipe = plan.validated(Recipe, table, "recipe")
    with plan.naming("grid.network"):
        networks.find(combination.network)
    dataset = describe(combination.dataset)
    info = dataset.description
    check_task(plan, recipe, combination.dataset, info)
    options, place = datasets.split_options(dataset.kind, dataset.options)
    settings = _settings(plan, recipe, info)
    layout = _layout(plan, recipe, settings, combination.dataset, info)
    if recipe.evaluate != "end":
        every = in_steps(plan, recipe.evaluate, layout, "recipe.evaluate")
        settings = replace(settings, evaluate_every=every)
    lr = _schedule(plan, recipe, layout)
    check_evaluations(plan, lr_schedule.length(lr), settings)
    return Training(
        network=NetworkSettings(
            name=combination.network,
            shape=info.shape,
            classes=info.classes,
            **recipe.network.model_dump(),
        ),
        dataset=combination.dataset,
        data=DataSettings(
            name=dataset.kind,
            fingerprint=info.fingerprint,
            options=tuple(sorted(options.items())),
            validation_from=recipe.validation.taken_from,
            validation_count=recipe.validation.count,
        ),
        description=info,
        place=place,
        settings=settings,
        lr=lr,
        layout=layout,
        recipe=recipe,
        label=label,
        name=name,
    )


def _recipe_table(plan: LoadedPlan, combination: Combination) -> tuple[str, str, dict[str, Any]]:
    """Merge the base recipe, the plan's own keys and the grid's values; with the label and name for `Training`."""
    own = combination.changed(plan.content.recipe, "recipe")
    base = own.pop("base", None)
    if base is None:
        words = _words(combination.changed({}, "recipe"))
        label = labels.own_recipe(plan.content.recipe)
        return " ".join([label, *words]), " ".join([labels.OWN_RECIPE, *words]), own
    key = "recipe.base"
    if isinstance(base, dict):
        network = combination.network
        if network not in base:
            raise plan.fail("no recipe for it", key, found=network, allowed=sorted(base))
        base = base[network]
    if not isinstance(base, str):
        raise plan.fail("a recipe's name, or a table of them by network", key, found=base)
    with plan.naming(key):
        shipped = recipe_data(base)
    name = " ".join([base, *_words(own)])
    return name, name, merged(shipped, own)


def _words(table: dict[str, Any], *path: str) -> list[str]:
    """Write a plan's changes of a recipe as ``key=value`` words."""
    out: list[str] = []
    for name, value in table.items():
        if isinstance(value, dict):
            out += _words(value, *path, name)
        else:
            # Without spaces, which separate the words of a label.
            out.append(f"{'.'.join((*path, name))}={value}".replace(" ", ""))
    return out


def describe_dataset(plan: LoadedPlan, progress: Progress | None, name: str) -> Dataset:
    """Look a data set up. A folder of the user's own is read, of which `progress` hears. Raises PlanError."""
    own = plan.content.datasets
    options = dict(own.get(name, {}))
    kind = options.pop("kind", None) if name in own else name
    key = f"datasets.{name}" if name in own else "grid.dataset"
    if not isinstance(kind, str):
        raise plan.fail("needs `kind`, the data set it is a variant of", key)
    try:
        datasets.find(kind)
    except UnknownName as error:
        allowed = error.allowed if name in own else (*own, *error.allowed)
        at = f"{key}.kind" if name in own else key
        raise plan.fail(f"unknown {error.kind}", at, found=kind, allowed=allowed) from None
    try:
        complete = datasets.complete(kind, options)
        return Dataset(kind, complete, datasets.describe(kind, options, progress))
    except UnknownName as error:
        allowed = ("kind", *error.allowed)
        key = f"{key}.{error.found}"
        raise plan.fail(f"unknown {error.kind}", key, found=error.found, allowed=allowed) from None
    except DataError as error:
        raise plan.fail(str(error), key) from None


def _layout(
    plan: LoadedPlan,
    recipe: Recipe,
    settings: TrainSettings,
    dataset: str,
    info: datasets.Description,
) -> Layout:
    """Lay out the images that are not held out into batches and epochs."""
    split = recipe.validation
    available = info.test if split.taken_from == "test" else info.train
    if split.count >= available:
        raise plan.fail(
            f"{dataset} has {available} images to take it from",
            "recipe.validation.count",
            found=str(split.count),
        )
    held_out = split.count if split.taken_from == "train" else 0
    try:
        return Layout(settings, info.train - held_out)
    except ValueError as error:
        raise plan.fail(str(error), "recipe.batch", found=str(recipe.batch)) from None


def in_steps(plan: LoadedPlan, length: Length, layout: Layout, key: str) -> int:
    """Convert a length, which is the plan's `key`, to steps. Raises PlanError for more than `MOST_STEPS`."""
    steps = length.to_steps(layout)
    if steps > MOST_STEPS:
        raise plan.fail(f"at most {MOST_STEPS:,} steps", key, found=f"{length} = {steps:,} steps")
    return steps


def check_evaluations(plan: LoadedPlan, steps: int, settings: TrainSettings) -> None:
    """Check how often a training of so many steps is evaluated. Raises PlanError."""
    count = steps // (settings.evaluate_every or steps)
    if count > SMALL:
        raise plan.fail(
            f"at most {SMALL:,} evaluations", "recipe.evaluate", found=f"{count:,} evaluations"
        )


def _schedule(plan: LoadedPlan, recipe: Recipe, layout: Layout) -> Schedule:
    """Make the learning rates of the whole dense training."""
    rates = recipe.schedule
    total = in_steps(plan, recipe.length, layout, "recipe.length")
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


def _settings(plan: LoadedPlan, recipe: Recipe, info: datasets.Description) -> TrainSettings:
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
    pad, side = recipe.augment.pad, min(info.shape[1:])  # type: ignore[attr-defined]
    if pad >= side:
        raise plan.fail(
            f"less than the image's {side} pixels",
            "recipe.augment.pad",
            found=str(pad),
            allowed=[f"0 to {side - 1}"],
            suggestion="",
        )
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

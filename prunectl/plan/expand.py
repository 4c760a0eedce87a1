"""From a plan to its trials, and to the stages that they share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal, localcontext
from typing import Any, Protocol

from prunectl.core.density import competitions, kept
from prunectl.core.settings import NetworkSettings, PruneSettings
from prunectl.errors import PrunectlError, UnknownName
from prunectl.plan import resolve
from prunectl.plan.identity import spec_to_dict, stage_key
from prunectl.plan.load import LoadedPlan
from prunectl.plan.resolve import Point
from prunectl.plan.spec import Mask, StageSpec, Weights


class LayerLike(Protocol):
    """A layer with a kernel; `core.inspect.LayerInfo` is one."""

    @property
    def parameter(self) -> str: ...
    @property
    def weights(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def prunable(self) -> bool: ...


class Anatomy(Protocol):
    """What a plan asks about a network; `core.inspect.Anatomy` is one."""

    @property
    def layers(self) -> tuple[LayerLike, ...]: ...


Inspect = Callable[[NetworkSettings, tuple[str, ...]], Anatomy]
"""Network and exclusions to anatomy; `core.inspect.inspect` is one."""


@dataclass(frozen=True)
class Trial:
    """One point of the grid with a seed: a path of stages, and the names its tables call it by."""

    trial: str
    cell: str
    plan: str
    network: str
    dataset: str
    recipe: str
    strategy: str
    schedule: str
    criterion: str
    scope: str
    granularity: str
    retrain: str
    seed: int
    path: tuple[str, ...]
    """Keys of its stages: iteration 0, 1 …"""
    sparsities: tuple[str, ...]
    """What each iteration aims at, as exact decimals; "0" first."""


@dataclass(frozen=True)
class Expansion:
    """All trials of a plan and their stages, each once."""

    plan: LoadedPlan
    trials: tuple[Trial, ...]
    stages: dict[str, StageSpec]
    epoch_steps: dict[str, float]
    """Steps per epoch, by stage."""

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(spec.steps for spec in self.stages.values())

    @property
    def stages_without_sharing(self) -> int:
        return sum(len(trial.path) for trial in self.trials)

    @property
    def steps_without_sharing(self) -> int:
        return sum(self.stages[key].steps for trial in self.trials for key in trial.path)

    @property
    def digest(self) -> str:
        """Identifies this version of the plan: its text, overrides, trials and stages."""
        content = [
            self.plan.content.name,
            self.plan.text,
            list(self.plan.overrides),
            [[trial.trial, *trial.path] for trial in self.trials],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """What the store keeps of the plan, JSON-able."""
        return {
            "digest": self.digest,
            "name": self.plan.content.name,
            "file": self.plan.file,
            "text": self.plan.text,
            "overrides": list(self.plan.overrides),
            "question": self.plan.question,
            "axes": resolve.axes(self.plan),
            "trials": [asdict(trial) for trial in self.trials],
            "stages": {
                key: {
                    "spec": spec_to_dict(spec),
                    "steps": spec.steps,
                    "epoch_steps": self.epoch_steps[key],
                }
                for key, spec in self.stages.items()
            },
        }


def expand(plan: LoadedPlan, inspect: Inspect | None) -> Expansion:
    """All trials and stages of a plan.

    `inspect` counts a network's weights, to reject what cannot be pruned so before anything runs; None where the
    plan has been through it before.

    Raises PlanError with file and line.
    """
    trials: list[Trial] = []
    stages: dict[str, StageSpec] = {}
    epoch_steps: dict[str, float] = {}
    cells: set[str] = set()
    for point in resolve.points(plan):
        anatomy = _inspect(plan, point, inspect) if inspect is not None else None
        for densities in _ladders(point):
            if anatomy is not None:
                _check_ladder(plan, point, densities, anatomy)
            cell = _cell(plan, point, densities)
            if cell in cells:
                continue
            cells.add(cell)
            for seed in plan.content.seeds:
                path = []
                for key, spec in _stages(point, densities, seed):
                    stages.setdefault(key, spec)
                    epoch_steps.setdefault(key, float(point.layout.per_epoch))
                    path.append(key)
                trials.append(_trial(plan, point, densities, seed, cell, tuple(path)))
    return Expansion(plan, tuple(trials), stages, epoch_steps)


def _ladders(point: Point) -> Iterable[tuple[Decimal, ...]]:
    """The densities of each trial: one ladder, or a trial per density where pruning is one-shot."""
    densities = point.pruning.schedule.densities()
    if point.pruning.schedule.kind == "one-shot":
        return [(density,) for density in densities]
    return [densities]


def _stages(
    point: Point, densities: tuple[Decimal, ...], seed: int
) -> Iterator[tuple[str, StageSpec]]:
    """The path of one trial: dense, then one stage per density."""
    dense = StageSpec(
        network=point.network,
        data=point.data,
        train=point.train,
        lr=point.dense_lr,
        seed=seed,
    )
    dense_key = stage_key(dense)
    yield dense_key, dense
    parent = dense_key
    how = point.retraining
    for iteration, density in enumerate(densities, start=1):
        source = {"parent": parent, "dense": dense_key, "init": None}[how.source]
        spec = StageSpec(
            network=point.network,
            data=point.data,
            train=point.train,
            lr=how.lr,
            seed=seed,
            iteration=iteration,
            weights=Weights(source, how.source_step),
            mask=Mask(parent, _prune(point, density)),
            optimizer_state=how.optimizer_state,  # type: ignore[arg-type]
            batchnorm=how.batchnorm,  # type: ignore[arg-type]
        )
        parent = stage_key(spec)
        yield parent, spec


def _prune(point: Point, density: Decimal) -> PruneSettings:
    pruning = point.pruning
    return PruneSettings(
        criterion=pruning.criterion,
        scope=pruning.scope,
        granularity=pruning.granularity,
        density=_plain(density),
        exclude=tuple(sorted(pruning.exclude)),
    )


def _plain(value: Decimal) -> str:
    """A decimal without exponent or trailing zeros: one way to write each number."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _sparsity(density: Decimal) -> str:
    with localcontext(prec=200):
        return _plain(1 - density)


def _cell(plan: LoadedPlan, point: Point, densities: tuple[Decimal, ...]) -> str:
    """Identifies a trial without its seed: by the stages that seed 0 would have."""
    keys = [key for key, _ in _stages(point, densities, 0)]
    return _short(plan.content.name, point.strategy, point.recipe, point.dataset, *keys)


def _trial(
    plan: LoadedPlan,
    point: Point,
    densities: tuple[Decimal, ...],
    seed: int,
    cell: str,
    path: tuple[str, ...],
) -> Trial:
    return Trial(
        trial=_short(cell, str(seed)),
        cell=cell,
        plan=plan.content.name,
        network=point.network.name,
        dataset=point.dataset,
        recipe=point.recipe,
        strategy=point.strategy,
        schedule=point.pruning.schedule.label,
        criterion=point.pruning.criterion,
        scope=point.pruning.scope,
        granularity=point.pruning.granularity,
        retrain=point.retraining.label,
        seed=seed,
        path=path,
        sparsities=("0", *(_sparsity(density) for density in densities)),
    )


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _inspect(plan: LoadedPlan, point: Point, inspect: Inspect) -> Anatomy:
    try:
        return inspect(point.network, point.pruning.exclude)
    except UnknownName as error:
        raise plan.fail(
            f"unknown {error.kind} of {point.network.name}",
            "pruning.exclude",
            found=error.found,
            allowed=error.allowed,
        ) from None
    except PrunectlError as error:
        raise plan.fail(str(error), "grid.network", found=point.network.name) from None


def _check_ladder(
    plan: LoadedPlan, point: Point, densities: tuple[Decimal, ...], anatomy: Anatomy
) -> None:
    """Every step of a ladder must remove something, leave something, and be possible under the scope."""
    sizes = {layer.parameter: layer.weights for layer in anatomy.layers if layer.prunable}
    ends = [
        layer.parameter
        for layer in anatomy.layers
        if layer.prunable and layer.role in ("first", "last")
    ]
    prunable = sum(sizes.values())
    before = prunable
    for density in densities:
        count = kept(prunable, _plain(density))
        said = f"sparsity {_sparsity(density)}: {count:,} of the {prunable:,} prunable weights of "
        said += f"{point.network.name} would be kept"
        if count < 1:
            raise plan.fail(said, "pruning.schedule")
        if count >= before:
            raise plan.fail(f"{said}, no fewer than the {before:,} before", "pruning.schedule")
        try:
            competitions(sizes, sizes, ends, point.pruning.scope, count)
        except PrunectlError as error:
            raise plan.fail(f"{said}: {error}", "pruning.scope") from None
        before = count

"""From a plan to its trials, and to the stages that they share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal, localcontext
from typing import Any

from prunectl.core.datasets.registry import OptionValue
from prunectl.core.density import ImpossibleDensity
from prunectl.core.settings import DataSettings, NetworkSettings, PruneSettings
from prunectl.errors import PrunectlError, UnknownName
from prunectl.plan import resolve
from prunectl.plan.identity import spec_to_dict, stage_key
from prunectl.plan.load import LoadedPlan
from prunectl.plan.resolve import Point
from prunectl.plan.spec import Mask, StageSpec, Weights

Check = Callable[[NetworkSettings, PruneSettings], int]
"""How many prunable weights a network keeps; `core.inspect.check` is one, and says what is impossible."""


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
    places: dict[DataSettings, dict[str, OptionValue]] = field(default_factory=dict)
    """Where each data set lies on this machine, as far as the plan says: no stage's business."""

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


def expand(plan: LoadedPlan, check: Check | None) -> Expansion:
    """All trials and stages of a plan.

    `check` counts what is kept, to reject what cannot be pruned so before anything runs; None where the plan has been
    through it before.

    Raises PlanError with file and line.
    """
    trials: list[Trial] = []
    stages: dict[str, StageSpec] = {}
    epoch_steps: dict[str, float] = {}
    places: dict[DataSettings, dict[str, OptionValue]] = {}
    cells: set[str] = set()
    for point in resolve.points(plan):
        places[point.data] = point.place
        for densities in _ladders(point):
            if check is not None:
                _check_ladder(plan, point, densities, check)
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
    return Expansion(plan, tuple(trials), stages, epoch_steps, places)


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


def _check_ladder(
    plan: LoadedPlan, point: Point, densities: tuple[Decimal, ...], check: Check
) -> None:
    """Every step of a ladder must remove something, leave something, and be possible."""
    network = point.network.name
    before = _kept(plan, point, Decimal(1), check)
    prunable = before
    for density in densities:
        kept = _kept(plan, point, density, check)
        said = f"sparsity {_sparsity(density)} keeps {kept:,} of the {prunable:,} prunable weights"
        if kept < 1:
            raise plan.fail(f"{said} of {network}", "pruning.schedule")
        if kept >= before:
            raise plan.fail(
                f"{said} of {network}, no fewer than the {before:,} before it", "pruning.schedule"
            )
        before = kept


def _kept(plan: LoadedPlan, point: Point, density: Decimal, check: Check) -> int:
    try:
        return check(point.network, _prune(point, density))
    except UnknownName as error:
        raise plan.fail(
            f"unknown {error.kind} of {point.network.name}",
            "pruning.exclude",
            found=error.found,
            allowed=error.allowed,
        ) from None
    except ImpossibleDensity as error:
        raise plan.fail(
            f"sparsity {_sparsity(density)}: {error}", "pruning.schedule", found=point.network.name
        ) from None
    except PrunectlError as error:
        raise plan.fail(str(error), "grid.network", found=point.network.name) from None

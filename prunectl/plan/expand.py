"""From a plan to its trials, and to the stages that they share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from prunectl.ml.datasets.registry import OptionValue
from prunectl.plan.grid import axes
from prunectl.plan.levels import UNKNOWN, Check, Ladder, ladders
from prunectl.plan.load import LoadedPlan
from prunectl.plan.points import Point, points
from prunectl.spec.key import spec_to_dict, stage_key
from prunectl.spec.settings import DataSettings, NetworkSettings
from prunectl.spec.stage import Mask, StageSpec, Weights
from prunectl.spec.trial import Trial


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
    def counted(self) -> bool:
        """Whether all sparsities are known: those of filter ratios need a check."""
        return not any(UNKNOWN in trial.sparsities for trial in self.trials)

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
            "axes": axes(self.plan),
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
    through it before and its sparsities do not depend on it (`Expansion.counted`).

    Raises PlanError with file and line.
    """
    trials: list[Trial] = []
    stages: dict[str, StageSpec] = {}
    epoch_steps: dict[str, float] = {}
    places: dict[DataSettings, dict[str, OptionValue]] = {}
    cells: set[str] = set()
    known: dict[tuple[NetworkSettings, int], list[Ladder]] = {}
    for point in points(plan):
        places[point.training.data] = point.training.place
        about = (point.training.network, id(point.pruning))  # points share their pruning
        if about not in known:
            known[about] = ladders(plan, point.training.network, point.pruning, check)
        for ladder in known[about]:
            first = dict(_stages(point, ladder, 0))
            cell = _cell(plan, point, first)
            if cell in cells:
                continue
            cells.add(cell)
            for seed in plan.content.seeds:
                path = dict(_stages(point, ladder, seed)) if seed else first
                for key, spec in path.items():
                    stages.setdefault(key, spec)
                    epoch_steps.setdefault(key, float(point.training.layout.per_epoch))
                trials.append(_trial(plan, point, ladder, seed, cell, tuple(path)))
    return Expansion(plan, tuple(trials), stages, epoch_steps, places)


def _stages(point: Point, ladder: Ladder, seed: int) -> Iterator[tuple[str, StageSpec]]:
    """The path of one trial: dense, then one stage per cut."""
    training = point.training
    dense = StageSpec(
        network=training.network,
        data=training.data,
        train=training.settings,
        lr=training.lr,
        seed=seed,
    )
    dense_key = stage_key(dense)
    yield dense_key, dense
    how = point.retraining
    if how is None:
        return
    parent = dense_key
    for iteration, cut in enumerate(ladder, start=1):
        source = {"parent": parent, "dense": dense_key, "init": None}[how.source]
        spec = StageSpec(
            network=training.network,
            data=training.data,
            train=training.settings,
            lr=how.lr,
            seed=seed,
            iteration=iteration,
            weights=Weights(source, how.source_step),
            mask=Mask(parent, cut.settings),
            optimizer_state=how.optimizer_state,
            batchnorm=how.batchnorm,
        )
        parent = stage_key(spec)
        yield parent, spec


def _cell(plan: LoadedPlan, point: Point, path: dict[str, StageSpec]) -> str:
    """Identifies a trial without its seed: by the stages that seed 0 would have."""
    training = point.training
    return _short(plan.content.name, point.strategy, training.label, training.dataset, *path)


def _trial(
    plan: LoadedPlan, point: Point, ladder: Ladder, seed: int, cell: str, path: tuple[str, ...]
) -> Trial:
    criterion, scope, granularity = point.pruning.labels if point.pruning else ("", "", "")
    return Trial(
        trial=_short(cell, str(seed)),
        cell=cell,
        plan=plan.content.name,
        network=point.training.network.name,
        dataset=point.training.dataset,
        recipe=point.training.label,
        strategy=point.strategy,
        schedule=point.pruning.schedule.label if point.pruning else "dense",
        criterion=criterion,
        scope=scope,
        granularity=granularity,
        retrain=point.retraining.label if point.retraining else "",
        seed=seed,
        path=path,
        sparsities=("0", *(cut.sparsity for cut in ladder)),
    )


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

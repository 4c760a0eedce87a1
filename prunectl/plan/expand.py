"""Expansion of a plan into its trials, and the stages that they share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from prunectl.ml.datasets.registry import OptionValue
from prunectl.ml.tasks import registry as tasks
from prunectl.plan.grid import axes
from prunectl.plan.levels import UNKNOWN, Check, Ladder, ladders
from prunectl.plan.load import LoadedPlan
from prunectl.plan.points import GridPoint, grid_points
from prunectl.spec.key import NUMERICS, Spec, stage_key
from prunectl.spec.settings import DataSettings, NetworkSettings
from prunectl.spec.stage import Mask, Stage, Weights
from prunectl.spec.study import PlannedStage, Study
from prunectl.spec.task import DEFAULT_TASK, TaskMetrics
from prunectl.spec.trial import Trial


@dataclass(frozen=True)
class Expansion:
    """All trials of a plan and their stages, each once."""

    plan: LoadedPlan
    trials: tuple[Trial, ...]
    stages: dict[str, Stage]
    epoch_steps: dict[str, float]
    """Steps per epoch, by stage."""
    places: dict[DataSettings, dict[str, OptionValue]]
    """Where each data set lies on this machine, as far as the plan gives it; part of no stage's key."""

    @property
    def counted(self) -> bool:
        """Whether all sparsities are known: those of filter ratios need a check."""
        return not any(UNKNOWN in trial.sparsities for trial in self.trials)

    @property
    def digest(self) -> str:
        """Identifies this version of the plan: its text, overrides, trials and stages."""
        content = [
            self.plan.content.name,
            self.plan.text,
            list(self.plan.overrides),
            [[trial.id, *trial.path] for trial in self.trials],
        ]
        return _digest(json.dumps(content))

    def study(self) -> Study:
        """Make what the store records of the plan."""
        return Study(
            digest=self.digest,
            name=self.plan.content.name,
            file=self.plan.file,
            text=self.plan.text,
            overrides=self.plan.overrides,
            question=self.plan.question,
            axes=tuple(axes(self.plan)),
            tasks=self._tasks(),
            trials=self.trials,
            stages={
                key: PlannedStage(Spec(NUMERICS, stage), stage.steps, self.epoch_steps[key])
                for key, stage in self.stages.items()
            },
        )

    def _tasks(self) -> dict[str, TaskMetrics]:
        """What the trials' tasks measure, but for the default one, which a reader of the record knows."""
        names = sorted({trial.task for trial in self.trials} - {DEFAULT_TASK})
        return {name: tasks.find(name).measures for name in names}


def expand(plan: LoadedPlan, check: Check | None) -> Expansion:
    """Expand a plan into all its trials and stages.

    `check` counts what is kept, to reject what cannot be pruned so before anything runs; None where the plan has been
    through it before and its sparsities do not depend on it (`Expansion.counted`).

    Raises PlanError with file and line.
    """
    trials: list[Trial] = []
    stages: dict[str, Stage] = {}
    epoch_steps: dict[str, float] = {}
    places: dict[DataSettings, dict[str, OptionValue]] = {}
    cells: set[str] = set()
    known: dict[tuple[NetworkSettings, int], list[Ladder]] = {}
    for point in grid_points(plan):
        places[point.training.data] = point.training.place
        network = point.training.network
        ladder_key = (network, id(point.pruning))  # grid points share the objects of their pruning
        if ladder_key not in known:
            known[ladder_key] = ladders(plan, network, point.pruning, check)
        for ladder in known[ladder_key]:
            # A cell is identified by seed 0 even where the plan has other seeds: adding one keeps the cell.
            first = dict(_stages(point, ladder, 0))
            cell = _cell(plan, point, first)
            # The same stages again: an axis of lengths changes nothing for reinit.
            if cell in cells:
                continue
            cells.add(cell)
            for seed in plan.content.seeds:
                path = dict(_stages(point, ladder, seed)) if seed else first
                # Stages of the same key are equal, so it does not matter which trial's is kept.
                stages.update(path)
                epoch_steps.update(dict.fromkeys(path, float(point.training.layout.per_epoch)))
                trials.append(_trial(plan, point, ladder, seed, cell, tuple(path)))
    return Expansion(plan, tuple(trials), stages, epoch_steps, places)


def _stages(point: GridPoint, ladder: Ladder, seed: int) -> Iterator[tuple[str, Stage]]:
    """Yield the path of one trial: dense, then one stage per level, each with its key."""
    training = point.training
    dense = Stage(
        network=training.network,
        data=training.data,
        train=training.settings,
        lr=training.lr,
        seed=seed,
        task=training.recipe.task,
    )
    dense_key = stage_key(dense)
    yield dense_key, dense
    retraining = point.retraining
    if retraining is None:
        return
    parent = dense_key
    for iteration, level in enumerate(ladder, start=1):
        source = {"parent": parent, "dense": dense_key, "init": None}[retraining.source]
        spec = Stage(
            network=training.network,
            data=training.data,
            train=training.settings,
            lr=retraining.lr,
            seed=seed,
            task=training.recipe.task,
            iteration=iteration,
            weights=Weights(source, retraining.source_step),
            mask=Mask(parent, level.settings),
            optimizer_state=retraining.optimizer_state,
            batchnorm=retraining.batchnorm,
        )
        parent = stage_key(spec)
        yield parent, spec


def _cell(plan: LoadedPlan, point: GridPoint, path: dict[str, Stage]) -> str:
    """Identify a trial without its seed, by the stages that seed 0 would have."""
    training = point.training
    names = (plan.content.name, point.strategy, training.label, training.dataset)
    return _digest("\0".join((*names, *path)))


def _trial(
    plan: LoadedPlan, point: GridPoint, ladder: Ladder, seed: int, cell: str, path: tuple[str, ...]
) -> Trial:
    criterion, scope, granularity = point.pruning.labels if point.pruning else ("", "", "")
    return Trial(
        id=_digest(f"{cell}\0{seed}"),
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
        sparsities=("0", *(level.sparsity for level in ladder)),
        task=point.training.recipe.task,
    )


def _digest(text: str) -> str:
    # 64 bits, short enough to be typed: of 10,000 trials two have the same id with probability 3e-12.
    return hashlib.sha256(text.encode()).hexdigest()[:16]

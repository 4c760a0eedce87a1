"""Expansion of a plan into its trials, and the stages that they share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from msgspec.structs import replace

from prunectl.gc_pause import without_collector
from prunectl.ml.datasets.files import Progress
from prunectl.ml.datasets.registry import Description, OptionValue
from prunectl.ml.tasks import registry as tasks
from prunectl.plan.claims import claims_of
from prunectl.plan.grid import axes
from prunectl.plan.labels import identifier
from prunectl.plan.levels import Ladder, ladders
from prunectl.plan.load import LoadedPlan
from prunectl.plan.points import GridPoint, grid_points
from prunectl.plan.seeds import in_order
from prunectl.plan.selections import Candidate, selections, sweeps_of
from prunectl.plan.shapes import Check, check_shapes
from prunectl.plan.size import check_size
from prunectl.spec.claim import Claim
from prunectl.spec.key import NUMERICS, PathTemplate, Spec, template_seeds
from prunectl.spec.seeds import Seeds
from prunectl.spec.selection import Selection
from prunectl.spec.settings import DataSettings, NetworkSettings
from prunectl.spec.stage import Mask, Stage, Weights
from prunectl.spec.study import PlannedStage, Study
from prunectl.spec.task import DEFAULT_TASK, TaskMetrics
from prunectl.spec.trial import Trial


@dataclass(frozen=True)
class Expansion:
    """All trials of a plan and their stages, each once."""

    plan: LoadedPlan
    claims: tuple[Claim, ...]
    selections: tuple[Selection, ...]
    trials: tuple[Trial, ...]
    stages: dict[str, Stage]
    epoch_steps: dict[str, float]
    """Steps per epoch, by stage."""
    datasets: dict[str, Description]
    """What is known of each data set, by its name in the plan."""
    places: dict[DataSettings, dict[str, OptionValue]]
    """Where each data set lies on this machine, as far as the plan gives it; part of no stage's key."""

    @cached_property
    def digest(self) -> str:
        """Identifies this version of the plan: its text, overrides, trials and stages."""
        content = [
            self.plan.content.name,
            self.plan.text,
            list(self.plan.overrides),
            [[trial.id, *trial.path] for trial in self.trials],
        ]
        return identifier(json.dumps(content))

    def study(self) -> Study:
        """Make what the store records of the plan."""
        return Study(
            digest=self.digest,
            name=self.plan.content.name,
            file=self.plan.file,
            text=self.plan.text,
            overrides=self.plan.overrides,
            question=self.plan.question,
            axes=tuple(axis.key for axis in axes(self.plan) if axis.varies),
            claims=self.claims,
            selections=self.selections,
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


def expand(plan: LoadedPlan, check: Check | None, progress: Progress | None = None) -> Expansion:
    """Expand a plan into all its trials and stages.

    `check` summarises networks, to reject before anything runs what cannot be trained or pruned so. With None nothing
    is checked, and the sparsities of filter ratios are `levels.UNKNOWN`; keys and digest are the same.
    `progress` hears of data that is read to know its fingerprint.

    Raises PlanError with file and line.
    """
    check_size(plan)
    sweeps = sweeps_of(plan)
    claims = claims_of(plan, [sweep.name for sweep in sweeps])
    every = tuple(in_order(plan.content.seeds))
    # Trials that differed in a seed from which nothing is drawn would be one, counted twice.
    every_without_augment = tuple(dict.fromkeys(seeds.without_augment() for seeds in every))
    candidates: list[Candidate] = []
    trials: list[Trial] = []
    stages: dict[str, Stage] = {}
    epoch_steps: dict[str, float] = {}
    datasets: dict[str, Description] = {}
    places: dict[DataSettings, dict[str, OptionValue]] = {}
    # It would take a third of the time, and what is made here stays.
    with without_collector():
        for cell in _cells(plan, check, progress):
            training = cell.point.training
            datasets[training.dataset] = training.description
            places[training.data] = training.place
            candidates.append(Candidate(cell.point, cell.ladder, cell.first))
            per_epoch = float(training.layout.per_epoch)
            for seeds in every if training.settings.augment.draws else every_without_augment:
                path = cell.keys(seeds)
                # Stages of the same key are equal, so it does not matter which trial's is kept.
                stages.update(_stages(cell.point, cell.ladder, seeds, _in_order(path)))
                epoch_steps.update(dict.fromkeys(path, per_epoch))
                trials.append(cell.trial(seeds, path))
    _check_augment_seeds(plan, every, stages)
    selected = selections(plan, sweeps, candidates)
    return Expansion(plan, claims, selected, tuple(trials), stages, epoch_steps, datasets, places)


def _check_augment_seeds(
    plan: LoadedPlan, every: Sequence[Seeds], stages: Mapping[str, Stage]
) -> None:
    """Raise PlanError where seeds of augmentation are given apart, and no training draws anything from them."""
    apart = next((seeds for seeds in every if seeds.own_augment is not None), None)
    if apart is not None and not any(each.train.augment.draws for each in stages.values()):
        raise plan.fail(
            "seeds of augmentation change nothing: no recipe of this plan augments its images. Leave `augment` out",
            "seeds.augment",
            found=f"{apart} (init/order/augment)",
        )


class _Cell:
    """Trials that differ in their seeds alone."""

    def __init__(self, plan: LoadedPlan, point: GridPoint, ladder: Ladder) -> None:
        self.point = point
        self.ladder = ladder
        self._templates: dict[Seeds, PathTemplate] = {}
        """By the seeds that they are made from."""
        self.first = _first_trial(plan, point, ladder, self.keys(Seeds.of(0)))
        """That of seed 0, which the plan need not have."""

    def keys(self, seeds: Seeds) -> tuple[str, ...]:
        """Return the keys of the stages of the trial with these seeds."""
        standing_in = template_seeds(seeds)
        template = self._templates.get(standing_in)
        if template is None:
            template = self._templates[standing_in] = PathTemplate()
            list(_stages(self.point, self.ladder, standing_in, template.add))
        return template.keys(seeds)

    def trial(self, seeds: Seeds, path: tuple[str, ...]) -> Trial:
        """Make the trial with these seeds, whose stages have these keys."""
        return replace(
            self.first,
            id=_trial_id(self.first.cell, seeds),
            seed=seeds.init,
            order_seed=seeds.own_order,
            augment_seed=seeds.own_augment,
            path=path,
        )


def _cells(plan: LoadedPlan, check: Check | None, progress: Progress | None) -> Iterator[_Cell]:
    """Resolve the grid into its cells, in its order. Raises PlanError."""
    seen: set[str] = set()
    known: dict[tuple[NetworkSettings, int], list[Ladder]] = {}
    checked: set[tuple[int, int]] = set()
    for point in grid_points(plan, progress):
        # Grid points share the objects of their training and their pruning.
        if check is not None and (id(point.training), point.longest) not in checked:
            check_shapes(plan, point.training, point.longest, check)
            checked.add((id(point.training), point.longest))
        network = point.training.network
        ladder_key = (network, id(point.pruning))
        if ladder_key not in known:
            known[ladder_key] = ladders(plan, network, point.pruning, check)
        for ladder in known[ladder_key]:
            cell = _Cell(plan, point, ladder)
            # Seen as where an axis of lengths changes nothing for reinit.
            if cell.first.cell not in seen:
                seen.add(cell.first.cell)
                yield cell


def _in_order(keys: Sequence[str]) -> Callable[[Stage], str]:
    """Give out keys that are known, one for each stage that is made."""
    known = iter(keys)
    return lambda stage: next(known)


def _stages(
    point: GridPoint, ladder: Ladder, seeds: Seeds, key_of: Callable[[Stage], str]
) -> Iterator[tuple[str, Stage]]:
    """Yield the path of one trial: dense, then one stage per level, each with its key, which `key_of` says."""
    training = point.training
    dense = Stage(
        network=training.network,
        data=training.data,
        train=training.settings,
        lr=training.lr,
        seed=seeds.init,
        order_seed=seeds.own_order,
        augment_seed=seeds.own_augment,
        task=training.recipe.task,
    )
    dense_key = key_of(dense)
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
            seed=seeds.init,
            order_seed=seeds.own_order,
            augment_seed=seeds.own_augment,
            task=training.recipe.task,
            iteration=iteration,
            weights=Weights(source, retraining.source_step),
            mask=Mask(parent, level.settings),
            optimizer_state=retraining.optimizer_state,
            batchnorm=retraining.batchnorm,
        )
        parent = key_of(spec)
        yield parent, spec


def _first_trial(
    plan: LoadedPlan, point: GridPoint, ladder: Ladder, path: tuple[str, ...]
) -> Trial:
    """Make the trial of seed 0, whose stages have these keys."""
    training = point.training
    names = (plan.content.name, point.strategy, training.name, training.dataset)
    # A cell is identified by seed 0 even where the plan has other seeds: adding one keeps the cell.
    cell = identifier(*names, *path)
    criterion, scope, granularity = point.pruning.labels if point.pruning else ("", "", "")
    return Trial(
        id=_trial_id(cell, Seeds.of(0)),
        cell=cell,
        plan=plan.content.name,
        network=training.network.name,
        dataset=training.dataset,
        recipe=training.label,
        strategy=point.label,
        schedule=point.schedule,
        criterion=criterion,
        scope=scope,
        granularity=granularity,
        retrain=point.retraining.label if point.retraining else "",
        seed=0,
        path=path,
        sparsities=("0", *(level.sparsity for level in ladder)),
        task=training.recipe.task,
    )


def _trial_id(cell: str, seeds: Seeds) -> str:
    return identifier(cell, str(seeds))

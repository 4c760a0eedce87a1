"""Convert the store's records to rows of the database: pure functions, no connection.

Each function takes records and returns tuples in the column order of the constant that it names. A column has the
value of the record's field with its name, or else the metric with its name: `accuracy` and `top5` are metrics of
classification, and NULL for other tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec

from prunectl.spec.key import Spec, is_key, to_json
from prunectl.spec.ranges import BIGGEST
from prunectl.spec.study import Study
from prunectl.spec.task import TaskMetrics
from prunectl.spec.trial import SEEDS, Trial
from prunectl.store.db.database import Row
from prunectl.store.records.base import Metrics, encode
from prunectl.store.records.events import Epoch, Pruned
from prunectl.store.records.journal import Log
from prunectl.store.records.labels import Labels
from prunectl.store.records.provenance import RunRecord
from prunectl.store.records.replication import Replication
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import kind

SPEC = (
    "stage", "network", "dataset", "task", "seed", "iteration", "replay", "parent", "weights_stage", "weights_step",
    "criterion", "scope", "granularity", "density", "steps", "spec",
)  # fmt: skip
MEASURES = (
    "accuracy_pruned", "accuracy_start", "accuracy", "top5", "best_accuracy", "validation_accuracy", "train_accuracy",
)  # fmt: skip
"""Metrics that have a column of their own in the table `stages`: classification's; `EPOCH_MEASURES` are those that
`epochs` has. The others go into the column `other_metrics`."""
RESULT = (
    "flag", "kept", "prunable", "parameters", "kept_parameters", "macs", "macs_dense", "score_pruned", "score_start",
    "score", "loss", "best_score", "validation_score", "train_score", "train_loss", "test_items", "retrain_epochs",
    "seconds", "peak_memory", "device", "device_name", "attempt", "agreement", "ece",
)  # fmt: skip
"""Fields of a result that are columns as they are."""
_RENAMED = {"retrain_epochs": "train_epochs", "attempt": "attempts"}
RESULT_COLUMNS = (
    "stage", "done", *(_RENAMED.get(name, name) for name in RESULT), *MEASURES,
    "dead_layers", "device_names", "other_metrics", "versions", "started", "ended", "bytes",
)  # fmt: skip
EPOCH = (
    "step", "lr", "train_loss", "loss", "validation_loss", "train_score", "score", "validation_score", "seconds",
    "skipped", "attempt",
)  # fmt: skip
EPOCH_MEASURES = ("train_accuracy", "accuracy", "top5", "validation_accuracy")
_IN_STAGES, _IN_EPOCHS = frozenset(MEASURES), frozenset(EPOCH_MEASURES)
EPOCH_COLUMNS = ("stage", "epoch", *EPOCH, *EPOCH_MEASURES, "other_metrics", "time")
TRIAL = (
    "trial", "cell", "plan", "network", "dataset", "recipe", "strategy", "schedule", "criterion", "scope",
    "granularity", "retrain", "task", *SEEDS,
)  # fmt: skip
PLAN = (
    "digest",
    "plan",
    "file",
    "question",
    "axes",
    "overrides",
    "claims",
    "created",
    "made",
    "text",
)
SELECTION = ("digest", "selection", "over", "cell", "trial", "position")
RUN = (
    "run", "plans", "started", "argv", "cwd", "git_commit", "git_dirty", "host", "devices", "driver", "packages",
    "python", "platform", "prunectl",
)  # fmt: skip
REPLICATION = (
    "replication", "bundle", "digest", "plan", "stage", "verdict", "reason", "score_there", "score_here", "loss_there",
    "loss_here", "metrics_there", "metrics_here", "flag_there", "flag_here", "weights_there", "weights_here",
    "device_name_there", "device_name_here", "versions_there", "versions_here", "tolerance", "n", "from_parents",
    "host", "device", "time",
)  # fmt: skip
TASK = ("task", "position", "metric", "unit", "higher_is_better", "digits", "per_item", "guesses")
EVENT = ("log", "seq", "attempt", "time", "type", "stage", "data")
CORRECTNESS = ("stage", "test_set", "correct")
LABELS = ("test_set", "dataset", "labels")
LAYER = ("stage", "position", "layer", "total", "kept")

_UNIX = datetime(1970, 1, 1)


def moment(value: float | str | None) -> datetime | None:
    """Convert Unix seconds or ISO 8601 to UTC without a zone; what is no time to None."""
    try:
        if isinstance(value, int | float):
            return _UNIX + timedelta(seconds=value)
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _text(value: object) -> str:
    return encode(value).decode()


def _others(metrics: Metrics, columns: frozenset[str]) -> str | None:
    """Return the metrics without a column of their own as JSON; None where there are none."""
    if metrics.keys() <= columns:  # as those of classification
        return None
    return _text({name: value for name, value in metrics.items() if name not in columns})


def spec_row(key: str, spec: Spec) -> Row:
    """Return a stage's description as `SPEC`."""
    stage, mask = spec.stage, spec.stage.mask
    settings = None if mask is None else mask.settings
    return (
        key,
        stage.network.name,
        stage.data.name,
        stage.task,
        stage.seed,
        stage.iteration,
        stage.replay,
        None if mask is None else mask.parent,
        stage.weights.stage,
        stage.weights.step,
        None if settings is None else settings.criterion,
        None if settings is None else settings.scope,
        None if settings is None else settings.granularity,
        1.0 if settings is None else float(settings.density),
        stage.steps,
        to_json(spec, sort=False),
    )


_result_fields: Callable[[Result], tuple[Any, ...]] = attrgetter(*RESULT)
_epoch_fields: Callable[[Epoch], tuple[Any, ...]] = attrgetter(*EPOCH)


def result_row(key: str, result: Result | None) -> Row:
    """Return a result as `RESULT_COLUMNS`; None is a stage that is not done."""
    if result is None:
        return (key, False, *([None] * (len(RESULT_COLUMNS) - 2)))
    return (
        key,
        True,
        *_result_fields(result),
        *map(result.metrics.get, MEASURES),
        None if result.dead_layers is None else list(result.dead_layers),
        list(result.device_names),
        _others(result.metrics, _IN_STAGES),
        _text(result.versions),
        moment(result.started),
        moment(result.ended),
        min(sum(result.files.values()), BIGGEST),
    )


def plan_row(study: Study) -> Row:
    """Return a version of a plan as `PLAN`."""
    return (
        study.digest,
        study.name,
        study.file,
        study.question,
        list(study.axes),
        list(study.overrides),
        _text(study.claims),
        moment(study.created),
        moment(study.made),
        study.text,
    )


def run_row(run_id: str, run: RunRecord) -> Row:
    """Return a start of a scheduler as `RUN`."""
    return (
        run_id,
        list(run.plans),
        moment(run.started),
        list(run.argv),
        run.cwd,
        run.git.commit,
        run.git.dirty,
        run.host,
        _text(run.devices),
        run.driver,
        _text(run.packages),
        run.python,
        run.platform,
        run.prunectl,
    )


def replication_row(identifier: str, found: Replication) -> Row:
    """Return how a stage was replicated as `REPLICATION`."""
    there, here = found.there, found.here
    return (
        identifier,
        found.bundle,
        found.plan,
        found.name,
        found.key,
        found.verdict,
        found.reason,
        there.score,
        here.score,
        there.loss,
        here.loss,
        _text(there.metrics),
        _text(here.metrics),
        there.flag,
        here.flag,
        there.weights,
        here.weights,
        there.device_name,
        here.device_name,
        _text(there.versions),
        _text(here.versions),
        found.tolerance,
        found.n,
        found.from_parents,
        found.host,
        found.device,
        moment(found.time),
    )


def labels_row(record: Labels) -> Row:
    """Return the labels of a test set as `LABELS`."""
    return (
        record.test_set,
        record.data.name,
        list(record.labels),
    )


_trial_fields: Callable[[Trial], tuple[Any, ...]] = attrgetter("id", *TRIAL[1 : -len(SEEDS)])


def trial_row(trial: Trial) -> Row:
    """Return a trial as `TRIAL`, then its number of iterations."""
    return (*_trial_fields(trial), *trial.seeds, len(trial.path) - 1)


def path_rows(trial: Trial) -> list[Row]:
    """Return (trial, iteration, stage, target sparsity) of each iteration."""
    steps = zip(trial.path, trial.sparsities, strict=True)
    return [(trial.id, k, stage, float(aim)) for k, (stage, aim) in enumerate(steps)]


def selection_rows(study: Study) -> list[Row]:
    """Return the trials of all that a plan chooses among as `SELECTION`."""
    trials: dict[str, list[str]] = {}
    for trial in study.trials if study.selections else ():
        trials.setdefault(trial.cell, []).append(trial.id)
    return [
        (study.digest, selection.strategy, selection.over, made.cell, trial, position)
        for selection in study.selections
        for made in selection.cells
        for position, cell in enumerate(made.options)
        for trial in trials[cell]
    ]


def task_rows(task: str, measures: TaskMetrics) -> list[Row]:
    """Return what a task measures, the score first, as `TASK`."""
    return [
        (task, number, each.name, each.unit, each.higher_is_better, each.digits, each.per_item, each.guesses)
        for number, each in enumerate(measures.metrics)
    ]  # fmt: skip


@dataclass(frozen=True)
class PlanRows:
    """All rows of one version of a plan."""

    digest: str
    created: datetime | None
    row: Row
    trials: dict[str, Row]
    paths: dict[str, list[Row]]
    selections: list[Row]
    """As `SELECTION`."""
    stages: list[Row]
    """As `SPEC` and the steps per epoch."""
    tasks: list[Row]

    @classmethod
    def of(cls, digest: str, study: Study) -> PlanRows:
        """Convert a plan's record."""
        row = plan_row(study)
        return cls(
            digest,
            row[PLAN.index("created")],
            row,
            {trial.id: trial_row(trial) for trial in study.trials},
            {trial.id: path_rows(trial) for trial in study.trials},
            selection_rows(study),
            [
                (*spec_row(key, stage.spec), stage.epoch_steps)
                for key, stage in study.stages.items()
            ],
            [row for task, measures in study.tasks.items() for row in task_rows(task, measures)],
        )


_OWN_COLUMNS = ("seq", "attempt", "time", "type", "layers", "sum")
"""Members of a record that the table `events` has columns for, or that the table `layers` has; and its checksum."""


@dataclass
class LogRows:
    """Rows of event logs, by their tables' primary keys, so that what was logged later wins."""

    events: dict[tuple[str, int], Row] = field(default_factory=dict)
    epochs: dict[tuple[str, int], Row] = field(default_factory=dict)
    layers: dict[tuple[str, int], Row] = field(default_factory=dict)
    rates: dict[tuple[str, int], Row] = field(default_factory=dict)
    last_rate: dict[str, tuple[int, float | None]] = field(default_factory=dict)
    """(step, learning rate) read last, by stage: the same rate logged again for a later step is no new row."""

    def add(self, log: str, part: Log[Any]) -> None:
        """Add the records of one log, in their order; those without a number are left out."""
        is_stage = is_key(log)
        for record, line in zip(part.records, part.lines, strict=True):
            if record.seq < 0:
                continue
            if isinstance(record, Epoch):
                self._add_epoch(log, record)
                continue
            if isinstance(record, Pruned):
                for position, layer in enumerate(record.layers):
                    row = (log, position, layer.name, layer.total, layer.kept)
                    self.layers[log, position] = row
            self.events[log, record.seq] = (
                log,
                record.seq,
                record.attempt,
                moment(record.time),
                kind(record),
                log if is_stage else getattr(record, "key", None),
                _rest(line),
            )

    def _add_epoch(self, stage: str, record: Epoch) -> None:
        self.epochs[stage, record.epoch] = (
            stage,
            record.epoch,
            *_epoch_fields(record),
            *map(record.metrics.get, EPOCH_MEASURES),
            _others(record.metrics, _IN_EPOCHS),
            moment(record.time),
        )
        for first_step, lr in record.rates:
            last_step, last = self.last_rate.get(stage, (-1, None))
            if lr != last or first_step <= last_step:
                self.rates[stage, first_step] = (stage, first_step, lr)
            self.last_rate[stage] = (first_step, lr)


def _rest(line: bytes) -> str:
    """Return the members of a record that are no columns of `events`, as they stand in the log."""
    members: dict[str, msgspec.Raw] = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    rest = {name: raw for name, raw in members.items() if name not in _OWN_COLUMNS}
    return encode(rest).decode(errors="replace")  # members that no record declares may be any bytes

"""One trial from the logs of its stages: its curve, its layers, its settings and its log in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunectl.monitor.snapshot import TrialView
from prunectl.results.metrics import title
from prunectl.spec.key import canonical
from prunectl.spec.stage import Stage
from prunectl.spec.task import CLASSIFICATION, DEFAULT_TASK, KNOWN, Metric, TaskMetrics, metrics_of
from prunectl.store.narration import describe_event
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import Epoch, Pruned, last, latest_epochs
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import kind
from prunectl.tui import text as t

Records = Sequence[LogRecord]

STYLES = {
    "start": "accent",
    "checkpoint": "dim",
    "failed": "bad",
    **dict.fromkeys(("pruned", "note", "interrupted"), "warn"),
}
"""Of the lines of the log, by type of record; others are plain, or good or bad by what they say."""


@dataclass(frozen=True)
class Pruning:
    """Where an iteration began: at `x`, with this score right after the weights were removed."""

    x: float
    sparsity: str
    score: float | None


@dataclass(frozen=True)
class Layer:
    """How much of a layer is left."""

    key: str
    """Its name."""
    total: int
    kept: int

    @property
    def density(self) -> float:
        """The share that is kept."""
        return t.share(self.kept, self.total)


@dataclass(frozen=True)
class Setting:
    """One line of the configuration."""

    key: str
    """Its name, dotted."""
    value: str
    varied: bool = False
    """The plan varies it."""


@dataclass(frozen=True)
class LogLine:
    """One record in words."""

    key: str
    time: float
    text: str
    style: str = ""


@dataclass(frozen=True)
class Detail:
    """What a trial's logs say."""

    epochs: tuple[tuple[float, Epoch], ...] = ()
    """Steps from the beginning of the trial, and the record of each epoch."""
    prunings: tuple[Pruning, ...] = ()
    layers: tuple[Layer, ...] = ()
    settings: tuple[Setting, ...] = ()
    log: tuple[LogLine, ...] = ()
    dense: float | None = None
    """Score of the dense network at its end."""
    measured: TaskMetrics = CLASSIFICATION
    """What its task measures."""

    @property
    def metric(self) -> Metric:
        """The score."""
        return self.measured.score

    @property
    def last(self) -> float | None:
        """The score of the last epoch."""
        return self.epochs[-1][1].score if self.epochs else None

    @property
    def curves(self) -> dict[str, str]:
        """What can be drawn: fields of `epoch` records, and their names; the score first."""
        score, *others = (
            (metric.name, f"test {title(metric)}") for metric in self.measured.metrics
        )
        return dict(
            [score, ("loss", "test loss"), ("train_loss", "training loss"), ("lr", "rate"), *others]
        )


def curve_value(record: Epoch, name: str) -> float | None:
    """Return what `Detail.curves` names of an epoch: a metric, else a field."""
    found = record.metrics[name] if name in record.metrics else getattr(record, name, None)
    return found if isinstance(found, float) else None


def detail_of(
    view: TrialView,
    records: Mapping[str, Records],
    stages: Mapping[str, Stage],
    varied: Sequence[str] = (),
    replay: Records = (),
    tasks: Mapping[str, TaskMetrics] = KNOWN,
) -> Detail:
    """Join the logs of a trial's stages.

    Args:
        view: the trial.
        records: the log of each stage, by key; the first one without records ends the curve.
        stages: what each stage is, by key.
        varied: labels that the plan varies.
        replay: the log of a stage that trains the dense network again. It is in the log only: on the curve it is what
            the dense network did before.
        tasks: what is measured of each task.
    """
    measured = metrics_of(tasks, view.trial.task)
    metric = measured.score
    points: list[tuple[float, Epoch]] = []
    prunings: list[Pruning] = []
    layers: tuple[Layer, ...] = ()
    log: list[LogLine] = []
    dense: float | None = None
    start = 0.0
    for iteration, key in enumerate(view.trial.path):
        found, goal = records.get(key, ()), view.trial.sparsities[iteration]
        log += _log(found, key, iteration, goal, metric)
        epochs = latest_epochs(found)
        points += [(start + record.step, record) for record in epochs]
        if pruned := last(found, Pruned):
            prunings.append(Pruning(start, goal, pruned.score_pruned))
            layers = tuple(Layer(x.name, x.total, x.kept) for x in pruned.layers)
        done = last(found, Result)
        if done is None:
            break
        if iteration == 0:
            dense = done.score
        start += done.steps or (epochs[-1].step if epochs else 0)
    if replay:
        log += _log(replay, "replay", 0, "0", metric, "replay: ")
        log.sort(key=lambda line: line.time)
    return Detail(
        tuple(points),
        tuple(prunings),
        layers,
        tuple(settings(view, stages, varied)),
        tuple(log),
        dense,
        measured,
    )


# the log in words


def _log(
    records: Records, key: str, iteration: int, goal: str, metric: Metric, prefix: str = ""
) -> Iterator[LogLine]:
    for record in records:
        if text := describe_event(record, iteration, goal, metric):
            yield LogLine(f"{key}/{record.seq}", record.time, prefix + text, _style(record))


def _style(record: LogRecord) -> str:
    match record:
        case Pruned() if record.dead_layers:
            return "bad"
        case Result():
            return "bad" if record.flag else "good"
    return STYLES.get(kind(record), "")


# the configuration


def settings(view: TrialView, stages: Mapping[str, Stage], varied: Sequence[str]) -> list[Setting]:
    """Return the labels, then every field of the stage the trial is at."""
    goals = ", ".join(t.sparsity(goal) for goal in view.trial.sparsities[1:]) or "dense"
    out = [
        Setting(name, value, name in varied) for name, value in view.trial.labels.items() if value
    ]
    if view.trial.task != DEFAULT_TASK:
        out.append(Setting("task", view.trial.task))
    out += [
        Setting("seed", str(view.trial.seeds), True),
        Setting("sparsity", goals),
        Setting("trial", view.trial.id),
        Setting("cell", view.trial.cell),
    ]
    key = next(
        (key for key in reversed(view.trial.path[: view.iteration + 1]) if key in stages), None
    )
    if key is not None:
        out.append(Setting("stage", key))
        out += [Setting(name, value) for name, value in flat(canonical(stages[key]))]
    return out


def flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested tables as dotted names; learning rates as rate × steps."""
    for name, value in fields.items():
        if name == "lr" and isinstance(value, list):
            runs = [f"{run.get('lr')}×{run.get('steps')}" for run in value if isinstance(run, dict)]
            yield f"{prefix}lr", ", ".join(runs)
        elif isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)

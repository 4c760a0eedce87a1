"""One trial from the logs of its stages: its curve, its layers, its settings and its log in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunectl.monitor.snapshot import TrialView
from prunectl.results.metrics import KNOWN, metrics_of, title
from prunectl.spec.task import CLASSIFICATION, Metric, TaskMetrics
from prunectl.store.journal import Record
from prunectl.store.records.events import last, latest_epochs
from prunectl.tui import text as t

Records = Sequence[Record]


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

    epochs: tuple[tuple[float, Record], ...] = ()
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
        return t.finite(self.epochs[-1][1].get(self.metric.name)) if self.epochs else None

    @property
    def curves(self) -> dict[str, str]:
        """What can be drawn: fields of `epoch` records, and their names; the score first."""
        score, *others = (
            (metric.name, f"test {title(metric)}") for metric in self.measured.metrics
        )
        return dict(
            [score, ("loss", "test loss"), ("train_loss", "training loss"), ("lr", "rate"), *others]
        )


def detail_of(
    view: TrialView,
    records: Mapping[str, Records],
    specs: Mapping[str, Mapping[str, Any]],
    varied: Sequence[str] = (),
    replay: Records = (),
    tasks: Mapping[str, TaskMetrics] = KNOWN,
) -> Detail:
    """Join the logs of a trial's stages.

    Args:
        view: the trial.
        records: the log of each stage, by key; the first one without records ends the curve.
        specs: the specification of each stage, by key.
        varied: labels that the plan varies.
        replay: the log of a stage that trains the dense network again. It is in the log only: on the curve it is what
            the dense network did before.
        tasks: what is measured of each task.
    """
    measured = metrics_of(tasks, specs.get(view.path[0], {}).get("task"))
    metric = measured.score
    points: list[tuple[float, Record]] = []
    prunings: list[Pruning] = []
    layers: tuple[Layer, ...] = ()
    log: list[LogLine] = []
    dense: float | None = None
    start = 0.0
    for iteration, key in enumerate(view.path):
        found, goal = records.get(key, ()), view.sparsities[iteration]
        log += _log(found, key, iteration, goal, metric)
        epochs = latest_epochs(found)
        points += [(start + (t.finite(record.get("step")) or 0.0), record) for record in epochs]
        if pruned := last(found, "pruned"):
            prunings.append(Pruning(start, goal, t.finite(pruned.get(f"{metric.name}_pruned"))))
            rows = pruned.get("layers") or ()
            layers = tuple(Layer(str(x["name"]), int(x["total"]), int(x["kept"])) for x in rows)
        done = last(found, "done")
        if done is None:
            break
        if iteration == 0:
            dense = t.finite(done.get(metric.name))
        start += t.finite(done.get("steps")) or (epochs[-1].get("step", 0) if epochs else 0)
    if replay:
        log += _log(replay, "replay", 0, "0", metric, "replay: ")
        log.sort(key=lambda line: line.time)
    return Detail(
        tuple(points),
        tuple(prunings),
        layers,
        tuple(settings(view, specs, varied)),
        tuple(log),
        dense,
        measured,
    )


# the log in words


def _log(
    records: Records, key: str, iteration: int, goal: str, metric: Metric, prefix: str = ""
) -> Iterator[LogLine]:
    for record in records:
        line = log_line(record, iteration, goal, metric)
        if line is not None:
            text, style = line
            name = f"{key}/{record.get('seq')}"
            yield LogLine(name, record.get("time", 0.0), prefix + text, style)


def log_line(record: Record, iteration: int, goal: str, metric: Metric) -> tuple[str, str] | None:
    """Return a record as text and style; None for what says nothing to a reader. `metric` is the task's score."""
    get, number = record.get, t.number

    def score(suffix: str = "") -> str:
        return f"{metric.name} {number(get(metric.name + suffix), metric.digits)}"

    match get("type"):
        case "start":
            return _started(record, iteration, goal), "accent"
        case "pruned":
            dead = get("dead_layers") or ()
            lost = f", dead layers: {', '.join(map(str, dead))}" if dead else ""
            kept = f"{t.short(get('kept'))} of {t.short(get('prunable'))} weights kept"
            return f"pruned: {kept}, {score('_pruned')}{lost}", "bad" if dead else "warn"
        case "begin":
            what = "retraining" if iteration else "training"
            return f"{what} starts from {score('_start')}", ""
        case "epoch":
            losses = f"loss {number(get('loss'), 4)}  train {number(get('train_loss'), 4)}"
            return f"epoch {get('epoch')}  {score()}  {losses}  lr {t.short(get('lr'))}", ""
        case "checkpoint":
            return f"checkpoint at step {get('step')}", "dim"
        case "note":
            return str(get("text", "")), "warn"
        case "interrupted":
            return f"interrupted at step {get('step')}", "warn"
        case "failed":
            return f"failed, {get('reason')}: {get('message') or ''}", "bad"
        case "done":
            flag = f", {get('flag')}" if get("flag") else ""
            took = t.duration(get("seconds"))
            return f"done: {score()}{flag} ({took})", "bad" if flag else "good"
    return None


def _started(record: Record, iteration: int, goal: str) -> str:
    what = (
        f"iteration {iteration}, to sparsity {t.sparsity(goal)}" if iteration else "dense network"
    )
    how = f"goes on at step {record.get('step')}" if record.get("resumed") else "started"
    attempt = f", attempt {record['attempt']}" if record.get("attempt", 1) > 1 else ""
    return f"{what} {how} on {record.get('device')} (pid {record.get('pid')}{attempt})"


# the configuration


def settings(
    view: TrialView, specs: Mapping[str, Mapping[str, Any]], varied: Sequence[str]
) -> list[Setting]:
    """Return the labels, then every field of the stage the trial is at."""
    goals = ", ".join(t.sparsity(goal) for goal in view.sparsities[1:]) or "dense"
    out = [Setting(name, value, name in varied) for name, value in view.labels.items() if value]
    out += [
        Setting("seed", str(view.seed), True),
        Setting("sparsity", goals),
        Setting("trial", view.trial),
        Setting("cell", view.cell),
    ]
    key = next((key for key in reversed(view.path[: view.iteration + 1]) if key in specs), None)
    if key is not None:
        out.append(Setting("stage", key))
        out += [Setting(name, value) for name, value in flat(specs[key])]
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

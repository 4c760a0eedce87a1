"""One trial from the logs of its stages: its curve, its layers, its settings and its log in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunectl.monitor.snapshot import TrialView
from prunectl.store.journal import Record
from prunectl.tui import text as t

Records = Sequence[Record]


@dataclass(frozen=True)
class Point:
    """One evaluation; `x` is in steps from the beginning of the trial."""

    x: float
    accuracy: float | None
    loss: float | None
    train_loss: float | None
    lr: float | None


@dataclass(frozen=True)
class Pruning:
    """Where an iteration began: at `x`, with this accuracy right after the weights were removed, in percent."""

    x: float
    iteration: int
    sparsity: str
    accuracy: float | None


@dataclass(frozen=True)
class Layer:
    """How much of a layer is left."""

    name: str
    total: int
    kept: int

    @property
    def density(self) -> float:
        """The share that is kept."""
        return self.kept / self.total if self.total else 0.0


@dataclass(frozen=True)
class Setting:
    """One line of the configuration."""

    name: str
    value: str
    varied: bool
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

    points: tuple[Point, ...] = ()
    prunings: tuple[Pruning, ...] = ()
    layers: tuple[Layer, ...] = ()
    settings: tuple[Setting, ...] = ()
    log: tuple[LogLine, ...] = ()
    dense: float | None = None
    """Accuracy of the dense network at its end, percent."""
    results: tuple[float | None, ...] = ()
    """Accuracy at the end of each finished iteration, percent."""


def detail_of(
    view: TrialView,
    records: Mapping[str, Records],
    specs: Mapping[str, Mapping[str, Any]],
    varied: Sequence[str] = (),
    replay: Records = (),
) -> Detail:
    """Put the logs of a trial's stages one after another; `records` and `specs` are by stage key. What a replay of
    the dense network does is only told: on the curve it is what the dense network did before."""
    points: list[Point] = []
    prunings: list[Pruning] = []
    layers: tuple[Layer, ...] = ()
    log: list[LogLine] = []
    results: list[float | None] = []
    start = 0.0
    for iteration, key in enumerate(view.path):
        found = records.get(key, ())
        if not found:
            break
        goal = view.sparsities[iteration]
        epochs = latest_epochs(found)
        points += [_point(record, start) for record in epochs]
        for record in found:
            if record.get("type") == "pruned":
                prunings.append(
                    Pruning(start, iteration, goal, t.finite(record.get("accuracy_pruned")))
                )
                layers = tuple(_layers(record))
            line = log_line(record, iteration, goal)
            if line is not None:
                log.append(LogLine(f"{key}/{record.get('seq')}", record.get("time", 0.0), *line))
        done = next((r for r in reversed(found) if r.get("type") == "done"), None)
        if done is None:
            break
        results.append(t.finite(done.get("accuracy")))
        start += t.finite(done.get("steps")) or (epochs[-1].get("step", 0) if epochs else 0)
    for record in replay:
        line = log_line(record, 0, "0")
        if line is not None:
            name, time = f"replay/{record.get('seq')}", record.get("time", 0.0)
            log.append(LogLine(name, time, f"replay: {line[0]}", line[1]))
    if replay:
        log.sort(key=lambda line: line.time)
    return Detail(
        points=tuple(points),
        prunings=tuple({pruning.iteration: pruning for pruning in prunings}.values()),
        layers=layers,
        settings=tuple(settings(view, specs, varied)),
        log=tuple(log),
        dense=results[0] if results else None,
        results=tuple(results),
    )


def latest_epochs(records: Records) -> list[Record]:
    """Epoch records in order; of those logged again after a crash the latest attempt's."""
    best: dict[int, Record] = {}
    for record in records:
        if record.get("type") == "epoch":
            epoch = record.get("epoch", 0)
            if epoch not in best or record.get("attempt", 0) >= best[epoch].get("attempt", 0):
                best[epoch] = record
    return [best[epoch] for epoch in sorted(best)]


def _point(record: Record, start: float) -> Point:
    return Point(
        x=start + (t.finite(record.get("step")) or 0.0),
        accuracy=t.finite(record.get("accuracy")),
        loss=t.finite(record.get("loss")),
        train_loss=t.finite(record.get("train_loss")),
        lr=t.finite(record.get("lr")),
    )


def _layers(record: Record) -> list[Layer]:
    rows = record.get("layers") or ()
    return [Layer(str(row["name"]), int(row["total"]), int(row["kept"])) for row in rows]


# the log in words


def log_line(record: Record, iteration: int, goal: str) -> tuple[str, str] | None:
    """A record as text and style; None for what says nothing to a reader."""
    n = t.number
    match record.get("type"):
        case "start":
            what = (
                "dense network"
                if iteration == 0
                else f"iteration {iteration}, to sparsity {t.sparsity(goal)}"
            )
            again = (
                f" goes on at step {record.get('step')}" if record.get("resumed") else " started"
            )
            attempt = f", attempt {record['attempt']}" if record.get("attempt", 1) > 1 else ""
            return (
                f"{what}{again} on {record.get('device')} (pid {record.get('pid')}{attempt})",
                "accent",
            )
        case "pruned":
            dead = record.get("dead_layers") or ()
            lost = f", dead layers: {', '.join(map(str, dead))}" if dead else ""
            return (
                f"pruned: {t.short(record.get('kept'))} of {t.short(record.get('prunable'))} weights kept, "
                f"accuracy {n(record.get('accuracy_pruned'))}{lost}",
                "bad" if dead else "warn",
            )
        case "begin":
            what = "retraining" if iteration else "training"
            return f"{what} starts from accuracy {n(record.get('accuracy_start'))}", ""
        case "epoch":
            return (
                f"epoch {record.get('epoch')}  accuracy {n(record.get('accuracy'))}  "
                f"loss {n(record.get('loss'), 4)}  train {n(record.get('train_loss'), 4)}  "
                f"lr {t.short(record.get('lr'))}",
                "",
            )
        case "checkpoint":
            return f"checkpoint at step {record.get('step')}", "dim"
        case "note":
            return str(record.get("text", "")), "warn"
        case "interrupted":
            return f"interrupted at step {record.get('step')}", "warn"
        case "failed":
            return f"failed, {record.get('reason')}: {record.get('message') or ''}", "bad"
        case "done":
            flag = f", {record['flag']}" if record.get("flag") else ""
            took = t.duration(record.get("seconds"))
            return (
                f"done: accuracy {n(record.get('accuracy'))}{flag} ({took})",
                "bad" if flag else "good",
            )
    return None


# the configuration


def settings(
    view: TrialView, specs: Mapping[str, Mapping[str, Any]], varied: Sequence[str]
) -> list[Setting]:
    """Labels first, then every field of the stage the trial is at."""
    out = [Setting(name, value, name in varied) for name, value in view.labels.items() if value]
    out.append(Setting("seed", str(view.seed), True))
    out.append(
        Setting(
            "sparsity",
            ", ".join(t.sparsity(goal) for goal in view.sparsities[1:]) or "dense",
            False,
        )
    )
    out.append(Setting("trial", view.trial, False))
    out.append(Setting("cell", view.cell, False))
    key = next((key for key in reversed(view.path[: view.iteration + 1]) if key in specs), None)
    if key is not None:
        out.append(Setting("stage", key, False))
        out += [Setting(name, value, False) for name, value in flat(specs[key])]
    return out


def flat(fields: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested tables as dotted names; learning rates as rate × steps."""
    out: list[tuple[str, str]] = []
    for name, value in fields.items():
        if name == "lr" and isinstance(value, list):
            runs = [f"{run.get('lr')}×{run.get('steps')}" for run in value if isinstance(run, dict)]
            out.append((f"{prefix}lr", ", ".join(runs)))
        elif isinstance(value, Mapping):
            out += flat(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            out.append((f"{prefix}{name}", value))
        else:
            out.append((f"{prefix}{name}", json.dumps(value)))
    return out

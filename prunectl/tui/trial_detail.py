"""One trial from the logs of its stages: its curve, its layers, its settings and its log in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunectl.monitor.snapshot import TrialView
from prunectl.store.journal import Record
from prunectl.store.narration import describe_event
from prunectl.store.records.events import last, latest_epochs
from prunectl.tui import text as t

Records = Sequence[Record]

STYLES = {
    "start": "accent",
    "checkpoint": "dim",
    "failed": "bad",
    **dict.fromkeys(("pruned", "note", "interrupted"), "warn"),
}
"""Of the lines of the log, by type of record; others are plain, or good or bad by what they say."""


@dataclass(frozen=True)
class Pruning:
    """Where an iteration began: at `x`, with this accuracy right after the weights were removed, in percent."""

    x: float
    sparsity: str
    accuracy: float | None


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
    """Accuracy of the dense network at its end, percent."""


def detail_of(
    view: TrialView,
    records: Mapping[str, Records],
    specs: Mapping[str, Mapping[str, Any]],
    varied: Sequence[str] = (),
    replay: Records = (),
) -> Detail:
    """Join the logs of a trial's stages.

    Args:
        view: the trial.
        records: the log of each stage, by key; the first one without records ends the curve.
        specs: the specification of each stage, by key.
        varied: labels that the plan varies.
        replay: the log of a stage that trains the dense network again. It is in the log only: on the curve it is what
            the dense network did before.
    """
    points: list[tuple[float, Record]] = []
    prunings: list[Pruning] = []
    layers: tuple[Layer, ...] = ()
    log: list[LogLine] = []
    dense: float | None = None
    start = 0.0
    for iteration, key in enumerate(view.path):
        found, goal = records.get(key, ()), view.sparsities[iteration]
        log += _log(found, key, iteration, goal)
        epochs = latest_epochs(found)
        points += [(start + (t.finite(record.get("step")) or 0.0), record) for record in epochs]
        if pruned := last(found, "pruned"):
            prunings.append(Pruning(start, goal, t.finite(pruned.get("accuracy_pruned"))))
            rows = pruned.get("layers") or ()
            layers = tuple(Layer(str(x["name"]), int(x["total"]), int(x["kept"])) for x in rows)
        done = last(found, "done")
        if done is None:
            break
        if iteration == 0:
            dense = t.finite(done.get("accuracy"))
        start += t.finite(done.get("steps")) or (epochs[-1].get("step", 0) if epochs else 0)
    if replay:
        log += _log(replay, "replay", 0, "0", "replay: ")
        log.sort(key=lambda line: line.time)
    return Detail(
        tuple(points),
        tuple(prunings),
        layers,
        tuple(settings(view, specs, varied)),
        tuple(log),
        dense,
    )


# the log in words


def _log(
    records: Records, key: str, iteration: int, goal: str, prefix: str = ""
) -> Iterator[LogLine]:
    for record in records:
        if text := describe_event(record, iteration, goal):
            name = f"{key}/{record.get('seq')}"
            yield LogLine(name, record.get("time", 0.0), prefix + text, _style(record))


def _style(record: Record) -> str:
    match record.get("type"):
        case "pruned" if record.get("dead_layers"):
            return "bad"
        case "done":
            return "bad" if record.get("flag") else "good"
    return STYLES.get(str(record.get("type")), "")


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

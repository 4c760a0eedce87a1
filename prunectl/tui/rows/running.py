"""The stages at work."""

from __future__ import annotations

from dataclasses import dataclass

from prunectl.monitor.snapshot import RunningView, Snapshot
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.rows.study import IDENTIFIER, Study, method, place

SPARK = 10


@dataclass(frozen=True)
class RunningRow:
    """A stage at work."""

    key: str
    view: RunningView
    study: Study
    trouble: str = ""
    """Why it is marked, in a word; "" where all is well."""


def running_rows(snapshot: Snapshot, study: Study) -> list[RunningRow]:
    """In the order they were started."""
    return [RunningRow(view.key, view, study, trouble(view)) for view in snapshot.running]


def trouble(view: RunningView) -> str:
    """Whether a stage is going wrong: a loss that is no number, or an accuracy that fell by half."""
    epoch = view.epoch or {}
    for value in (view.loss, epoch.get("loss"), epoch.get("train_loss")):
        if value is not None and t.finite(value) is None:
            return "diverged"
    known = [value for value in map(t.finite, view.accuracies) if value is not None]
    if len(known) > 1 and known[-1] < max(known) / 2:
        return "collapsing"
    return ""


def phase(view: RunningView) -> str:
    """What the stage is to its trial."""
    if view.replay:
        return "replay"
    return "dense" if view.iteration == 0 else f"it {view.iteration}/{view.iterations}"


def _share(view: RunningView) -> float:
    return view.step / view.steps if view.steps else 0.0


def _epoch_value(view: RunningView, name: str) -> object:
    return (view.epoch or {}).get(name)


def _running_trial(row: RunningRow) -> Cell:
    names = row.view.trials
    if not names:
        return Cell(row.key[:IDENTIFIER], "dim")
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return Cell(names[0][:IDENTIFIER] + more)


def _epoch(row: RunningRow) -> Cell:
    """Steps done of all, short enough for a narrow column."""
    return Cell(f"{t.short(row.view.step)}/{t.short(row.view.steps)}")


def _last(row: RunningRow) -> Cell:
    accuracies = row.view.accuracies
    value = accuracies[-1] if accuracies else None
    return Cell(t.number(value), "bad" if row.trouble else "")


def _best(view: RunningView) -> float | None:
    return max((v for v in map(t.finite, view.accuracies) if v is not None), default=None)


RUNNING: tuple[Column[RunningRow], ...] = (
    Column("glyph", "", 1, lambda r: Cell("!", "bad") if r.trouble else Cell("▶", "accent")),
    Column("trial", "TRIAL", 12, _running_trial),
    Column("place", "NETWORK", 0, lambda r: Cell(place(r.view.labels, r.study))),
    Column("method", "METHOD", 13, lambda r: Cell(method(r.view.labels, r.study)), flex=True),
    Column("sparsity", "SPARS", 6, lambda r: Cell(t.sparsity(r.view.sparsity)), right=True,
           order=lambda r: float(r.view.sparsity)),
    Column("seed", "SEED", 4, lambda r: Cell(r.view.labels.get("seed", t.DASH)), right=True),
    Column("phase", "PHASE", 8, lambda r: Cell(phase(r.view)), rank=6,
           order=lambda r: r.view.iteration),
    Column("progress", "PROGRESS", 10, lambda r: Cell(t.bar(_share(r.view), 10), "accent"),
           order=lambda r: _share(r.view)),
    Column("steps", "STEP", 11, _epoch, right=True, rank=4, order=lambda r: r.view.step),
    Column("curve", "TEST ACC", SPARK, lambda r: Cell(t.spark(r.view.accuracies, SPARK), "good"),
           rank=3, order=lambda r: len(r.view.accuracies)),
    Column("last", "LAST", 6, _last, right=True, order=lambda r: t.finite((r.view.accuracies or (None,))[-1])),
    Column("best", "BEST", 6, lambda r: Cell(t.number(_best(r.view))), right=True, rank=7,
           order=lambda r: _best(r.view)),
    Column("loss", "LOSS", 7, lambda r: Cell(t.number(r.view.loss, 4), "bad" if r.trouble == "diverged" else ""),
           right=True, rank=8, order=lambda r: t.finite(r.view.loss)),
    Column("eta", "ETA", 6, lambda r: Cell(t.duration(r.view.eta)), right=True, order=lambda r: r.view.eta),
    Column("device", "DEVICE", 7, lambda r: Cell(r.view.device or t.DASH), rank=5),
)  # fmt: skip

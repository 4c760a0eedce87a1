"""The trials: the queue, what failed, all."""

from __future__ import annotations

from dataclasses import dataclass

from prunectl.monitor.snapshot import FailureView, Snapshot, TrialView
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.rows.study import IDENTIFIER, Study, method, place


@dataclass(frozen=True)
class TrialRow:
    """A trial of the list: in the queue, failed, or any."""

    key: str
    """Plan and trial: a trial can be in several plans."""
    view: TrialView
    study: Study
    position: int | None = None
    """In the queue, from 1."""
    seconds: float | None = None
    """That its next stage is expected to take."""
    now: float = 0.0


class TrialList:
    """The trials of snapshots as rows; a row is built anew only where its trial has changed."""

    def __init__(self) -> None:
        self._rows: dict[str, TrialRow] = {}
        self._study: Study | None = None
        self._by_name: dict[str, TrialView] = {}

    def update(self, snapshot: Snapshot, study: Study) -> None:
        """Take in a snapshot."""
        if study != self._study:
            self._rows, self._study = {}, study
        rows: dict[str, TrialRow] = {}
        known = self._rows
        for view in snapshot.trials:
            key = f"{view.plan}/{view.trial}"
            row = known.get(key)
            rows[key] = row if row is not None and row.view is view else TrialRow(key, view, study)
        self._rows = rows
        self._by_name = {view.trial: view for view in snapshot.trials}

    def all(self) -> list[TrialRow]:
        """Every trial in the order of its plan."""
        return list(self._rows.values())

    def unfinished(self) -> list[TrialRow]:
        """What failed, is blocked or was cancelled."""
        states = ("failed", "blocked", "cancelled")
        return [row for row in self._rows.values() if row.view.state in states]

    def queue(self, snapshot: Snapshot) -> list[TrialRow]:
        """What waits, first to start first."""
        rows = []
        for position, queued in enumerate(snapshot.queue, 1):
            view = self._by_name.get(queued.trial)
            if view is not None:
                key = f"{view.plan}/{view.trial}"
                rows.append(TrialRow(key, view, self._study or Study(), position, queued.seconds))
        return rows

    def trial(self, name: str) -> TrialView | None:
        """A trial by its id."""
        return self._by_name.get(name)


def goal(view: TrialView) -> str:
    """The sparsity of the iteration a trial is at."""
    return view.sparsities[view.iteration] if view.iteration < len(view.sparsities) else "0"


def why(view: TrialView) -> str:
    """What a trial waits for, or what became of it, in words."""
    if view.reason:
        return view.reason
    words = {"waiting": "for a free slot"}
    return words.get(view.state, view.state)


def _iteration(view: TrialView) -> str:
    last = len(view.path) - 1
    return "dense" if view.iteration == 0 else f"it {view.iteration}/{last}"


TRIALS: tuple[Column[TrialRow], ...] = (
    Column("position", "#", 4, lambda r: Cell("" if r.position is None else str(r.position), "dim"),
           right=True, order=lambda r: r.position, rank=6),
    Column("glyph", "", 1, lambda r: Cell(t.GLYPHS.get(r.view.state, "?"), t.STYLES.get(r.view.state, "")),
           order=lambda r: r.view.state),
    Column("trial", "TRIAL", IDENTIFIER, lambda r: Cell(r.view.trial[:IDENTIFIER])),
    Column("plan", "PLAN", 0, lambda r: Cell(r.view.plan if r.study.plans else "")),
    Column("place", "NETWORK", 0, lambda r: Cell(place(r.view.labels, r.study))),
    Column("method", "METHOD", 13, lambda r: Cell(method(r.view.labels, r.study)), flex=True),
    Column("sparsity", "SPARS", 6, lambda r: Cell(t.sparsity(goal(r.view))), right=True,
           order=lambda r: float(goal(r.view))),
    Column("seed", "SEED", 4, lambda r: Cell(str(r.view.seed)), right=True, order=lambda r: r.view.seed),
    Column("phase", "AT", 7, lambda r: Cell(_iteration(r.view)), rank=4, order=lambda r: r.view.iteration),
    Column("done", "DONE", 4, lambda r: Cell(_percent(r.view)), right=True, rank=5,
           order=lambda r: r.view.steps_done / r.view.steps if r.view.steps else 0.0),
    Column("estimate", "EST", 5, lambda r: Cell(t.duration(r.seconds) if r.position else ""), right=True, rank=7,
           order=lambda r: r.seconds),
    Column("priority", "PRI", 3, lambda r: Cell(f"{r.view.priority:+d}" if r.view.priority else ""), right=True,
           order=lambda r: r.view.priority, rank=8),
    Column("state", "STATE", 14, lambda r: Cell(why(r.view), t.STYLES.get(r.view.state, "")), flex=True),
)  # fmt: skip


def _percent(view: TrialView) -> str:
    return f"{100 * view.steps_done / view.steps:.0f}%" if view.steps else t.DASH


def failure_of(snapshot: Snapshot, trial: str) -> FailureView | None:
    """The failure that stopped a trial, the last one first."""
    found = [view for view in snapshot.failures if trial in view.trials]
    return max(found, key=lambda view: view.time, default=None)

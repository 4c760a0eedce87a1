"""The trials: the queue, what failed, all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from prunectl.monitor.snapshot import FailureView, Snapshot, TrialView
from prunectl.spec.state import State
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.rows.study import IDENTIFIER, Distinctions, iteration_text, method, place


@dataclass(frozen=True)
class TrialRow:
    """A trial of the list: in the queue, failed, or any."""

    key: str
    """Plan and trial: a trial can be in several plans."""
    view: TrialView
    position: int | None = None
    """In the queue, from 1."""
    seconds: float | None = None
    """That its next stage is expected to take."""


class TrialList:
    """The trials of the newest snapshot as rows."""

    def __init__(self) -> None:
        self._rows: dict[str, TrialRow] = {}
        self._by_id: dict[str, TrialView] = {}

    def update(self, snapshot: Snapshot) -> None:
        """Take in a snapshot. The row of a trial that has not changed stays the same object, so that a filter has
        to read again only what did: of 10,000 trials some twenty twice a second."""
        known, self._rows = self._rows, {}
        for view in snapshot.trials:
            key = f"{view.trial.plan}/{view.trial.id}"
            row = known.get(key)
            self._rows[key] = row if row and row.view is view else TrialRow(key, view)
        self._by_id = {view.trial.id: view for view in snapshot.trials}

    def all(self) -> list[TrialRow]:
        """Return every trial in the order of its plan."""
        return list(self._rows.values())

    def unfinished(self) -> list[TrialRow]:
        """Return what failed, is blocked or was cancelled."""
        states = (State.FAILED, State.BLOCKED, State.CANCELLED)
        return [row for row in self._rows.values() if row.view.state in states]

    def queue(self, snapshot: Snapshot) -> list[TrialRow]:
        """Return what waits, first to start first."""
        rows = []
        for position, queued in enumerate(snapshot.queue, 1):
            view = self._by_id.get(queued.trial)
            if view is not None:
                key = f"{view.trial.plan}/{view.trial.id}"
                rows.append(TrialRow(key, view, position, queued.seconds))
        return rows

    def trial(self, trial: str) -> TrialView | None:
        """Return a trial by its id."""
        return self._by_id.get(trial)


def goal(view: TrialView) -> str:
    """Return the sparsity of the iteration a trial is at."""
    return (
        view.trial.sparsities[view.iteration]
        if view.iteration < len(view.trial.sparsities)
        else "0"
    )


def _state(view: TrialView) -> Cell:
    """Say what a trial waits for, or what became of it."""
    waiting = view.state is State.WAITING
    return Cell(view.reason or ("for a free slot" if waiting else view.state), _glyph(view).style)


def _glyph(view: TrialView) -> Cell:
    return Cell(*t.STATES.get(view.state, ("?", "")))


def _share(view: TrialView) -> float:
    return t.share(view.steps_done, view.steps)


def _percent(view: TrialView) -> str:
    return f"{100 * _share(view):.0f}%" if view.steps else t.DASH


@lru_cache(maxsize=1)
def trial_columns(study: Distinctions) -> tuple[Column[TrialRow], ...]:
    """Return the columns, with one for the plan, and one for network, data set and recipe, where those vary."""
    varied: list[Column[TrialRow]] = []
    if study.plans:
        varied.append(Column("plan", "PLAN", 10, lambda r: Cell(r.view.trial.plan), rank=3))
    if study.places:
        width = 9 * len(study.places)
        varied.append(
            Column(
                "place", "NETWORK", width, lambda r: Cell(place(r.view.trial.labels, study)), rank=2
            )
        )
    return (
        Column("position", "#", 4, lambda r: Cell("" if r.position is None else str(r.position), "dim"),
               right=True, order=lambda r: r.position, rank=6),
        Column("glyph", "", 1, lambda r: _glyph(r.view), order=lambda r: r.view.state),
        Column("trial", "TRIAL", IDENTIFIER, lambda r: Cell(r.view.trial.id[:IDENTIFIER])),
        *varied,
        Column("method", "METHOD", 13, lambda r: Cell(method(r.view.trial.labels, study)), flex=True),
        Column("sparsity", "SPARS", 6, lambda r: Cell(t.sparsity(goal(r.view))), right=True,
               order=lambda r: float(goal(r.view))),
        Column("seed", "SEED", study.seed_width, lambda r: Cell(str(r.view.trial.seeds)), right=True,
               order=lambda r: r.view.trial.seeds),
        Column("phase", "AT", 7, lambda r: Cell(iteration_text(r.view.iteration, len(r.view.trial.path) - 1)), rank=4,
               order=lambda r: r.view.iteration),
        Column("done", "DONE", 4, lambda r: Cell(_percent(r.view)), right=True, rank=5,
               order=lambda r: _share(r.view)),
        Column("estimate", "EST", 5, lambda r: Cell(t.duration(r.seconds) if r.position else ""), right=True,
               rank=7, order=lambda r: r.seconds),
        Column("priority", "PRI", 3, lambda r: Cell(f"{r.view.priority:+d}" if r.view.priority else ""), right=True,
               order=lambda r: r.view.priority, rank=8),
        Column("state", "STATE", 14, lambda r: _state(r.view), flex=True),
    )  # fmt: skip


def failure_of(snapshot: Snapshot, trial: str) -> FailureView | None:
    """Return the failure that stopped a trial, the last one first."""
    found = [view for view in snapshot.failures if trial in view.trials]
    return max(found, key=lambda view: view.time, default=None)

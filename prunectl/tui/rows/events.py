"""What a scheduler did."""

from __future__ import annotations

from dataclasses import dataclass

from prunectl.monitor.snapshot import EventView, Snapshot
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.rows.study import IDENTIFIER, Distinctions, method
from prunectl.tui.rows.trials import TrialList

FAILURES = ("stage_failed", "blocked", "study_stopped")
STYLES = dict.fromkeys(FAILURES, "bad") | {"stage_done": "good"}


@dataclass(frozen=True)
class EventRow:
    """Something that happened."""

    key: str
    view: EventView
    about: str
    """The trial it is about, in words."""


def event_rows(
    snapshot: Snapshot, trials: TrialList, study: Distinctions, failures: bool
) -> list[EventRow]:
    """Return the events, newest first; only those of failures where asked for."""
    rows = [
        EventRow(f"{v.time:.6f}/{v.kind}/{v.key or number}", v, _about(v, trials, study))
        for number, v in enumerate(snapshot.events)
        if v.kind in FAILURES or not failures
    ]
    return rows[::-1]


def _about(view: EventView, trials: TrialList, study: Distinctions) -> str:
    if not view.trials:
        return ""
    found = trials.trial(view.trials[0])
    if found is None or view.key not in found.trial.path:
        return view.trials[0][:IDENTIFIER]
    trial = found.trial
    iteration = trial.path.index(view.key)
    if iteration == 0:
        return f"dense seed {trial.seeds}"
    sparsity = t.sparsity(trial.sparsities[iteration])
    return f"{method(trial.labels, study)} {sparsity} seed {trial.seeds}"


def _what(row: EventRow) -> Cell:
    text = " · ".join(filter(None, (row.view.text, row.about)))
    return Cell(text, STYLES.get(row.view.kind, ""))


EVENTS: tuple[Column[EventRow], ...] = (
    Column("time", "TIME", 8, lambda r: Cell(t.clock(r.view.time), "dim"), order=lambda r: r.view.time),
    Column("what", "WHAT", 16, _what, flex=True),
)  # fmt: skip

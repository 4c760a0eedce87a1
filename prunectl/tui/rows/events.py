"""What a scheduler did."""

from __future__ import annotations

from dataclasses import dataclass

from prunectl.monitor.snapshot import EventView, Snapshot
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.rows.study import IDENTIFIER, Study, method
from prunectl.tui.rows.trials import TrialList


@dataclass(frozen=True)
class EventRow:
    """Something that happened."""

    key: str
    view: EventView
    what: str
    """The trials it is about, in words."""
    now: float


BAD_EVENTS = ("stage_failed", "blocked", "study_stopped")


def event_rows(
    snapshot: Snapshot, trials: TrialList, study: Study, failures: bool
) -> list[EventRow]:
    """Newest first; only those of failures where asked for."""
    rows = []
    for number, view in enumerate(snapshot.events):
        if failures and view.kind not in BAD_EVENTS:
            continue
        key = f"{view.time:.6f}/{view.kind}/{view.key or number}"
        rows.append(EventRow(key, view, _about(view, trials, study), snapshot.time))
    rows.reverse()
    return rows


def _about(view: EventView, trials: TrialList, study: Study) -> str:
    if not view.trials:
        return ""
    trial = trials.trial(view.trials[0])
    if trial is None:
        return view.trials[0][:IDENTIFIER]
    if view.key is not None and view.key in trial.path:
        iteration = trial.path.index(view.key)
        if iteration == 0:
            return f"dense seed {trial.seed}"
        return f"{method(trial.labels, study)} {t.sparsity(trial.sparsities[iteration])} seed {trial.seed}"
    return trial.trial[:IDENTIFIER]


def _event_style(view: EventView) -> str:
    if view.kind in BAD_EVENTS:
        return "bad"
    return "good" if view.kind == "stage_done" else ""


EVENTS: tuple[Column[EventRow], ...] = (
    Column("time", "TIME", 8, lambda r: Cell(t.clock(r.view.time), "dim"), order=lambda r: r.view.time),
    Column("what", "WHAT", 16, lambda r: Cell(" · ".join(x for x in (r.view.text, r.what) if x),
           _event_style(r.view)), flex=True),
)  # fmt: skip

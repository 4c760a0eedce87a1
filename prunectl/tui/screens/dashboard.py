"""How the run stands: devices, running stages, the queue, what happened, and how many seeds are in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from prunectl.monitor.snapshot import EventView, RunningView, Snapshot, TrialView
from prunectl.spec.state import State
from prunectl.tui import text as t
from prunectl.tui.keymap import hint
from prunectl.tui.requests import Request
from prunectl.tui.rows.coverage import coverage_columns, coverage_rows
from prunectl.tui.rows.devices import DEVICES, DeviceRow
from prunectl.tui.rows.events import EVENTS, EventRow, event_rows
from prunectl.tui.rows.running import running_columns, trouble
from prunectl.tui.rows.study import Distinctions
from prunectl.tui.rows.trials import TrialRow, trial_columns
from prunectl.tui.screens.base import TRIAL_KEYS, View
from prunectl.tui.screens.trial import TrialScreen
from prunectl.tui.widgets.table import KeyedTable

UPPER = ("devices", "running")
LOWER = ("trials", "events", "coverage")
"""Panels that a narrow screen shows one at a time."""
LISTS = ("queue", "failures", "all")
MINUTE = 60.0
MEANS = 14
"""Of a device's utilisation over the last minute."""
EDGE = 3
"""Lines of a table beside its rows: the border and the header."""
NO_TRIALS = "No trials yet.\n`prunectl run PLAN.toml` queues a plan; this view will follow it."


class Dashboard(View):
    """The first view."""

    NAME = "Dashboard"
    PRIMARY = "trials"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", key_display="⏎", id="view.open", tooltip="Open the trial"),
        Binding("space", "app.pause", "Pause", id="app.pause", tooltip="Freeze what is shown; the run goes on"),
        *TRIAL_KEYS,
        Binding("F", "list", "Queue, failures or all trials", show=False, id="dashboard.list"),
        Binding("D", "drain", "Drain the device, or use it again", show=False, id="dashboard.drain"),
        Binding("tab", "panel(1)", "Next panel", show=False, id="dashboard.next-panel"),
        Binding("shift+tab", "panel(-1)", "Panel before", show=False, id="dashboard.panel-before"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.listed: str | None = None
        """Which trials are listed; None: the queue while there is one, then all."""
        self.lower = "trials"
        """The panel that a narrow screen has below."""
        self._past: dict[str, deque[tuple[float, float | None]]] = {}
        """Time and utilisation in percent, by device."""

    def content(self) -> ComposeResult:
        yield KeyedTable(DEVICES, id="devices", title="Devices")
        yield KeyedTable(running_columns(Distinctions()), id="running", title="Running",
                         empty="Nothing runs at the moment.")  # fmt: skip
        with Horizontal(id="below"):
            yield KeyedTable(trial_columns(Distinctions()), id="trials", title="Trials",
                             empty="Reading the store …")  # fmt: skip
            with Vertical(id="right"):
                yield KeyedTable(EVENTS, id="events", title="Events", header=False,
                                 empty="Nothing has happened yet.")  # fmt: skip
                yield KeyedTable(coverage_columns((), 8), id="coverage", title="Coverage", cells=True,
                                 empty="No sparsities planned.")  # fmt: skip

    def on_mount(self) -> None:
        """Show only the trials: nothing else is known yet."""
        for name in UPPER:
            self.panel(name).display = False
        self.panel("trials").focus()

    # snapshots

    def show(self, snapshot: Snapshot) -> None:
        running = self.panel("running")
        was_running = running.display
        running.display = bool(snapshot.running) or snapshot.scheduler.alive
        running.apply(snapshot.running, running_columns(self.viewer.study))
        running.describe(f"Running {len(snapshot.running)}", _troubles(snapshot.running))
        self._show_devices(snapshot)
        self._show_trials(snapshot)
        self._show_events(snapshot)
        self._show_coverage(snapshot)
        self._fit(snapshot)
        # A run has begun: go where it is seen, unless the user has chosen a panel.
        if not was_running and snapshot.running and self.panel("trials").has_focus:
            running.focus()

    def _show_devices(self, snapshot: Snapshot) -> None:
        devices = self.panel("devices")
        devices.display = bool(snapshot.devices)
        listed = []
        for view in snapshot.devices:
            # A minute has 120 snapshots, two a second, and some more where requests hasten them.
            past = self._past.setdefault(view.id, deque(maxlen=240))
            past.append((snapshot.time, view.utilisation))
            listed.append(DeviceRow(view.id, view, _last_minute(past, snapshot.time)))
        devices.apply(listed)
        drain = hint("dashboard.drain", "D")
        devices.describe(f"Devices {len(listed)}", f"{drain}: drain or use again")

    def _show_trials(self, snapshot: Snapshot) -> None:
        trial_list, listed = self.viewer.trial_list, self._list_of(snapshot)
        key = hint("dashboard.list", "F")
        if listed == "queue":
            items = trial_list.queue(snapshot)
            resting = (State.WAITING, State.HELD, State.INTERRUPTED)
            waiting = sum(snapshot.counts.get(state, 0) for state in resting)
            title = f"Queue {len(items)}" + (f" of {waiting}" if waiting > len(items) else "")
            empty = f"Nothing waits. {key}: failures, then all trials."
        elif listed == "failures":
            items = trial_list.unfinished()
            title = f"Failed, blocked and cancelled {len(items)}"
            empty = f"Nothing failed and nothing was cancelled. {key}: all trials."
        else:
            items = trial_list.all()
            title, empty = f"All trials {len(items)}", ""
        trials = self.panel("trials")
        trials.empty = empty if snapshot.trials else NO_TRIALS
        trials.apply(items, trial_columns(self.viewer.study))
        sorting = f"{hint('view.sort-left', ',')} {hint('view.sort-right', '.')}"
        trials.describe(title, f"{key}: queue, failures, all · {sorting} sort")

    def _show_events(self, snapshot: Snapshot) -> None:
        viewer, only_failures = self.viewer, self.listed == "failures"
        events = self.panel("events")
        events.apply(event_rows(snapshot, viewer.trial_list, viewer.study, only_failures))
        failed = snapshot.counts.get(State.FAILED, 0)
        note = f"{failed} failed · {hint('dashboard.list', 'F')}: only failures" if failed else ""
        events.describe("Events", note)

    def _show_coverage(self, snapshot: Snapshot) -> None:
        rows, sparsities = coverage_rows(snapshot, self.viewer.study)
        width = max((len(row.label) for row in rows), default=8)
        coverage = self.panel("coverage")
        coverage.apply(rows, coverage_columns(tuple(sparsities), width))
        seeds = max((view.total for view in snapshot.coverage), default=0)
        coverage.describe(f"Coverage: seeds done of {seeds}", "⏎ leaderboard" if rows else "")

    def _fit(self, snapshot: Snapshot) -> None:
        """Give the tables on top what they need, and the list below at least a third."""
        # 3 lines are header and footer; the lists below keep 12 lines of a wide screen, 7 of a narrow one.
        height = max(1, self.size.height - 3)
        top = min(len(snapshot.devices) + EDGE, max(4, height // 4)) if snapshot.devices else 0
        room = height - top - (12 if self.has_class("-wide") else 7)
        self.panel("devices").styles.height = top
        self.panel("running").styles.height = max(4, min(len(snapshot.running) + EDGE, room))

    def resized(self) -> None:
        self._choose_lower()
        if self.snapshot is not None:
            self.call_after_refresh(self._fit, self.snapshot)

    # panels

    def action_panel(self, step: int) -> None:
        """Go to another panel; a narrow screen shows the lower ones one at a time."""
        upper = [name for name in UPPER if self.panel(name).display]
        panels = (*upper, *LOWER)
        name = self.panel_after(panels, step, panels[0])
        if name in LOWER:
            self.lower = name
            self._choose_lower()
        self.panel(name).focus()

    def _choose_lower(self) -> None:
        for name in LOWER:
            self.panel(name).set_class(name != self.lower, "-hidden")
        self.query_one("#right").set_class(self.lower == "trials", "-hidden")

    def _list_of(self, snapshot: Snapshot) -> str:
        return self.listed or ("queue" if snapshot.queue else "all")

    def action_list(self) -> None:
        """List the queue, the failures, or all trials."""
        if self.snapshot is None:
            return
        following = LISTS[(LISTS.index(self._list_of(self.snapshot)) + 1) % len(LISTS)]
        if following == "queue" and not self.snapshot.queue:
            following = "failures"
        self.listed = following
        self.show(self.snapshot)

    # trials

    def chosen_trials(self) -> list[TrialView]:
        item = self.table().item
        if isinstance(item, TrialRow):
            return [item.view]
        view = item.view if isinstance(item, EventRow) else item
        if not isinstance(view, RunningView | EventView):
            return []
        found = map(self.viewer.trial_list.trial, view.trials)
        return [trial for trial in found if trial is not None]

    def action_open(self) -> None:
        """Open the trial under the cursor, or the leaderboard from the coverage."""
        table = self.table()
        if table.id == "coverage":
            self.viewer.action_view("Leaderboard")
            return
        chosen = [view.trial.id for view in self.chosen_trials()]
        siblings = [row.view.trial.id for row in table.rows if isinstance(row, TrialRow)]
        if chosen:
            self.app.push_screen(TrialScreen(chosen[0], siblings or chosen))

    def action_drain(self) -> None:
        """Take a device out of use, or use it again."""
        item = self.panel("devices").item
        if item is None:
            self.notify("No device is in use.", severity="warning")
            return
        drained = item.view.state == "drained"
        self.viewer.send(Request("undrain" if drained else "drain", device=item.view.id))


def _last_minute(
    past: Sequence[tuple[float, float | None]], now: float
) -> tuple[float | None, ...]:
    """Return the means of the last minute in 14 parts, oldest first; None where nothing was measured."""
    parts: list[list[float]] = [[] for _ in range(MEANS)]
    for moment, value in past:
        known, age = t.finite(value), now - moment
        if known is not None and age <= MINUTE:
            last = MEANS - 1
            parts[max(0, min(last, last - int(age / MINUTE * MEANS)))].append(known)
    return tuple(sum(part) / len(part) if part else None for part in parts)


def _troubles(running: Sequence[RunningView]) -> str:
    wrong = sum(1 for view in running if trouble(view))
    return f"! {t.plural(wrong, 'stage')} in trouble: ⏎ shows" if wrong else "rows keep their place"

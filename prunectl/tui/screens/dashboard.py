"""How the run stands: devices, running stages, the queue, what happened, and how many seeds are in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from prunectl.monitor.snapshot import Snapshot, TrialView
from prunectl.tui import text as t
from prunectl.tui.confirm import Request
from prunectl.tui.keymap import hint
from prunectl.tui.rows.coverage import CoverageRow, coverage_columns, coverage_rows
from prunectl.tui.rows.devices import DEVICES, DeviceRow
from prunectl.tui.rows.events import EVENTS, EventRow, event_rows
from prunectl.tui.rows.running import RUNNING, RunningRow, running_rows
from prunectl.tui.rows.study import fitted_columns
from prunectl.tui.rows.trials import TRIALS, TrialRow
from prunectl.tui.screens.base import TRIAL_KEYS, View
from prunectl.tui.widgets.table import KeyedTable

LISTS = ("queue", "failures", "all")
MINUTE = 60.0
NO_TRIALS = "No trials yet.\n`prunectl run PLAN.toml` queues a plan; this view will follow it."


class Dashboard(View):
    """The first view."""

    NAME = "Dashboard"
    FOOTER = ("view.open", "view.filter", "app.pause", "trial.cancel", "trial.hold", "trial.retry", "app.help",
              "app.quit")  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", key_display="⏎", id="view.open", tooltip="Open the trial"),
        *TRIAL_KEYS,
        Binding("F", "list", "Queue, failures or all trials", show=False, id="dashboard.list"),
        Binding(
            "D", "drain", "Drain the device, or use it again", show=False, id="dashboard.drain"
        ),
        Binding("tab", "panel(1)", "Next panel", show=False, id="dashboard.next-panel"),
        Binding("shift+tab", "panel(-1)", "Panel before", show=False, id="dashboard.panel-before"),
        Binding(
            "space",
            "app.pause",
            "Pause",
            id="app.pause",
            tooltip="Freeze what is shown; the run goes on",
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.listed: str | None = None
        """Which trials are listed; None: the queue while there is one, then all."""
        self.lower = "trials"
        """The panel that a narrow screen has below."""
        self._past: dict[str, deque[tuple[float, float | None]]] = {}

    def content(self) -> ComposeResult:
        devices: KeyedTable[DeviceRow] = KeyedTable(
            DEVICES, lambda r: r.key, title="Devices", called="devices"
        )
        running: KeyedTable[RunningRow] = KeyedTable(
            RUNNING, lambda r: r.key, title="Running", called="running"
        )
        trials: KeyedTable[TrialRow] = KeyedTable(
            TRIALS, lambda r: r.key, title="Trials", called="trials"
        )
        events: KeyedTable[EventRow] = KeyedTable(
            EVENTS, lambda r: r.key, title="Events", called="events", header=False
        )
        coverage: KeyedTable[CoverageRow] = KeyedTable(
            coverage_columns((), ()),
            lambda r: r.key,
            title="Coverage",
            called="coverage",
            cells=True,
        )
        running.empty = "Nothing runs at the moment."
        events.empty = "Nothing has happened yet."
        coverage.empty = "No sparsities planned."
        trials.empty = "Reading the store …"
        yield devices
        yield running
        with Horizontal(id="below"):
            yield trials
            with Vertical(id="right"):
                yield events
                yield coverage

    def on_mount(self) -> None:
        """Nothing is known yet."""
        self.panel("devices").display = False
        self.panel("running").display = False
        self.panel("trials").focus()

    def on_screen_resume(self) -> None:
        """Show what came in meanwhile."""
        self.viewer.refresh_view(self)

    def panel(self, name: str) -> KeyedTable[Any]:
        """A panel by its name."""
        return self.query_one(f"#{name}", KeyedTable)

    def primary(self) -> KeyedTable[Any]:
        return self.panel("trials")

    # snapshots

    def show(self, snapshot: Snapshot) -> None:
        viewer = self.viewer
        study = viewer.study
        self._show_devices(snapshot)
        running = self.panel("running")
        was_running = running.display
        running.display = bool(snapshot.running) or snapshot.scheduler.alive
        running.apply(running_rows(snapshot, study), fitted_columns(RUNNING, study))
        running.describe(f"Running {len(snapshot.running)}", _troubles(running.items))
        self._show_trials(snapshot)
        events = self.panel("events")
        events.apply(event_rows(snapshot, viewer.trial_list, study, self.listed == "failures"))
        failed = snapshot.counts.get("failed", 0)
        events.describe(
            "Events",
            f"{failed} failed · {hint('dashboard.list', 'F')}: only failures" if failed else "",
        )
        covered, sparsities = coverage_rows(snapshot, study)
        columns = coverage_columns(sparsities, covered)
        coverage = self.panel("coverage")
        if [c.name for c in columns] != [c.name for c in coverage.columns]:
            coverage.apply(covered, columns)
        else:
            coverage.apply(covered)
        seeds = max((view.total for view in snapshot.coverage), default=0)
        coverage.describe(f"Coverage: seeds done of {seeds}", "⏎ leaderboard" if covered else "")
        self._fit(snapshot)
        if not was_running and snapshot.running and self.panel("trials").has_focus:
            running.focus()

    def _show_devices(self, snapshot: Snapshot) -> None:
        devices = self.panel("devices")
        devices.display = bool(snapshot.devices)
        listed = []
        for view in snapshot.devices:
            past = self._past.setdefault(view.id, deque(maxlen=240))
            past.append((snapshot.time, view.utilisation))
            while past and snapshot.time - past[0][0] > MINUTE:
                past.popleft()
            listed.append(DeviceRow(view.id, view, _minute(past, snapshot.time)))
        devices.apply(listed)
        devices.describe(
            f"Devices {len(listed)}", f"{hint('dashboard.drain', 'D')}: drain or use again"
        )

    def _show_trials(self, snapshot: Snapshot) -> None:
        viewer = self.viewer
        trials = self.panel("trials")
        listed = self.listed or ("queue" if snapshot.queue else "all")
        empty = not snapshot.trials
        key = hint("dashboard.list", "F")
        sorting = f"{hint('view.sort-left', ',')} {hint('view.sort-right', '.')}"
        if listed == "queue":
            items = viewer.trial_list.queue(snapshot)
            waiting = sum(
                snapshot.counts.get(state, 0) for state in ("waiting", "held", "interrupted")
            )
            title = f"Queue {len(items)}" + (f" of {waiting}" if waiting > len(items) else "")
            trials.empty = (
                NO_TRIALS if empty else f"Nothing waits. {key}: failures, then all trials."
            )
        elif listed == "failures":
            items = viewer.trial_list.unfinished()
            title = f"Failed, blocked and cancelled {len(items)}"
            trials.empty = (
                NO_TRIALS
                if empty
                else f"Nothing failed and nothing was cancelled. {key}: all trials."
            )
        else:
            items = viewer.trial_list.all()
            title = f"All trials {len(items)}"
            trials.empty = NO_TRIALS
        columns = fitted_columns(TRIALS, viewer.study)
        trials.apply(items, columns)
        trials.describe(title, f"{key}: queue, failures, all · {sorting} sort")

    def _fit(self, snapshot: Snapshot) -> None:
        """Give the tables on top what they need, and the list below at least a third."""
        height = max(1, self.size.height - 3)
        wide = self.has_class("-wide")
        devices, running = self.panel("devices"), self.panel("running")
        edge = 3
        top = min(len(snapshot.devices) + edge, max(4, height // 4)) if snapshot.devices else 0
        _set_height(devices, top)
        room = height - top - (12 if wide else 7)
        _set_height(running, max(4, min(len(snapshot.running) + edge, room)))

    def resized(self) -> None:
        self._choose_lower()
        if self.snapshot is not None:
            self.call_after_refresh(self._fit, self.snapshot)

    # panels

    def _panels(self) -> list[KeyedTable[Any]]:
        names = ("devices", "running", "trials", "events", "coverage")
        return [
            self.panel(name)
            for name in names
            if name not in ("devices", "running") or self.panel(name).display
        ]

    def action_panel(self, step: int) -> None:
        """Go to another panel; a narrow screen shows the lower ones one at a time."""
        panels = self._panels()
        at = panels.index(self.focused) if self.focused in panels else 0
        chosen = panels[(at + step) % len(panels)]
        if chosen.id in ("trials", "events", "coverage"):
            self.lower = str(chosen.id)
            self._choose_lower()
        chosen.focus()

    def _choose_lower(self) -> None:
        for name in ("trials", "events", "coverage"):
            self.panel(name).set_class(name != self.lower, "-hidden")
        self.query_one("#right").set_class(self.lower == "trials", "-hidden")

    def action_list(self) -> None:
        """List the queue, the failures, or all trials."""
        if self.snapshot is None:
            return
        now = self.listed or ("queue" if self.snapshot.queue else "all")
        following = LISTS[(LISTS.index(now) + 1) % len(LISTS)]
        if following == "queue" and not self.snapshot.queue:
            following = "failures"
        self.listed = following
        self.show(self.snapshot)

    # trials

    def chosen_trials(self) -> list[TrialView]:
        return list(self._chosen())

    def _chosen(self) -> Iterator[TrialView]:
        item = self.table().item
        names: tuple[str, ...] = ()
        if isinstance(item, TrialRow):
            yield item.view
        elif isinstance(item, RunningRow | EventRow):
            names = item.view.trials
        for name in names:
            view = self.viewer.trial_list.trial(name)
            if view is not None:
                yield view

    def action_open(self) -> None:
        """Open the trial under the cursor."""
        table = self.table()
        if table.id == "coverage":
            self.viewer.action_view("Leaderboard")
            return
        chosen = self.chosen_trials()
        if not chosen:
            return
        siblings = [row.view.trial for row in table.rows if isinstance(row, TrialRow)]
        self.viewer.open_trial(chosen[0].trial, siblings or [view.trial for view in chosen])

    def on_keyed_table_opened(self, message: KeyedTable.Opened) -> None:
        """Enter on a row, or a click on the row under the cursor."""
        self.action_open()

    def action_drain(self) -> None:
        """Take a device out of use, or use it again."""
        item = self.panel("devices").item
        if not isinstance(item, DeviceRow):
            self.notify("No device is in use.", severity="warning")
            return
        do = "undrain" if item.view.state == "drained" else "drain"
        self.viewer.send(Request(do, device=item.view.id))  # type: ignore[arg-type]


def _set_height(table: KeyedTable[Any], height: int) -> None:
    if table.styles.height is None or table.styles.height.value != height:
        table.styles.height = height


def _minute(past: deque[tuple[float, float | None]], now: float) -> tuple[float | None, ...]:
    """The last minute in 14 means."""
    slots: list[list[float]] = [[] for _ in range(14)]
    for moment, value in past:
        known = t.finite(value)
        if known is not None:
            slots[max(0, min(13, 13 - int((now - moment) / MINUTE * 14)))].append(known)
    return tuple(sum(slot) / len(slot) if slot else None for slot in slots)


def _troubles(items: list[RunningRow]) -> str:
    wrong = sum(1 for row in items if row.trouble)
    return f"! {t.plural(wrong, 'stage')} in trouble: ⏎ shows" if wrong else "rows keep their place"

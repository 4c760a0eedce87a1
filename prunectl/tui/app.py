"""The program: three views and what is below them, one thread that watches, and requests that it leaves.

It is a viewer. It can start, crash or run twice without touching a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from prunectl.tui import keymap
from prunectl.tui.keymap import Context
from prunectl.tui.poller import SnapshotReady, WatchFailed
from prunectl.tui.requests import Request
from prunectl.tui.screens.base import FilterBar, View
from prunectl.tui.screens.claims import Claims
from prunectl.tui.screens.dashboard import Dashboard
from prunectl.tui.screens.dialogs import Choose, Confirm
from prunectl.tui.screens.help import Help, keys_of
from prunectl.tui.screens.leaderboard import Leaderboard
from prunectl.tui.screens.sql import Sql
from prunectl.tui.screens.trial import TrialScreen
from prunectl.tui.status_lines import counts
from prunectl.tui.text import plural
from prunectl.tui.viewer import StoreApp
from prunectl.tui.widgets.header import Header
from prunectl.tui.widgets.table import KeyedTable


class Viewer(StoreApp, inherit_bindings=False):
    """The terminal UI of a store. Of Textual's own keys, ctrl+q and ctrl+c, none is inherited: they are bound here."""

    TITLE = "prunectl"
    CSS_PATH = "app.tcss"
    MODES: ClassVar = {"Dashboard": Dashboard, "Leaderboard": Leaderboard, "SQL": Sql}
    DEFAULT_MODE = "Dashboard"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "view('Dashboard')", "Dashboard", show=False, id="app.dashboard"),
        Binding("2", "view('Leaderboard')", "Leaderboard", show=False, id="app.leaderboard"),
        Binding("3", "view('SQL')", "SQL", show=False, id="app.sql"),
        Binding("space", "pause", "Pause the view", show=False, id="app.pause"),
        Binding("f5", "poll_now", "Look at the store now", show=False, id="app.hurry"),
        Binding("t", "theme", "Theme (for this time; TEXTUAL_THEME keeps one)", show=False, id="app.theme"),
        Binding("colon", "command_palette", "Commands", show=False, key_display=":", id="app.commands"),
        Binding("S", "stop_run", "Stop the run (asks first)", show=False, id="app.stop"),
        Binding("question_mark,f1", "help", "Help", key_display="?", id="app.help"),
        Binding("q,ctrl+q,ctrl+c", "leave", "Quit", key_display="q", id="app.quit",
                tooltip="Leave; a run goes on"),
    ]  # fmt: skip

    def on_mount(self) -> None:
        """Start watching."""
        self.poller.start()
        self.set_interval(1.0, self._tick)

    def on_unmount(self) -> None:
        """Stop watching; nobody waits for it."""
        self.poller.stop()

    # snapshots

    @property
    def view(self) -> View | None:
        """The view that is shown, be it under a window."""
        return next((s for s in reversed(self.screen_stack) if isinstance(s, View)), None)

    def on_snapshot_ready(self, message: SnapshotReady) -> None:
        """Give the newest snapshot to the view that is shown."""
        was_alive = self.snapshot is not None and self.snapshot.scheduler.alive
        self.snapshot, self.trouble = message.snapshot, ""
        if was_alive and not message.snapshot.scheduler.alive:
            self.notify(f"The scheduler has ended: {counts(message.snapshot)}.", markup=False)
        self._show()

    def on_watch_failed(self, message: WatchFailed) -> None:
        """Say so, and go on showing what is known."""
        self.trouble = message.text
        self._tick()

    def _show(self) -> None:
        if self.view is not None:
            with self.batch_update():  # one repaint of all panels instead of one each
                self.view.catch_up()

    def _tick(self) -> None:
        if self.view is not None:
            self.view.tick()

    async def on_event(self, event: events.Event) -> None:
        """Let the watcher look often again when a key is pressed."""
        if isinstance(event, events.Key):
            self.poller.speed_up()
        await super().on_event(event)

    def on_header_chosen(self, message: Header.Chosen) -> None:
        """Go to the view whose tab was clicked."""
        self.action_view(message.mode)

    # everywhere

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action == "stop_run" and self.readonly)

    def action_pause(self) -> None:
        """Freeze what is shown; the run and the watching go on."""
        self.paused = not self.paused
        self._show()

    def action_poll_now(self) -> None:
        """Look at the store now."""
        self.poller.poll_now()

    def action_theme(self) -> None:
        """Try another theme."""
        self.search_themes()

    def action_help(self) -> None:
        """Show all keys of this view."""
        if isinstance(self.screen, Help):
            return
        note = f"own keys: {keymap.with_tilde(keymap.location())}"
        if self.readonly:
            note = f"read only: keys that change a run are off · {note}"
        self.push_screen(Help(keys_of(self.screen), note))

    def action_leave(self) -> None:
        """End the viewer, not the run."""
        self.exit()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield every key that works now by its name, and two of Textual's own commands."""
        seen = {"command_palette", "theme"}
        for key in keys_of(screen):
            group = key.key.partition(".")[0]
            node, action = key.active.node, key.active.binding.action
            if not key.active.enabled or group in ("table", key.key) or action in seen:
                continue
            seen.add(action)
            yield SystemCommand(
                f"{group}: {key.does}",
                f"{key.where}, key {key.keys}",
                partial(self.call_later, self.run_action, action, node),
            )
        yield SystemCommand(
            "app: Theme", "Preview a theme; TEXTUAL_THEME keeps one", self.action_theme
        )
        yield SystemCommand(
            "app: Save a picture", "Write the screen to an SVG file", self.action_screenshot
        )

    def action_stop_run(self) -> None:
        """Ask the scheduler to stop, if really meant."""
        snapshot = self.snapshot
        if snapshot is None or not snapshot.scheduler.alive:
            self.notify("No scheduler is running.", severity="warning")
            return
        running = plural(len(snapshot.running), "running stage")
        detail = (
            f"{running} will finish the epoch, at most 30 s, and be kept.\n"
            "The same `prunectl run` goes on from there later."
        )
        dialog = Confirm("Stop the run?", detail, "Let it run", "Stop it")
        self.confirm(dialog, Request("stop"))


CONTEXTS: tuple[Context, ...] = (
    ("the dashboard", (Viewer, Dashboard, KeyedTable)),
    ("the leaderboard", (Viewer, Leaderboard, KeyedTable)),
    ("the trial view", (Viewer, TrialScreen, KeyedTable)),
    ("the SQL view", (Viewer, Sql, KeyedTable)),
    ("the filter", (FilterBar,)),
    ("help", (Help,)),
    ("menus", (Choose,)),
    ("questions", (Confirm,)),
    ("the claims", (Claims,)),
)
"""What takes keys at the same time."""

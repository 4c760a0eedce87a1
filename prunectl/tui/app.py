"""The program: three views and what is below them, one thread that watches, and requests that it leaves.

It is a viewer. It can start, crash or run twice without touching a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from prunectl.monitor.snapshot import Snapshot
from prunectl.store.paths import StorePaths
from prunectl.store.requests import Answer
from prunectl.tui import keymap
from prunectl.tui.confirm import Asker, Request, asker
from prunectl.tui.keymap import Context, Keymap
from prunectl.tui.poller import INTERVAL, Poller, SnapshotReady, Source, WatchFailed
from prunectl.tui.results_reader import Reader
from prunectl.tui.rows.study import Study, study_of
from prunectl.tui.rows.trials import TrialList
from prunectl.tui.screens.base import Copies, FilterBar, View, keys_of, words_of
from prunectl.tui.screens.dashboard import Dashboard
from prunectl.tui.screens.dialogs import Choose, Confirm
from prunectl.tui.screens.help import Help, Key
from prunectl.tui.screens.leaderboard import Leaderboard
from prunectl.tui.screens.sql import Sql
from prunectl.tui.screens.trial import TrialScreen
from prunectl.tui.status_lines import counts
from prunectl.tui.widgets.header import Masthead
from prunectl.tui.widgets.table import KeyedTable


class Answered(Message):
    """What became of a request."""

    def __init__(self, request: Request, answer: Answer) -> None:
        super().__init__()
        self.request = request
        self.answer = answer


class Viewer(App[None]):
    """The terminal UI of a store."""

    TITLE = "prunectl"
    CSS_PATH = "app.tcss"
    MODES: ClassVar = {"Dashboard": Dashboard, "Leaderboard": Leaderboard, "SQL": Sql}
    DEFAULT_MODE = "Dashboard"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "view('Dashboard')", "Dashboard", show=False, id="app.dashboard"),
        Binding("2", "view('Leaderboard')", "Leaderboard", show=False, id="app.leaderboard"),
        Binding("3", "view('SQL')", "SQL", show=False, id="app.sql"),
        Binding("space", "pause", "Pause the view", show=False, id="app.pause"),
        Binding("f5", "hurry", "Look at the store now", show=False, id="app.hurry"),
        Binding("t", "theme", "Theme (for this time; TEXTUAL_THEME keeps one)", show=False, id="app.theme"),
        Binding("colon", "command_palette", "Commands", show=False, key_display=":", id="app.commands"),
        Binding("S", "stop_run", "Stop the run (asks first)", show=False, id="app.stop"),
        Binding("question_mark,f1", "help", "Help", key_display="?", id="app.help"),
        Binding("q,ctrl+q,ctrl+c", "leave", "Quit", key_display="q", id="app.quit",
                tooltip="Leave; a run goes on", priority=False),
    ]  # fmt: skip

    def __init__(
        self,
        paths: StorePaths,
        *,
        readonly: bool = False,
        plain_curves: bool = False,
        keys: Keymap | None = None,
        source: Callable[[], Source] | None = None,
        ask: Asker | None = None,
        reader: Reader | None = None,
        clock: Callable[[], float] = time.time,
        interval: float = INTERVAL,
    ) -> None:
        """`plain_curves`: without braille; `keys`: the user's own. The others replace, for tests, what looks at the
        store, carries requests, reads results, and tells the time."""
        super().__init__()
        self.paths = paths
        self.readonly = readonly
        keymap.use(keys or {})
        self.set_keymap({action: ",".join(listed) for action, listed in (keys or {}).items()})
        self.plain_curves = plain_curves
        self.reader = reader or Reader(paths)
        self.ask = ask or asker(paths)
        self.clock = clock
        self.snapshot: Snapshot | None = None
        """The newest."""
        self.paused = False
        self.trouble = ""
        self.study = Study()
        self.trial_list = TrialList()
        self.to_print: list[str] = []
        """On the terminal, after the end."""
        self._plans: tuple[str, ...] = ()
        self.poller = Poller(source or self._watcher, self, interval)

    def _watcher(self) -> Source:
        from prunectl.monitor.watcher import Watcher

        return Watcher(self.paths, outline_first=True)

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
        ended = self.snapshot is not None and self.snapshot.scheduler.alive
        self.snapshot, self.trouble = message.snapshot, ""
        if ended and not message.snapshot.scheduler.alive:
            self.notify(f"The scheduler has ended: {counts(message.snapshot)}.", markup=False)
        if not self.paused:
            self._give()
        self._tick()

    def on_watch_failed(self, message: WatchFailed) -> None:
        """Say so, and go on showing what is known."""
        self.trouble = message.text
        self._tick()

    def _give(self) -> None:
        snapshot = self.snapshot
        if snapshot is None:
            return
        plans = tuple(plan.digest for plan in snapshot.plans)
        if plans != self._plans:
            self._plans, self.study = plans, study_of(snapshot.trials)
        self.trial_list.update(snapshot, self.study)
        view = self.view
        if view is not None:
            with self.batch_update():
                view.take(snapshot)

    def _tick(self) -> None:
        view = self.view
        if view is not None:
            view.tick()

    def refresh_view(self, view: View) -> None:
        """A view has come to the front: show it what is known."""
        if self.snapshot is not None and (view.snapshot is None or not self.paused):
            self._give()
        self._tick()

    async def on_event(self, event: events.Event) -> None:
        """Keys make the watcher look often again."""
        if isinstance(event, events.Key):
            self.poller.attend()
        await super().on_event(event)

    # moving

    def action_view(self, name: str) -> None:
        """Go to one of the three views."""
        while isinstance(self.screen, TrialScreen):
            self.pop_screen()
        self.switch_mode(name)

    def on_masthead_chosen(self, message: Masthead.Chosen) -> None:
        """A tab was clicked."""
        self.action_view(message.mode)

    def open_trial(self, trial: str, siblings: Sequence[str] = ()) -> None:
        """Show a trial; `siblings` is the list it comes from."""
        self.push_screen(TrialScreen(trial, siblings or [trial]))

    # everywhere

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action == "stop_run" and self.readonly)

    def action_pause(self) -> None:
        """Freeze what is shown; the run and the watching go on."""
        self.paused = not self.paused
        if not self.paused:
            self._give()
        self._tick()

    def action_hurry(self) -> None:
        """Look at the store now."""
        self.poller.hurry()

    def action_theme(self) -> None:
        """Try another theme."""
        self.search_themes()

    def action_help(self) -> None:
        """All keys of this view."""
        if isinstance(self.screen, Help):
            return
        seen: dict[str, Key] = {}
        for where, binding, enabled in keys_of(self.screen):
            name = binding.id or binding.action
            shown = self.get_key_display(binding)
            if name in seen:
                keys = seen[name].keys
                shown = keys if shown in keys.split(" ") else f"{keys} {shown}"
            if does := words_of(binding):
                seen[name] = Key(name, shown, does, where, not enabled)
        order = {"this view": 0, "here": 1, "everywhere": 2}
        note = f"own keys: {keymap.told(keymap.location())}"
        if self.readonly:
            note = f"read only: keys that change a run are off · {note}"
        self.push_screen(Help(sorted(seen.values(), key=lambda key: order[key.where]), note))

    def action_leave(self) -> None:
        """End the viewer, not the run."""
        self.exit()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every key that works now by its name, and Textual's own."""
        seen = {"app.commands", "app.theme"}
        for where, binding, enabled in keys_of(screen):
            words = words_of(binding)
            if not enabled or not words or not binding.id or binding.action in seen:
                continue
            if binding.id in seen or binding.id.startswith("table."):
                continue
            seen |= {binding.id, binding.action}
            action = binding.action
            yield SystemCommand(
                f"{binding.id.partition('.')[0]}: {words}",
                f"{where}, key {self.get_key_display(binding)}",
                lambda action=action, node=screen: self._run_named(action, node),
            )
        yield SystemCommand(
            "app: Theme", "Preview a theme; TEXTUAL_THEME keeps one", self.action_theme
        )
        yield SystemCommand(
            "app: Save a picture", "Write the screen to an SVG file", self.action_screenshot
        )

    def _run_named(self, action: str, screen: Screen[object]) -> None:
        target = screen.focused if screen.focused is not None else screen
        for node in (target, screen, self):
            name = action.partition("(")[0].rpartition(".")[2]
            if hasattr(node, f"action_{name}"):
                self.call_later(self.run_action, action, node)
                return

    # requests

    def confirm(self, question: str, detail: str, safe: str, act: str, request: Request) -> None:
        """Ask, and send the request where it is meant."""

        def answered(meant: bool | None) -> None:
            if meant:
                self.send(request)

        self.push_screen(Confirm(question, detail, safe, act), answered)

    def action_stop_run(self) -> None:
        """Ask the scheduler to stop, if really meant."""
        snapshot = self.snapshot
        if snapshot is None or not snapshot.scheduler.alive:
            self.notify("No scheduler is running.", severity="warning")
            return
        running = len(snapshot.running)
        detail = (
            f"{running} running stage{'' if running == 1 else 's'} will finish the epoch, at most 30 s, and be kept.\n"
            "The same `prunectl run` goes on from there later."
        )
        self.confirm("Stop the run?", detail, "Let it run", "Stop it", Request("stop"))

    def send(self, request: Request) -> None:
        """Send a request in a thread; its answer is told when it comes."""
        if self.readonly:
            self.notify("This viewer only reads (--readonly).", severity="warning")
            return

        def carry() -> None:
            self.post_message(Answered(request, self.ask(request)))

        self.run_worker(carry, thread=True, group="requests", exit_on_error=False)

    def on_answered(self, message: Answered) -> None:
        """Tell, and look at what became of it."""
        severity = "information" if message.answer.ok else "error"
        self.notify(message.answer.text, severity=severity, markup=False)  # type: ignore[arg-type]
        self.poller.hurry()

    # copying

    def offer_copies(self, copies: Copies) -> None:
        """Let one be chosen and put it on the clipboard of the terminal (OSC 52)."""
        if not copies:
            self.notify("There is nothing to copy here.", severity="warning")
            return
        names = [f"{name}: {_start(text)}" for name, text in copies]
        names.append("print the first of these when prunectl ends")

        def chosen(index: int | None) -> None:
            if index is None:
                return
            if index == len(copies):
                self.to_print.append(copies[0][1])
                self.notify("It will be printed at the end.", markup=False)
                return
            name, text = copies[index]
            self.copy_to_clipboard(text)
            self.notify(f"Copied {name}: {_start(text)}", markup=False)

        self.push_screen(Choose("Copy", names), chosen)


CONTEXTS: tuple[Context, ...] = (
    ("the dashboard", (Viewer, Dashboard, KeyedTable)),
    ("the leaderboard", (Viewer, Leaderboard, KeyedTable)),
    ("the trial view", (Viewer, TrialScreen, KeyedTable)),
    ("the SQL view", (Viewer, Sql, KeyedTable)),
    ("the filter", (FilterBar,)),
    ("help", (Help,)),
    ("menus", (Choose,)),
    ("questions", (Confirm,)),
)
"""What takes keys at the same time."""


def _start(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:39] + "…"

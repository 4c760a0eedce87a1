"""The application as its screens know it: the store, its newest snapshot, and requests to its scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from textual.app import App
from textual.screen import ModalScreen

from prunectl.monitor.snapshot import Snapshot
from prunectl.store.paths import StorePaths
from prunectl.tui import keymap
from prunectl.tui.keymap import Keymap
from prunectl.tui.poller import INTERVAL, Poller, Source
from prunectl.tui.requests import Request, send_request
from prunectl.tui.results_reader import Reader
from prunectl.tui.rows.study import Distinctions, study_of
from prunectl.tui.rows.trials import TrialList


class StoreApp(App[None]):
    """What all screens share. `Viewer` adds the views and their keys."""

    def __init__(
        self,
        paths: StorePaths,
        *,
        readonly: bool = False,
        plain_curves: bool = False,
        keys: Keymap | None = None,
        source: Callable[[], Source] | None = None,
        interval: float = INTERVAL,
    ) -> None:
        """Create the program.

        Args:
            paths: the store.
            readonly: no key changes a run.
            plain_curves: draw without braille.
            keys: the user's own.
            source: makes what looks at the store; a test has its own.
            interval: seconds between two looks.
        """
        super().__init__()
        keymap.set_hints(keys or {})
        self.set_keymap(keys or {})
        self.paths = paths
        self.readonly = readonly
        self.plain_curves = plain_curves
        self.send_request = partial(send_request, paths)
        self.reader = Reader(paths)
        self.clock: Callable[[], float] = time.time
        self.poller = Poller(source or self._watcher, self, interval)
        self.snapshot: Snapshot | None = None
        """The newest."""
        self.paused = False
        self.trouble = ""
        """Why the store could not be read, in words."""
        self.study = Distinctions()
        self.trial_list = TrialList()
        self.to_print: list[str] = []
        """Printed on the terminal after the end."""
        self._listed: Snapshot | None = None
        self._plans: tuple[str, ...] = ()

    def _watcher(self) -> Source:
        from prunectl.monitor.watcher import Watcher

        return Watcher(self.paths, outline_first=True)

    def current(self) -> Snapshot | None:
        """Return the newest snapshot, with `study` and `trial_list` brought up to it."""
        snapshot = self.snapshot
        if snapshot is not None and snapshot is not self._listed:
            self._listed = snapshot
            plans = tuple(plan.digest for plan in snapshot.plans)
            if plans != self._plans:
                self._plans, self.study = plans, study_of(snapshot.trials)
            self.trial_list.update(snapshot)
        return snapshot

    def action_view(self, name: str) -> None:
        """Go to one of the three views, leaving what is open over the one shown."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.switch_mode(name)

    def confirm(self, dialog: ModalScreen[bool], request: Request) -> None:
        """Ask, and send the request if it is meant."""

        def answered(meant: bool | None) -> None:
            if meant:
                self.send(request)

        self.push_screen(dialog, answered)

    def send(self, request: Request) -> None:
        """Send a request in a thread; its answer is shown when it comes, and what became of it is looked at."""
        if self.readonly:
            self.notify("This viewer only reads (--readonly).", severity="warning")
            return

        def work() -> None:
            answer = self.send_request(request)
            severity: Any = "information" if answer.ok else "error"
            self.call_later(self.notify, answer.text, severity=severity, markup=False)
            self.poller.poll_now()

        self.run_worker(work, thread=True, group="requests", exit_on_error=False)

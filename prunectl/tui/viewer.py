"""The application as its screens know it: the store, its newest snapshot, and requests to its scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual.app import App

from prunectl.monitor.snapshot import Snapshot
from prunectl.store.paths import StorePaths
from prunectl.tui.requests import Request, RequestSender, request_sender
from prunectl.tui.results_reader import Reader
from prunectl.tui.rows.study import Study, study_of
from prunectl.tui.rows.trials import TrialList


class StoreApp(App[None]):
    """What all screens share. `Viewer` adds the views, the keys and the thread that watches."""

    def __init__(
        self,
        paths: StorePaths,
        *,
        readonly: bool = False,
        plain_curves: bool = False,
        send_request: RequestSender | None = None,
        reader: Reader | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`plain_curves` draws without braille; the others replace, for tests, what carries requests, reads results
        and tells the time."""
        super().__init__()
        self.paths = paths
        self.readonly = readonly
        self.plain_curves = plain_curves
        self.send_request = send_request or request_sender(paths)
        self.reader = reader or Reader(paths)
        self.clock = clock
        self.snapshot: Snapshot | None = None
        """The newest."""
        self.paused = False
        self.trouble = ""
        """Why the store could not be read, in words."""
        self.study = Study()
        self.trial_list = TrialList()
        self.to_print: list[str] = []
        """Printed on the terminal after the end."""
        self._listed: Snapshot | None = None
        self._plans: tuple[str, ...] = ()

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

    def send(self, request: Request) -> None:
        """Send a request in a thread; its answer is shown when it comes."""
        if self.readonly:
            self.notify("This viewer only reads (--readonly).", severity="warning")
            return

        def work() -> None:
            answer = self.send_request(request)
            severity: Any = "information" if answer.ok else "error"
            self.call_later(self.notify, answer.text, severity=severity, markup=False)
            self.call_later(self.poll_now)

        self.run_worker(work, thread=True, group="requests", exit_on_error=False)

    def poll_now(self) -> None:
        """Look at the store now, for what became of a request."""

"""A thread that watches the store: the newest snapshot is sent to the screens, older ones are dropped.

It looks less and less often while nothing happens, and at once when a key is pressed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from textual.app import App
from textual.message import Message

from prunectl.errors import PrunectlError
from prunectl.monitor.snapshot import Snapshot

INTERVAL = 0.5
"""Seconds between two looks."""
QUIET_SECONDS = 30.0
"""Without a change before the interval doubles."""
LONGEST = 4.0
"""Seconds between two looks at the most."""


class Newest(Message):
    """A message that replaces older ones of its kind which are not handled yet."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, type(self))


class SnapshotReady(Newest):
    """A new snapshot of the store."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class WatchFailed(Newest):
    """The store could not be read; the next look tries again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Source(Protocol):
    """Where snapshots come from."""

    def poll(self) -> Snapshot | None:
        """Return a new snapshot, or None where nothing has changed."""


class Poller(threading.Thread):
    """Polls until `stop`. A daemon thread, so that a slow disk never keeps the program from ending."""

    def __init__(
        self, make: Callable[[], Source], app: App[Any], interval: float = INTERVAL
    ) -> None:
        """`make` is called in the thread: a watcher belongs to one."""
        super().__init__(name="watcher", daemon=True)
        self._make = make
        self._app = app
        self.base = interval
        self.interval = interval
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._changed = time.monotonic()

    def run(self) -> None:
        source: Source | None = None
        while not self._stopping.is_set():
            try:
                source = source or self._make()
                snapshot = source.poll()
            except (PrunectlError, OSError, ValueError, KeyError) as error:
                self._app.post_message(WatchFailed(f"{type(error).__name__}: {error}"))
                snapshot = None
            else:
                if snapshot is not None:
                    self._changed = time.monotonic()
                    self.interval = self.base
                    self._app.post_message(SnapshotReady(snapshot))
            self._slow_down()
            self._wake.wait(self.interval)
            self._wake.clear()

    def _slow_down(self) -> None:
        quiet = time.monotonic() - self._changed
        if quiet > QUIET_SECONDS and self.interval < LONGEST:
            self.interval = min(LONGEST, self.interval * 2)

    def poll_now(self) -> None:
        """Look now, and often again."""
        self._changed = time.monotonic()
        self.interval = self.base
        self._wake.set()

    def speed_up(self) -> None:
        """Look often again: a key was pressed, so someone is there."""
        if self.interval > self.base:
            self.poll_now()

    def stop(self) -> None:
        """End soon; does not wait."""
        self._stopping.set()
        self._wake.set()

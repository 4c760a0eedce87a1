"""Bringing the database up to date beside the loop, at most once a second, and never in its way.

Opening a database, however little there is to write, costs some tens of milliseconds: where that is too much of a
core, it is done more rarely.

Ingestion runs in a thread: where somebody has left the database open in a shell it waits and fails, and
catches up later, while stages go on being dispatched.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from prunectl.errors import PrunectlError
from prunectl.store.paths import StorePaths

Ingest = Callable[[StorePaths, set[str]], object]
"""Reads what the given stages and the scheduler's log have grown by into the database. What it returns may
say `busy` (nothing was read: again later) and `notes` (what a person should know), as `storage.ingest`'s
report does."""

SHARE = 60
"""Ingestion may take a sixtieth of one core, …"""
LATEST = 6.0
"""… but begins at the latest so many seconds after the one before."""


class Ingestion:
    """The thread that ingests."""

    def __init__(self, paths: StorePaths, ingest: Ingest, every: float = 1.0) -> None:
        self._paths = paths
        self._ingest = ingest
        self._every = every
        self._pending: set[str] = set()
        self._dirty = False
        self._stopping = False
        self._condition = threading.Condition()
        self.trouble: str | None = None
        """Why the last attempt failed; None once one has succeeded."""
        self._thread = threading.Thread(target=self._run, name="ingestion")
        self._thread.start()

    def changed(self, keys: Iterable[str] = ()) -> None:
        """These stages, or at least the scheduler's log, have something new."""
        with self._condition:
            self._pending.update(keys)
            self._dirty = True
            self._condition.notify()

    def _run(self) -> None:
        costs = deque([0.0] * 3, maxlen=3)
        while True:
            with self._condition:
                while not self._dirty and not self._stopping:
                    self._condition.wait()
                if not self._dirty:
                    return
                keys, self._pending, self._dirty = self._pending, set(), False
            started, used = time.monotonic(), time.thread_time()
            done = self._attempt(keys)
            costs.append(time.thread_time() - used)
            # The median: a large plan that is read once delays nothing.
            pause = max(self._every, min(SHARE * statistics.median(costs), LATEST))
            with self._condition:
                if not done:
                    pause = self._every
                    costs.append(0.0)  # waiting for who holds the database is no cost of reading
                    self._pending |= keys
                    self._dirty = True
                    if self._stopping:
                        return
                rest = pause - (time.monotonic() - started)
                if rest > 0 and not self._stopping:
                    self._condition.wait_for(lambda: self._stopping, rest)

    def _attempt(self, keys: set[str]) -> bool:
        try:
            report = self._ingest(self._paths, keys)
        except (
            Exception
        ) as error:  # whatever it is, the event logs are the truth and the run goes on
            expected = isinstance(error, PrunectlError | OSError)
            self.trouble = str(error) if expected else f"{type(error).__name__}: {error}"
            return False
        busy = bool(getattr(report, "busy", False))
        notes = list(getattr(report, "notes", ()))
        if busy:
            notes.append(
                f"{self._paths.database.name} is held by another program; it will catch up"
            )
        self.trouble = "; ".join(notes) or None
        return not busy

    def close(self) -> None:
        """Ingest what is left, once, and end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

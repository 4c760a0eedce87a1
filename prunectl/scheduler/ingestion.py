"""Bringing the database up to date in a thread beside the loop, at most once a second.

Opening a database, however little there is to write, costs some tens of milliseconds: where that is too much of a core,
it is done more rarely. Where somebody has left the database open in a shell, ingestion waits and fails, and catches up
later, while stages go on being dispatched.
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
"""Reads what the given stages and the scheduler's log have grown by into the database. What it returns may say `busy`
(nothing was read: again later) and `notes` (texts for people), as the report of `store.db.ingest` does."""

CORE_PART = 60
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
                self._condition.wait_for(lambda: self._dirty or self._stopping)
                if not self._dirty:
                    return
                keys, self._pending, self._dirty = self._pending, set(), False
            started, used = time.monotonic(), time.thread_time()
            done = self._attempt(keys)
            # Waiting for who holds the database is no cost of reading.
            costs.append(time.thread_time() - used if done else 0.0)
            # The median: a large plan that is read once delays nothing.
            pause = min(CORE_PART * statistics.median(costs), LATEST) if done else 0.0
            with self._condition:
                if not done:
                    self._pending |= keys
                    self._dirty = True
                    if self._stopping:
                        return
                rest = max(self._every, pause) - (time.monotonic() - started)
                self._condition.wait_for(lambda: self._stopping, max(0.0, rest))

    def _attempt(self, keys: set[str]) -> bool:
        try:
            report = self._ingest(self._paths, keys)
        except (PrunectlError, OSError) as error:
            self.trouble = str(error)
            return False
        except Exception as error:  # a bug: the event logs are the truth, and the run goes on
            self.trouble = f"{type(error).__name__}: {error}"
            return False
        busy = bool(getattr(report, "busy", False))
        notes = list(getattr(report, "notes", ()))
        if busy:
            name = self._paths.database.name
            notes.append(f"{name} is held by another program; it will catch up")
        self.trouble = "; ".join(notes) or None
        return not busy

    def close(self) -> None:
        """Ingest what is left, once, and end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

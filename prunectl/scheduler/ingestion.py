"""Bringing the database up to date in a thread beside the loop, at most once a second.

Opening a database, however little there is to write, costs some tens of milliseconds: where that is too much of a core,
it is done more rarely. Where somebody writes to the database in a shell, ingestion is put off and counted, and catches
up later, while stages go on being dispatched.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from prunectl.errors import PrunectlError
from prunectl.store.paths import StorePaths
from prunectl.store.records.heartbeat import IngestionBeat

Ingest = Callable[[StorePaths, set[str]], object]
"""Reads what the given stages and the scheduler's log have grown by into the database. What it returns may say `busy`
(nothing was read: again later) and `notes` (texts for people), as the report of `store.db.ingest` does."""

CORE_PART = 60
"""Ingestion may take a sixtieth of one core, …"""
LATEST = 3.0
"""… but ends, if it takes as long as the one before, so many seconds after that began: nothing waits for 5 s."""


class Ingestion:
    """Ingests what has changed, in a thread for each time; only the thread of the scheduler's loop calls it."""

    def __init__(self, paths: StorePaths, ingest: Ingest | None, every: float = 1.0) -> None:
        """Without `ingest` the database is left alone."""
        self.trouble: str | None = None
        """Why the last attempt failed; None once one has succeeded."""
        self._paths = paths
        self._ingest = ingest
        self._every = every
        self._pending: set[str] = set()
        self._dirty = False
        self._costs = deque([0.0] * 3, maxlen=3)
        """CPU seconds of the last attempts."""
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._changed_at: float | None = None
        """When the oldest change came that no attempt has begun with."""
        self._done, self._put_off, self._longest = 0, 0, 0.0

    def changed(self, keys: Iterable[str] = ()) -> None:
        """These stages, or at least the scheduler's log, have something new."""
        self._pending.update(keys)
        self._dirty = True
        if self._changed_at is None:
            self._changed_at = time.monotonic()

    def beat(self) -> IngestionBeat:
        """Return what has become of ingestion so far."""
        return IngestionBeat(self._done, self._put_off, self._longest)

    def poll(self) -> None:
        """Ingest what is new, if it is time for that; to be called several times a second."""
        running = self._thread is not None and self._thread.is_alive()
        due = self._dirty and time.monotonic() >= self._due
        if self._ingest is not None and due and not running:
            keys, self._pending, self._dirty = self._pending, set(), False
            since, self._changed_at = self._changed_at, None
            arguments = self._ingest, keys, since or time.monotonic()
            self._thread = threading.Thread(target=self._attempt, args=arguments, name="ingestion")
            self._thread.start()

    def _attempt(self, ingest: Ingest, keys: set[str], since: float) -> None:
        """Ingest once; `since` is when the oldest change of it came."""
        started, used = time.monotonic(), time.thread_time()
        pause = 0.0
        if self._succeeds(ingest, keys):
            self._costs.append(time.thread_time() - used)
            # The median: a large plan that is read once delays nothing.
            now = time.monotonic()
            pause = min(CORE_PART * statistics.median(self._costs), LATEST - (now - started))
            self._done += 1
            self._longest = max(self._longest, now - since)
        else:
            self._put_off += 1
            self._changed_at = since
            self.changed(keys)
        self._due = started + max(self._every, pause)

    def _succeeds(self, ingest: Ingest, keys: set[str]) -> bool:
        try:
            report = ingest(self._paths, keys)
        except Exception as error:
            # Whatever it is, the event logs are the truth and the run goes on.
            expected = isinstance(error, PrunectlError | OSError)
            self.trouble = str(error) if expected else f"{type(error).__name__}: {error}"
            return False
        busy = bool(getattr(report, "busy", False))
        notes = [*getattr(report, "notes", ()), *getattr(report, "left_out", ())]
        if busy:
            name = self._paths.database.name
            notes.append(f"{name} is held by another program; it will catch up")
        self.trouble = "; ".join(notes) or None
        return not busy

    def close(self) -> None:
        """Ingest what is left, once, and wait for the end of it."""
        self._join()
        self._due = 0.0
        self.poll()
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

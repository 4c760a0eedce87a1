"""The scheduler's memory: its log, what that adds up to, and the database that is to follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prunectl.errors import StoreError
from prunectl.scheduler.ingestion import Ingest, Ingestion
from prunectl.store.journal import Journal
from prunectl.store.paths import StorePaths
from prunectl.store.records.scheduler_log import History


class Ledger:
    """Writes scheduler.jsonl. Only the holder of the store's lock may have one."""

    def __init__(
        self,
        paths: StorePaths,
        clock: Callable[[], float],
        ingest: Ingest | None = None,
        every: float = 1.0,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Raises StoreError where the log cannot be written."""
        self.history = History()
        self.history.catch_up(paths)
        self._trouble: str | None = None
        self._on_event = on_event
        self._journal = Journal(paths.scheduler_log, clock)
        self._ingestion = Ingestion(paths, ingest, every) if ingest is not None else None

    def log(self, kind: str, *, durable: bool = False, **fields: Any) -> None:
        """Add a record; the types are those of `storage.history`.

        Raises StoreError for a durable record that cannot be written. The others must not stop the run.
        """
        try:
            record = self._journal.append(kind, durable=durable, **fields)
        except StoreError as error:
            if durable:
                raise
            self.report(error)
            return
        self.history.feed([record])
        if self._on_event is not None:
            self._on_event(record)
        self.changed()

    def changed(self, keys: Iterable[str] = ()) -> None:
        """Tell the database that these stages, or at least the log, have something new."""
        if self._ingestion is not None:
            self._ingestion.changed(keys)

    def report(self, error: Exception | str) -> None:
        """Something went wrong without stopping the run: say so in the next heartbeat."""
        self._trouble = str(error)

    def trouble(self) -> str | None:
        """What went wrong since the last call, or still does."""
        said, self._trouble = self._trouble, None
        return said or (self._ingestion.trouble if self._ingestion is not None else None)

    def settle(self) -> None:
        """Bring the database up to date, once, and leave it alone from then on."""
        if self._ingestion is not None:
            self._ingestion.close()
            self._ingestion = None

    def close(self) -> None:
        """End the log."""
        self.settle()
        self._journal.close()

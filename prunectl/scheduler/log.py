"""The scheduler's log, what it adds up to, and the database that follows it."""

from __future__ import annotations

from collections.abc import Callable

from prunectl.errors import StoreError
from prunectl.scheduler.ingestion import Ingest, Ingestion
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.journal import Journal
from prunectl.store.records.scheduler_log import History


class SchedulerLog:
    """The writer of scheduler.jsonl. Only the holder of the store's lock may have one."""

    def __init__(
        self,
        paths: StorePaths,
        clock: Callable[[], float],
        ingest: Ingest | None = None,
        every: float = 1.0,
        on_record: Callable[[LogRecord], None] = lambda record: None,
    ) -> None:
        """Open the log, and begin to ingest what it and the stages grow by, every so many seconds.

        Raises:
            StoreError: where the log cannot be written.
        """
        self.history = History()
        self.history.catch_up(paths)
        self._trouble: str | None = None
        self._on_record = on_record
        self._journal = Journal(paths.scheduler_log, clock)
        self.ingestion = Ingestion(paths, ingest, every)

    def append(self, record: LogRecord, *, durable: bool = False) -> None:
        """Add a record of `store.records.scheduler_log`.

        Raises:
            StoreError: for a durable record that cannot be written. The others must not stop the run.
        """
        try:
            self._journal.append(record, durable=durable)
        except StoreError as error:
            if durable:
                raise
            self.report(error)
            return
        self.history.feed([record])  # what is known now, without reading the file again
        self._on_record(record)
        self.ingestion.changed()

    def report(self, error: Exception | str) -> None:
        """Keep what went wrong without stopping the run for the next heartbeat."""
        self._trouble = str(error)

    def trouble(self) -> str | None:
        """Return what went wrong since the last call, or still does."""
        reported, self._trouble = self._trouble, None
        return reported or self.ingestion.trouble

    def close(self) -> None:
        """End the log."""
        self._journal.close()

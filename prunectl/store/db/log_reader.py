"""Read on in a store's logs: what is new of each, and whether it is still the log that was read before."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from prunectl.errors import StoreError
from prunectl.store.db.database import Connection
from prunectl.store.db.ingest_offsets import Offset, file_size, first_line, head_of
from prunectl.store.db.left_out import REPLACED, UNREADABLE, LeftOut
from prunectl.store.db.rows import LogRows
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import BadRecord
from prunectl.store.records.events import ends_with, read_events
from prunectl.store.records.journal import START, Log, Position
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import read_scheduler_log
from prunectl.store.records.stage import read_result
from prunectl.text import plural

SCHEDULER = "scheduler"
"""The scheduler's log in `events.log` and `ingested.source`."""


class Report(Protocol):
    """What a reader of logs counts into."""

    records: int


class LogReader:
    """Reads on in logs, for one open connection; `read` and `forget` within a transaction."""

    def __init__(
        self, paths: StorePaths, connection: Connection, report: Report, left_out: LeftOut
    ) -> None:
        self._paths = paths
        self._connection = connection
        self._report = report
        self._left_out = left_out

    def read(
        self, log: str, path: Path, offset: Offset, found: LogRows, result: Result | None = None
    ) -> Offset | None:
        """Add the log's new records to `found`. Returns the new offset, None where there are none.

        A new `result` is what the stage's log is held to. A log that cannot be read is left out, and tried again next
        time.
        """
        try:
            moved = self._read_on(log, path, offset, found, result)
        except (OSError, StoreError) as error:
            self._left_out.add(path, error)
            return None
        self._left_out.forget(path, UNREADABLE)
        return moved

    def _read_on(
        self, log: str, path: Path, offset: Offset, found: LogRows, result: Result | None
    ) -> Offset | None:
        """Do as `read`, but raise OSError or StoreError for a log that cannot be read.

        A log that is shorter than before, begins otherwise, or whose numbers do not go on, is another log: it is
        read anew, and where it begins as before, that is said until a result vouches for it. One that does not hold
        what a new result vouches for is left out as a whole.
        """
        size = file_size(path)
        if size == offset.bytes and result is None:
            return None
        part: Log[Any] = Log.empty(offset.position)
        if size > offset.bytes:
            part = self._read_part(log, path, offset.position)
        head = head_of(first_line(path) if offset.bytes else part.first)
        # Of the same size, too: one that was begun anew has other times, which may be as long.
        same = size >= offset.bytes and head == offset.head
        first = next(iter(_numbers(part)), offset.next_seq)
        before = offset
        is_other = not same or first != offset.next_seq or self._left_out.is_left_out(path)
        if offset.bytes and is_other:
            self.forget([log])
            part = self._read_part(log, path, START)
            offset = Offset(stamp=offset.stamp)
            result = result or self._result_of(log)
        if result is not None and not self._is_vouched_for(log, path, offset, part, result):
            return self._leave_out_log(log, path, offset)
        if result is not None and result.lines_before is not None:
            self._left_out.forget(path, REPLACED)
        elif before != offset and (log == SCHEDULER or head == before.head):
            self._say_replaced(path, before)
        if part.end == offset.position:
            return None
        if offset.rate_step is not None and offset.rate is not None:
            found.last_rate[log] = (offset.rate_step, offset.rate)
        found.add(log, part)
        self._left_out.add_lines(path, part)
        self._report.records += len(_numbers(part))
        rate = found.last_rate.get(log, (None, None))
        moved = Offset(stamp=offset.stamp, head=head, rate_step=rate[0], rate=rate[1])
        return moved.moved_to(part.end)

    def _result_of(self, log: str) -> Result | None:
        """Read the result that a stage's log is held to; None where there is none that can be trusted."""
        if log == SCHEDULER:
            return None
        try:
            return read_result(self._paths.stage(log))
        except (FileNotFoundError, StoreError):
            return None

    def _say_replaced(self, path: Path, before: Offset) -> None:
        """Say that a log, which only grows, is not the one that was read before."""
        text = (
            f"is not the log that was read before, of {plural(before.lines, 'line')}: some are gone or others; "
            "`prunectl store rebuild` takes it as it is"
        )
        self._left_out.add_replaced(path, text)

    def _is_vouched_for(
        self, log: str, path: Path, offset: Offset, part: Log[Any], result: Result
    ) -> bool:
        """Return whether the log holds the end that a result vouches for; looked for in what is new of it first."""
        return ends_with(part, result) or (
            offset.bytes > 0 and ends_with(self._read_part(log, path, START), result)
        )

    def _leave_out_log(self, log: str, path: Path, offset: Offset) -> Offset:
        """Leave out a log that is not the one its stage's result vouches for. Returns its offset."""
        whole = self._read_part(log, path, START)
        self.forget([log])
        text = "is not the log that result.json vouches for: lines are gone or others"
        self._left_out.add(path, BadRecord(f"{path} {text}"))
        return Offset(stamp=offset.stamp, head=head_of(whole.first)).moved_to(whole.end)

    def _file(self, source: str) -> Path:
        """Return the file of a source of `ingested`."""
        if source == SCHEDULER:
            return self._paths.scheduler_log
        return self._paths.root / source if "/" in source else self._paths.stage(source).events

    def _read_part(self, log: str, path: Path, start: Position) -> Log[Any]:
        return (read_scheduler_log if log == SCHEDULER else read_events)(path, start)

    def forget(self, logs: list[str]) -> None:
        """Delete the rows that these logs, or records of data sets, had brought in."""
        columns = {"events": "log", "ingested": "source"}
        for table in ("events", "epochs", "layers", "rates", "ingested"):
            column = columns.get(table, "stage")
            self._connection.execute(
                f"DELETE FROM {table} WHERE {column} IN (SELECT unnest($1))", [logs]
            )
        for log in logs:
            self._left_out.look_at(self._file(log))


def _numbers(part: Log[Any]) -> list[int]:
    """List the numbers of a log's records."""
    return [record.seq for record in part.records if record.seq >= 0]

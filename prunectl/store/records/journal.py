"""Read and write append-only logs: one JSON record per line, the only way facts leave a worker.

The records of a stage's log are declared in `records.events`, those of the scheduler's in `records.scheduler_log`. A
crash can leave a torn last line: readers stop before it, and the next writer ends it and goes on, so that readers skip
it as the one line that is not JSON.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from prunectl.errors import StoreError
from prunectl.spec.ranges import EXACT, SMALL, Moment
from prunectl.store import files
from prunectl.store.records.base import NOT_DECODED, LogRecord, decode_by, encode
from prunectl.store.refusals import cannot_read, cannot_write

T = TypeVar("T")
R = TypeVar("R", bound=LogRecord)


class _Header(msgspec.Struct):
    """What every record has; also where its type is unknown."""

    type: str
    seq: Annotated[int, Meta(ge=-1, le=EXACT // 2)] = -1
    attempt: Annotated[int, Meta(ge=0, le=SMALL // 2)] = 0
    """As in records, but that numbers can be counted on from them: a damaged one must not spoil all that follow."""
    time: Moment = 0.0


_HEADERS = msgspec.json.Decoder(_Header)


class Unknown(LogRecord, tag="?"):
    """A record of a type that this version does not know; never written."""

    kind: str


@dataclass(frozen=True)
class Log(Generic[T]):
    """A part of a log."""

    records: list[T | Unknown]
    lines: list[bytes]
    """The JSON of each record."""
    bad: dict[int, str]
    """Why complete lines are no records, by the byte that the line begins at; torn lines are not among them."""
    end: int
    """The offset in bytes to go on from."""
    first: bytes
    """The first line that was read, a record or not; empty without one."""

    @classmethod
    def empty(cls, end: int = 0) -> Log[T]:
        """Make one without records."""
        return cls([], [], {}, end, b"")

    @property
    def problems(self) -> dict[int, str]:
        """What is wrong with the file, by the byte that the line begins at: texts to follow its name."""
        return {
            place: f"has a malformed line at byte {place}: {why}" for place, why in self.bad.items()
        }


def read(path: Path, decoder: msgspec.json.Decoder[T], offset: int = 0) -> Log[T]:
    """Read complete records from byte `offset` on. A missing file has no records.

    Raises StoreError where it cannot be read.
    """
    try:
        data = files.disk.read(path, offset)
    except (FileNotFoundError, NotADirectoryError):
        return Log.empty(offset)
    except OSError as error:
        raise cannot_read(path, error) from error
    end = data.rfind(b"\n") + 1
    lines = data[:end].split(b"\n")[:-1]
    log: Log[T] = Log([], [], {}, offset + end, lines[0] + b"\n" if lines else b"")
    place = offset
    for line in lines:
        begin, place = place, place + len(line) + 1
        try:
            record: T | Unknown = decode_by(decoder, line)
        except NOT_DECODED as error:
            found = _salvage(line, error)
            if isinstance(found, Unknown):
                record = found
            else:
                if found:
                    log.bad[begin] = found
                continue
        log.records.append(record)
        log.lines.append(line)
    return log


def _salvage(line: bytes, error: Exception) -> Unknown | str:
    """Return a record of an unknown type as such; of a line that is none why, and "" for one that is torn."""
    of_unknown_type = str(error).endswith("at `$.type`")
    try:
        header = msgspec.json.decode(line, type=_Header)
    except msgspec.ValidationError as worse:
        return str(worse if of_unknown_type else error)
    except NOT_DECODED:
        return _why_no_json(line)
    if of_unknown_type:
        return Unknown(kind=header.type, seq=header.seq, attempt=header.attempt, time=header.time)
    return str(error)


def _why_no_json(line: bytes) -> str:
    """Return why a line is no JSON, or "" where it only breaks off: the next writer has ended it, and says the rest."""
    try:
        # Padded, for msgspec says that half a surrogate pair near the end of a whole line breaks off, too.
        msgspec.json.decode(line + b" " * 12)
    except NOT_DECODED as error:
        return "" if "truncated" in str(error) else str(error)
    return ""


def last_attempt(path: Path) -> int:
    """Return the number of the last attempt that wrote to the log; 0 where none has. Raises StoreError as `read`."""
    headers = read(path, _HEADERS).records
    return max((header.attempt for header in headers), default=0)


class Journal:
    """The writer of one log. Only the process that holds the stage's lock may have one."""

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, attempt: int | None = None
    ) -> None:
        """Open for appending; a torn last line is ended first.

        `attempt` is by default one more than the last that wrote to the log. Raises StoreError where it cannot be
        written, or where a later attempt than this one has.
        """
        self.path = path
        self._clock = clock
        headers = read(path, _HEADERS).records
        self.seq = headers[-1].seq + 1 if headers else 0
        last = max((header.attempt for header in headers), default=0)
        self.attempt = last + 1 if attempt is None else attempt
        if self.attempt < last:
            raise StoreError(f"{path} is attempt {last}'s by now, not attempt {attempt}'s")
        try:
            files.disk.make_folder(path.parent)
            is_new = not files.disk.exists(path)
            self._file = files.disk.append(path)
            if is_new:  # a durable record is of no use in a file whose name is not on the disk
                files.disk.before("fsync", path.parent)
                files.disk.fsync(path.parent)
            if self._file.last_byte() not in (b"", b"\n"):
                self._write(b"\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, record: R, *, durable: bool = False) -> R:
        """Append a record and return it; `durable` waits until it is on the disk.

        Its number and time are filled in, and its attempt where it has none of its own. Raises StoreError where it
        cannot be written; the log is then as it was before.
        """
        record.seq, record.time = self.seq, self._clock()
        record.attempt = record.attempt or self.attempt
        files.disk.before("write", self.path)
        try:
            self._write(encode(record) + b"\n")
            if durable:
                files.disk.before("fsync", self.path)
                self._file.fsync()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.seq += 1
        return record

    def _write(self, data: bytes) -> None:
        size = self._file.size()
        try:
            self._file.append(data)
        except OSError:
            # On a full disk a part of the line may stand there: what is written later must not join it.
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise

    def close(self) -> None:
        """Close the file; the journal cannot be used after."""
        self._file.close()

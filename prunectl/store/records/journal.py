"""Read and write append-only logs: one JSON record per line, the only way facts leave a worker.

The records of a stage's log are declared in `records.events`, those of the scheduler's in `records.scheduler_log`. Each
line has its checksum, and records that are marks (`base.LinesBefore`) vouch for all lines before them.

A crash can leave a torn last line: readers stop before it, and the next writer cuts it off. Older versions ended it
instead and went on with its number, by which it is told from a line that was whole once and is damaged.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from prunectl.errors import StoreError
from prunectl.spec.ranges import EXACT, SMALL, Moment
from prunectl.store import files
from prunectl.store.records import seal, store_format
from prunectl.store.records.base import (
    NOT_DECODED,
    LogRecord,
    decode_by,
    encode_sealed,
    may_have_controls,
    unsound,
)
from prunectl.store.refusals import cannot_read, cannot_write
from prunectl.text import plural

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
class Position:
    """A place in a log, between two lines."""

    bytes: int = 0
    """Of the lines before it, …"""
    lines: int = 0
    """… their number, …"""
    digest: str = ""
    """… their digest, each with that of those before it …"""
    next_seq: int = 0
    """… and the number that the next record has."""


START = Position()


@dataclass(frozen=True)
class Log(Generic[T]):
    """A part of a log."""

    records: list[T | Unknown]
    lines: list[bytes]
    """The JSON of each record."""
    bad: dict[int, str]
    """What is wrong with complete lines, by the byte that the line begins at: texts to follow "a line that". Torn lines
    are not among them."""
    end: Position
    """Where to go on from."""
    first: bytes
    """The first line that was read, a record or not; empty without one."""

    @classmethod
    def empty(cls, end: Position = START) -> Log[T]:
        """Make one without records."""
        return cls([], [], {}, end, b"")

    @property
    def problems(self) -> dict[int, str]:
        """What is wrong with the file, by the byte that the line begins at: texts to follow its name."""
        return {place: f"has a line at byte {place} that {why}" for place, why in self.bad.items()}


def read(path: Path, decoder: msgspec.json.Decoder[T], start: Position = START) -> Log[T]:
    """Read complete records from a position on. A missing file has no records.

    Raises StoreError where it cannot be read.
    """
    try:
        data = files.disk.read(path, start.bytes)
    except (FileNotFoundError, NotADirectoryError):
        return Log.empty(start)
    except OSError as error:
        raise cannot_read(path, error) from error
    end = data.rfind(b"\n") + 1
    if seal.holds(data[end:]):  # nothing but the end of its line is missing
        end = len(data)
    reader = _Reader(path, decoder, start, has_controls=may_have_controls(data))
    lines = data[:end].removesuffix(b"\n").split(b"\n") if end else []
    for line in lines:
        reader.take(line)
    return reader.log(start.bytes + end, lines)


class _Reader(Generic[T]):
    """Takes the lines of a log one by one."""

    def __init__(
        self,
        path: Path,
        decoder: msgspec.json.Decoder[T],
        start: Position,
        *,
        has_controls: bool,
    ) -> None:
        self._path = path
        self._decoder = decoder
        self._has_controls = has_controls
        self._log: Log[T] = Log.empty(start)
        self._place = start.bytes
        self._lines, self._digest, self._next_seq = start.lines, start.digest, start.next_seq
        self._doubtful: dict[int, str] = {}
        """Lines since the last record that are none: torn if the next record has their number."""
        self._may_lack_checksum = functools.cache(store_format.may_lack_checksum)
        """Asked once: it looks at the disk."""
        self._sealed = False
        """There was a line with a checksum: all that follow have one."""

    def take(self, line: bytes) -> None:
        """Read the next line."""
        begin, self._place = self._place, self._place + len(line) + 1
        if not line:
            return
        found: T | Unknown | str
        try:
            found = self._record(line)
        except NOT_DECODED as error:
            found = _salvage(line, error)
        if isinstance(found, str):
            self._doubtful[begin] = found
        else:
            self._add(found, line, begin)
        self._lines += 1
        self._digest = seal.chained(self._digest, line)

    def _record(self, line: bytes) -> T | str:
        """Return the record of a line; of one whose checksum does not hold why not. Raises one of `NOT_DECODED`."""
        if seal.holds(line):
            self._sealed = True
        elif (why := unsound(line, self._path, self._may_lack_checksum)) is not None:
            return why
        elif self._sealed:
            return "has no checksum"
        return decode_by(self._decoder, line, has_controls=self._has_controls)

    def _add(self, record: Any, line: bytes, begin: int) -> None:
        if self._doubtful and record.seq != self._next_seq:
            self._log.bad.update(self._doubtful)
        self._doubtful.clear()
        if record.seq >= 0:
            self._next_seq = record.seq + 1
        claimed = getattr(record, "lines_before", None)
        if claimed is not None and (claimed, record.digest_before) != (self._lines, self._digest):
            self._log.bad[begin] = (
                f"vouches for {plural(claimed, 'line')} before it, but the {self._lines} there are others"
            )
        self._log.records.append(record)
        self._log.lines.append(line)

    def log(self, end: int, lines: list[bytes]) -> Log[T]:
        """Return what was read up to byte `end`."""
        # No record follows these, so they were not torn.
        self._log.bad.update(self._doubtful)
        next_seq = self._next_seq + len(self._doubtful)
        position = Position(end, self._lines, self._digest, next_seq)
        first = lines[0] + b"\n" if lines else b""
        return Log(self._log.records, self._log.lines, self._log.bad, position, first)


def _salvage(line: bytes, error: Exception) -> Unknown | str:
    """Return a record of an unknown type as such; of a line that is none why."""
    of_unknown_type = str(error).endswith("at `$.type`")
    try:
        header = msgspec.json.decode(line, type=_Header)
    except NOT_DECODED as worse:
        return f"is malformed: {worse if of_unknown_type else error}"
    if of_unknown_type:
        return Unknown(kind=header.type, seq=header.seq, attempt=header.attempt, time=header.time)
    return f"is malformed: {error}"


def digest_of(path: Path, lines: int) -> str:
    """Return the digest of a log's first lines, as marks have it. Raises StoreError where it cannot be read."""
    try:
        data = files.disk.read(path)
    except (FileNotFoundError, NotADirectoryError):
        data = b""
    except OSError as error:
        raise cannot_read(path, error) from error
    found = ""
    for line in list(filter(None, data.split(b"\n")))[:lines]:
        found = seal.chained(found, line)
    return found


def last_attempt(path: Path) -> int:
    """Return the number of the last attempt that wrote to the log; 0 where none has. Raises StoreError as `read`."""
    headers = read(path, _HEADERS).records
    return max((header.attempt for header in headers), default=0)


class Journal:
    """The writer of one log. Only the process that holds the stage's lock may have one."""

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, attempt: int | None = None
    ) -> None:
        """Open for appending.

        `attempt` is by default one more than the last that wrote to the log. Raises StoreError where it cannot be
        written, or where a later attempt than this one has.
        """
        self.path = path
        self._clock = clock
        log = read(path, _HEADERS)
        self.seq = log.end.next_seq
        """Number of the next record."""
        self._lines, self._digest = log.end.lines, log.end.digest
        last = max((header.attempt for header in log.records), default=0)
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
            self._gap = self._mend_end(log.end.bytes)
        except OSError as error:
            raise cannot_write(path, error) from error

    def _mend_end(self, end: int) -> bytes:
        """Cut off a torn line after byte `end`. Returns what the next record begins with: the end of the line before it
        where that alone is missing.

        Torn again behind a line that was ended, it could not be told from a damaged one: two power cuts do that.
        """
        if self._file.size() > end:
            self._file.truncate(end)
        return b"" if self._file.last_byte() in (b"", b"\n") else b"\n"

    def _count(self, line: bytes) -> None:
        """Take a line into what records that are marks say of the log."""
        self._lines, self._digest = self._lines + 1, seal.chained(self._digest, line)

    def append(self, record: R, *, durable: bool = False) -> R:
        """Append a record and return it; `durable` waits until it is on the disk.

        Its number and time are filled in, its attempt where it has none of its own, and what is before it where it is a
        mark. Raises StoreError where it cannot be written; the log is then as it was before.
        """
        record.seq, record.time = self.seq, self._clock()
        record.attempt = record.attempt or self.attempt
        if hasattr(record, "lines_before"):
            msgspec.structs.force_setattr(record, "lines_before", self._lines)
            msgspec.structs.force_setattr(record, "digest_before", self._digest)
        line = encode_sealed(record)
        files.disk.before("write", self.path)
        try:
            self._write(self._gap + line + b"\n", durable)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._gap = b""
        self.seq += 1
        self._count(line)
        return record

    def _write(self, data: bytes, durable: bool) -> None:
        size = self._file.size()
        try:
            self._file.append(data)
            if durable:
                files.disk.before("fsync", self.path)
                self._file.fsync()
        except OSError:
            # On a full disk a part of the line may stand there: what is written later must not join it.
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise

    def close(self) -> None:
        """Close the file; the journal cannot be used after."""
        self._file.close()

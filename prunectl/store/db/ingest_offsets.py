"""How far the store's files have been read, and whether they are still the files that were read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import duckdb

from prunectl.errors import StoreError
from prunectl.store import files
from prunectl.store.db.database import Connection, opened, upsert
from prunectl.store.records.journal import Position


class Offset(NamedTuple):
    """How far a source has been read: a row of the table `ingested`."""

    bytes: int = 0
    next_seq: int = 0
    lines: int = 0
    digest: str = ""
    stamp: str = ""
    """Time and size of the whole files that were read: result.json, a plan, a run."""
    head: str = ""
    """Of the log's first line: another one means another log."""
    rate_step: int | None = None
    rate: float | None = None
    """The last learning rate that was read, and the step it was logged for."""

    @property
    def position(self) -> Position:
        """Where to go on reading a log."""
        return Position(self.bytes, self.lines, self.digest, self.next_seq)

    def moved_to(self, position: Position) -> Offset:
        """Return it with another place in the log."""
        return self._replace(**vars(position))


def read_offsets(
    connection: Connection, where: str, *parameters: str | list[str]
) -> dict[str, Offset]:
    """Read the offsets that an SQL condition picks, by source."""
    query = f"SELECT source, {', '.join(Offset._fields)} FROM ingested WHERE {where}"
    rows = connection.execute(query, parameters).fetchall()
    return {source: Offset(*rest) for source, *rest in rows}


def offset_of(database: Path, source: str, patience: float = 20.0) -> Offset:
    """Read how far a source has been read; nothing where the database is not there or cannot say."""
    if not files.disk.exists(database):
        return Offset()
    try:
        with opened(database, write=False, patience=patience) as connection:
            return read_offsets(connection, "source = $1", source).get(source, Offset())
    except (StoreError, duckdb.Error):
        return Offset()


def write_offsets(
    connection: Connection, offsets: Mapping[str, Offset], *, new: bool = False
) -> None:
    """Write offsets by source; `new` ones have none yet."""
    rows = [(source, *offset) for source, offset in offsets.items()]
    upsert(connection, "ingested", ("source", *Offset._fields), rows, new=new)


def file_stamp(path: Path) -> str:
    """Return a text that changes whenever the file is replaced; empty where there is none."""
    try:
        status = files.disk.status(path)
    except FileNotFoundError:
        return ""
    return f"{status.mtime_ns}:{status.size}"


def file_size(path: Path) -> int:
    """Return the file's size in bytes, 0 where there is none."""
    try:
        return files.disk.status(path).size
    except FileNotFoundError:
        return 0


def first_line(path: Path) -> bytes:
    """Read a log's first line; empty where it has none."""
    try:
        with files.disk.open(path) as file:
            return file.readline()
    except FileNotFoundError:
        return b""


def head_of(line: bytes) -> str:
    """Return 16 hex digits that identify a log by its first line; empty where it has none."""
    return hashlib.sha256(line).hexdigest()[:16] if line.endswith(b"\n") else ""

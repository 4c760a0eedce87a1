"""How far the store's files have been read, and whether they are still the files that were read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

from prunectl.store import journal


@dataclass(frozen=True)
class Mark:
    """How far a source has been read."""

    bytes: int = 0
    next_seq: int = 0
    stamp: str = ""
    """Time and size of the whole files that were read: result.json, a plan, a run."""
    head: str = ""
    """Of the log's first line: another one means another log."""
    rate_step: int | None = None
    rate: float | None = None
    """The last learning rate that was read, and the step it was logged for."""


MARK = tuple(each.name for each in fields(Mark))


def stamp(path: Path) -> str:
    """Changes whenever the file is replaced; empty where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return f"{status.st_mtime_ns}:{status.st_size}"


def head(path: Path) -> str:
    """Identifies the log by its first line; empty where there is none."""
    try:
        with path.open("rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return ""
    return hashlib.sha256(line).hexdigest()[:16] if line.endswith(b"\n") else ""


def numbered(path: Path, offset: int) -> tuple[list[journal.Record], int]:
    """The log's records from the offset on that have a number, and the offset after them."""
    found, end = journal.read(path, offset)
    return [record for record in found if isinstance(record.get("seq"), int)], end

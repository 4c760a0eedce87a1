"""What the tables are without: files and lines of logs that are no records, and why. The table `left_out`.

Ingestion leaves each out and goes on; `status` and `store verify` name it for as long as it is so (`query.left_out`).
"""

from __future__ import annotations

from pathlib import Path

from prunectl.store import files
from prunectl.store.db.database import Connection, upsert
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import BadRecord
from prunectl.store.records.journal import Log

UNREADABLE = -1
"""The `place` of a file that the system does not let be read; 0 is that of one that is no record as a whole, …"""
REPLACED = -2
"""… and this of a log of which lines are gone, or others than had been read."""


class LeftOut:
    """What a connection leaves out; collected within a transaction, and written at its end."""

    def __init__(self, paths: StorePaths, connection: Connection, said: list[str]) -> None:
        """`said` gets a sentence for the user for each that was not left out before."""
        self._root = paths.root
        self._said = said
        self._connection = connection
        rows = connection.execute("SELECT source, place FROM left_out").fetchall()
        self._known = {(str(source), int(place)) for source, place in rows}
        self._sources = {source for source, _ in self._known}
        self._rows: dict[tuple[str, int], str] = {}
        self._read: list[str] = []

    def source(self, path: Path) -> str:
        """Return a file's name in the table: its path inside the store."""
        return path.relative_to(self._root).as_posix()

    def look_at(self, path: Path) -> None:
        """Forget what was said of a file, which is read anew."""
        if self._sources and (source := self.source(path)) in self._sources:
            self._read.append(source)

    def add(self, path: Path, error: Exception) -> bool:
        """Leave out a whole file. Returns whether that is for as long as it is as it is: else it is tried again."""
        if isinstance(error, BadRecord):
            self._add(path, 0, str(error).removeprefix(f"{path} "))
            return True
        why = str(error).removeprefix(f"cannot read {path}: ")
        self._add(path, UNREADABLE, f"cannot be read: {why}")
        return False

    def add_replaced(self, path: Path, text: str) -> None:
        """Say that lines of a log are not those that were read."""
        self._add(path, REPLACED, text)

    def is_left_out(self, path: Path) -> bool:
        """Return whether a file was left out as a whole."""
        return (self.source(path), 0) in self._known

    def forget(self, path: Path, place: int) -> None:
        """Forget what was said of a log as a whole, `UNREADABLE` or `REPLACED`: what was said of its lines stays."""
        said = self.source(path), place
        self._rows.pop(said, None)
        if said in self._known:
            sql = "DELETE FROM left_out WHERE source = $1 AND place = $2"
            self._connection.execute(sql, said)
            self._known.remove(said)

    def forget_missing(self) -> None:
        """Forget files that could not be read and are gone now."""
        unread = [source for source, place in self._known if place == UNREADABLE]
        self._read += (each for each in unread if not files.disk.exists(self._root / each))

    def add_lines(self, path: Path, log: Log[object]) -> None:
        """Leave out lines of a log."""
        for place, text in log.problems.items():
            self._add(path, place, text)

    def _add(self, path: Path, place: int, text: str) -> None:
        source = self.source(path)
        self._rows[source, place] = text
        if (source, place) not in self._known:
            self._said.append(f"left out: {source} {text}")

    def write(self) -> None:
        """Write what was collected into the table."""
        if self._read:
            sql = "DELETE FROM left_out WHERE source IN (SELECT unnest($1))"
            self._connection.execute(sql, [self._read])
        rows = [(*place, text) for place, text in self._rows.items()]
        upsert(self._connection, "left_out", ("source", "place", "text"), rows)
        read = set(self._read)
        self._known = {place for place in self._known if place[0] not in read} | self._rows.keys()
        self._sources = {source for source, _ in self._known}
        self._rows.clear()
        self._read.clear()

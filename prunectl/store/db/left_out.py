"""What the tables are without: files and lines of logs that are no records, and why. The table `left_out`.

Ingestion leaves each out and goes on; `status` and `store verify` name it for as long as it is so (`query.left_out`).
"""

from __future__ import annotations

from pathlib import Path

from prunectl.store.db.database import Connection, upsert
from prunectl.store.paths import StorePaths
from prunectl.store.records.journal import Log


class LeftOut:
    """What one transaction has looked at, and what of it is left out."""

    def __init__(self, paths: StorePaths) -> None:
        self._root = paths.root
        self._rows: dict[tuple[str, int], str] = {}
        self._read: list[str] = []

    def source(self, path: Path) -> str:
        """Return a file's name in the table: its path inside the store."""
        return path.relative_to(self._root).as_posix()

    def look_at(self, path: Path) -> None:
        """Forget what was said of a file, which is read anew."""
        self._read.append(self.source(path))

    def add(self, path: Path, error: Exception) -> str:
        """Leave out a file that is read as a whole. Returns a sentence for the user."""
        return self._add(path, 0, str(error).removeprefix(f"{path} "))

    def add_lines(self, path: Path, log: Log[object]) -> list[str]:
        """Leave out lines of a log. Returns sentences for the user."""
        return [self._add(path, place, text) for place, text in log.problems.items()]

    def _add(self, path: Path, place: int, text: str) -> str:
        source = self.source(path)
        self._rows[source, place] = text
        return f"left out: {source} {text}"

    def write(self, connection: Connection) -> None:
        """Write what was collected into the table, within the transaction."""
        if self._read:
            sql = "DELETE FROM left_out WHERE source IN (SELECT unnest($1))"
            connection.execute(sql, [self._read])
        rows = [(*place, text) for place, text in self._rows.items()]
        upsert(connection, "left_out", ("source", "place", "text"), rows)

"""A private copy of results.duckdb in memory, so that the store's own file is closed again at once.

Slow or destructive statements on it neither keep a run from writing nor change the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from prunectl.errors import StoreError
from prunectl.store import files
from prunectl.store.db.database import attached, first_column, telling_damage
from prunectl.store.db.query import PATIENCE, Result, execute
from prunectl.store.paths import StorePaths


@dataclass(frozen=True)
class Table:
    """A table or view of the copy."""

    name: str
    view: bool
    rows: int | None
    columns: tuple[str, ...]


class Replica:
    """The copy. Call `interrupt` from any thread, everything else from one at a time."""

    def __init__(self, paths: StorePaths, patience: float = PATIENCE) -> None:
        """Copy the database. Raises StoreBusy where it stays held, StoreError where it cannot be read."""
        started = time.monotonic()
        self._file = paths.database
        self._lock = threading.Lock()
        self._connection = duckdb.connect(
            ":memory:",
            config={"autoload_known_extensions": "false", "autoinstall_known_extensions": "false"},
        )
        try:
            self._copy(patience)
            # Statements may change the copy, but read and write no files.
            self._connection.execute("SET enable_external_access = false")
            self._connection.execute("SET lock_configuration = true")
        except BaseException:
            self._connection.close()
            raise
        self.seconds = time.monotonic() - started

    def _copy(self, patience: float) -> None:
        if not files.disk.exists(self._file):
            raise StoreError(f"{self._file.parent} has no results yet")
        try:
            with attached(self._connection, self._file, "store", patience=patience):
                self._connection.execute("COPY FROM DATABASE store TO memory")
        except duckdb.Error as error:
            raise StoreError(f"{self._file} cannot be copied: {error}") from error

    def run(self, sql: str, limit: int, parameters: Mapping[str, str] | None = None) -> Result:
        """Run SQL and return the answer, at most `limit` rows; `parameters` fill `$name`.

        Raises QueryError for what the database refuses, or where it was interrupted.
        """
        with self._lock, telling_damage(self._file):
            return execute(self._connection, sql, parameters, limit)

    def interrupt(self) -> None:
        """Stop the query that is running."""
        self._connection.interrupt()

    def tables(self) -> list[Table]:
        """List views and tables with their columns, by name; rows are counted for tables only."""
        with self._lock:
            listed = self._connection.execute(
                "SELECT table_name, table_type, list(column_name ORDER BY ordinal_position) "
                "FROM information_schema.tables JOIN information_schema.columns "
                "USING (table_catalog, table_schema, table_name) "
                "GROUP BY ALL ORDER BY table_type DESC, table_name"
            ).fetchall()
            return [
                Table(
                    name,
                    view=kind == "VIEW",
                    rows=None if kind == "VIEW" else self._count(name),
                    columns=tuple(columns),
                )
                for name, kind, columns in listed
            ]

    def _count(self, table: str) -> int:
        [count] = first_column(self._connection, f'SELECT count(*) FROM "{table}"')
        return int(count)

    def close(self) -> None:
        """Free the memory."""
        self._connection.close()

"""A private copy of results.duckdb in memory, for asking at leisure: the store's own file is let go at once.

Whatever is asked of it, be it slow or destructive, neither keeps a run from writing nor changes the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from prunectl.errors import QueryError, StoreBusy, StoreError
from prunectl.store.db.database import is_damage
from prunectl.store.db.query import PATIENCE, Result, explained
from prunectl.store.paths import StorePaths

RETRY_SECONDS = 0.02


@dataclass(frozen=True)
class Table:
    """A table or view of the copy."""

    name: str
    view: bool
    rows: int | None
    columns: tuple[str, ...]


class Replica:
    """The copy. `run` from one thread at a time; `interrupt` from any."""

    def __init__(self, paths: StorePaths, patience: float = PATIENCE) -> None:
        """Copy the database. Raises StoreBusy where it stays held, StoreError where it cannot be read."""
        started = time.monotonic()
        self._lock = threading.Lock()
        self._connection = duckdb.connect(
            ":memory:",
            config={"autoload_known_extensions": "false", "autoinstall_known_extensions": "false"},
        )
        try:
            self._copy(paths, started + patience)
            # What follows may do as it likes with the copy, but not with files.
            self._connection.execute("SET enable_external_access = false")
            self._connection.execute("SET lock_configuration = true")
        except BaseException:
            self._connection.close()
            raise
        self.seconds = time.monotonic() - started

    def _copy(self, paths: StorePaths, deadline: float) -> None:
        if not paths.database.exists():
            raise StoreError(f"{paths.root} has no results yet")
        target = str(paths.database).replace("'", "''")
        while True:
            try:
                self._connection.execute(f"ATTACH '{target}' AS store (READ_ONLY)")
                break
            except duckdb.Error as error:
                if "lock" not in str(error).lower():
                    raise StoreError(f"cannot read {paths.database}: {error}") from error
                if time.monotonic() > deadline:
                    raise StoreBusy(f"{paths.database} is held by another process") from error
            time.sleep(RETRY_SECONDS)
        try:
            self._connection.execute("COPY FROM DATABASE store TO memory")
        except duckdb.Error as error:
            what = "is damaged" if is_damage(error) else "cannot be copied"
            raise StoreError(f"{paths.database} {what}: {error}") from error
        finally:
            self._connection.execute("DETACH store")

    def run(self, sql: str, limit: int, parameters: Mapping[str, str] | None = None) -> Result:
        """The answer, at most `limit` rows; `parameters` fill `$name`.

        Raises QueryError for what the database refuses, or where it was told to stop.
        """
        with self._lock:
            try:
                ask = self._connection.execute
                cursor = ask(sql, dict(parameters)) if parameters else ask(sql)
                if cursor.description is None:
                    return Result((), (), [])
                columns = tuple(str(column[0]) for column in cursor.description)
                types = tuple(str(column[1]) for column in cursor.description)
                rows = cursor.fetchmany(limit + 1)
            except duckdb.InterruptException as error:
                raise QueryError("interrupted") from error
            except duckdb.Error as error:
                raise QueryError(explained(str(error))) from error
        return Result(columns, types, rows[:limit], len(rows) > limit)

    def interrupt(self) -> None:
        """Stop the query that runs now."""
        self._connection.interrupt()

    def tables(self) -> list[Table]:
        """Views and tables with their columns, by name; rows are counted for tables only."""
        with self._lock:
            listed = self._connection.execute(
                "SELECT table_name, table_type FROM information_schema.tables ORDER BY table_type DESC, table_name"
            ).fetchall()
            columns = self._connection.execute(
                "SELECT table_name, list(column_name ORDER BY ordinal_position) "
                "FROM information_schema.columns GROUP BY table_name"
            ).fetchall()
            names = {str(name): tuple(map(str, found)) for name, found in columns}
            out = []
            for name, kind in listed:
                view = kind == "VIEW"
                count = None
                if not view:
                    row = self._connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()
                    count = int(row[0]) if row else None
                out.append(Table(str(name), view, count, names.get(str(name), ())))
        return out

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()

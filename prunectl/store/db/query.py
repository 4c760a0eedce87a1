"""Reading results.duckdb: short read-only connections, so that a question never stands in a run's way.

run(paths, "SELECT ...")          any SQL that only reads
recipes(paths), recipe(...)       the questions that come with prunectl, and the user's own
write_parquet(result, path)       a result as a Parquet file
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from prunectl.errors import QueryError, StoreBusy, StoreError
from prunectl.store.db import ingest, schema
from prunectl.store.db.database import Connection, Damaged, opened
from prunectl.store.files import replacing
from prunectl.store.paths import StorePaths

PATIENCE = 20.0
"""Seconds a question waits for whoever holds the file; the scheduler lets go within about 20 ms."""

Parameters = Mapping[str, Any] | Sequence[Any] | None


@dataclass(frozen=True)
class Result:
    """A table: names and DuckDB types of its columns, and its rows."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool = False
    """Whether there are more rows than were asked for."""

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def run(
    paths: StorePaths,
    sql: str,
    parameters: Parameters = None,
    limit: int | None = None,
    patience: float = PATIENCE,
) -> Result:
    """The answer to one or more SQL statements, which may only read; of several, the last one's.

    `parameters` fill `$name` or `$1`. At most `limit` rows are given. A missing, damaged or older database is made
    from the stage folders first. Raises QueryError for what the database refuses, StoreBusy where another process
    keeps holding the file, StoreError where there is nothing to read.
    """
    with_retry = _prepare(paths)
    try:
        return _run(paths, sql, parameters, limit, patience)
    except Damaged:
        if not with_retry:
            raise
    _make(paths)
    return _run(paths, sql, parameters, limit, patience)


def refresh(paths: StorePaths) -> None:
    """Read plans, runs and the scheduler's log into the database, if nobody holds it.

    Raises StoreError where the folder cannot be written.
    """
    ingest.ingest(paths, ())


def _prepare(paths: StorePaths) -> bool:
    """Make the database where there is none; whether a damaged one may be made anew."""
    if paths.database.exists():
        return True
    if not paths.stages.exists() and not paths.plans.exists():
        raise StoreError(
            f"{paths.root} holds no results; `prunectl run PLAN` makes some, --store names another place"
        )
    _make(paths)
    return False


def _make(paths: StorePaths) -> None:
    if ingest.ingest(paths, patience=PATIENCE).busy:
        raise StoreBusy(f"{paths.database} is being made by another process; try again")


def _run(
    paths: StorePaths, sql: str, parameters: Parameters, limit: int | None, patience: float
) -> Result:
    with opened(paths.database, write=False, patience=patience) as connection:
        if schema.is_current(connection):
            return _execute(connection, sql, parameters, limit)
    _make(paths)
    with opened(paths.database, write=False, patience=patience) as connection:
        if not schema.is_current(connection):
            raise StoreError(f"{paths.database} has tables of another version")
        return _execute(connection, sql, parameters, limit)


def _execute(connection: Connection, sql: str, parameters: Parameters, limit: int | None) -> Result:
    try:
        cursor = connection.execute(sql, parameters) if parameters else connection.execute(sql)
        if cursor.description is None:
            return Result((), (), [])
        columns = tuple(str(column[0]) for column in cursor.description)
        types = tuple(str(column[1]) for column in cursor.description)
        rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
    except duckdb.Error as error:
        if "Corrupt database" in str(error):
            raise
        raise QueryError(explained(str(error))) from error
    truncated = limit is not None and len(rows) > limit
    return Result(columns, types, rows[:limit], truncated)


_REFUSED = (
    (re.compile(r'statement of type "(\w+)".*read-only', re.S), "writes ({0})"),
    (
        re.compile(r"file system operations are disabled|external extensions is disabled"),
        "reads or writes files",
    ),
    (re.compile(r"configuration has been locked"), "changes settings"),
)


def explained(message: str) -> str:
    """DuckDB's message, or a sentence where it means that this connection only reads the store."""
    for pattern, what in _REFUSED:
        if found := pattern.search(message):
            doing = what.format(*found.groups())
            return (
                f"this statement {doing}, and queries only read the store: its tables are made from the stage "
                "folders. Use --format to write a result to a file"
            )
    return message


def write_parquet(result: Result, path: Path) -> None:
    """Write a result as a Parquet file, atomically, with the columns' DuckDB types.

    Raises StoreError where the file cannot be written.
    """
    names = ", ".join(
        f'"{name}" {kind}' for name, kind in zip(result.columns, result.types, strict=True)
    )
    with (
        replacing(path) as temporary,
        duckdb.connect(":memory:", config={"threads": "1"}) as connection,
    ):
        connection.execute(f"CREATE TABLE result ({names})")
        with connection.appender("result") as appender:
            appender.append_rows(result.rows)
        target = str(temporary).replace("'", "''")
        connection.execute(f"COPY result TO '{target}' (FORMAT parquet)")

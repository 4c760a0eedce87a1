"""Ask results.duckdb: by short read-only connections, so that a question never stands in a run's way.

bring_up_to_date(paths)           load first what no scheduler is there to load
run(paths, "SELECT ...")          any SQL that only reads; db/queries has those with a name
write_parquet(result, path)       a result as a Parquet file
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from prunectl.errors import NoStatement, QueryError, StoreBusy, StoreError
from prunectl.store import files, refusals
from prunectl.store.db import ingest, schema
from prunectl.store.db.database import Connection, Damaged, is_damage, opened
from prunectl.store.files import replacing
from prunectl.store.locks import is_held
from prunectl.store.paths import StorePaths
from prunectl.text import plural

PATIENCE = 20.0
"""Seconds that a question waits for whoever holds the file; the scheduler closes it within about 20 ms."""

Parameters = Mapping[str, Any] | Sequence[Any] | None

tell: Callable[[str], object] = str
"""Gets a sentence where a question finds the database damaged and has it made anew; a command sets it."""


@dataclass(frozen=True)
class Result:
    """A table: the names and DuckDB types of its columns, and its rows."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool = False
    """Whether there are more rows than were asked for."""

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def bring_up_to_date(paths: StorePaths, *, stages: Collection[str] | None = None) -> list[str]:
    """Load what is new, unless a scheduler is alive, which does so every second. Returns sentences for the user.

    `stages`: load new plans and these stages also then, for a question that must know them at once.

    Never raises for the store: where the database is held, cannot be written or is newer than this program, a
    sentence says so, and the question that follows fails itself or is answered from what is there.
    """
    alive = is_held(paths.scheduler_lock)
    folders = paths.stages, paths.plans
    if (alive and stages is None) or not any(map(files.disk.is_folder, folders)):
        return []
    try:
        report = ingest.ingest(paths, stages if alive else None)
    except StoreError as error:
        return [f"the answer may be behind: {error}"]
    except OSError as error:
        return [f"the answer may be behind: {refusals.refused(error)}"]
    if report.busy:
        return [f"the answer may be behind: {paths.database.name} is held by another program"]
    return [*report.notes, *report.left_out]


def run(
    paths: StorePaths,
    sql: str,
    parameters: Parameters = None,
    limit: int | None = None,
    patience: float = PATIENCE,
) -> Result:
    """Run one or more SQL statements, which may only read. Returns the answer of the last one.

    A missing, damaged or older database is created from the stage folders first; `tell` hears of a damaged one. A
    store in which nothing has been run yet is answered for from empty tables, and nothing is written.

    Args:
        parameters: values for `$name` or `$1`.
        limit: rows at the most.
        patience: seconds to wait for another process that holds the file.

    Raises QueryError for what the database refuses, StoreBusy where another process keeps holding the file,
    StoreError where there is no store.
    """
    damage: Damaged | None = None
    if files.disk.exists(paths.database):
        try:
            with _opened(paths, patience) as connection:
                if schema.is_current(connection):
                    return _answer(paths, connection, sql, parameters, limit)
        except Damaged as error:
            damage = error
    elif not any(map(files.disk.exists, (paths.stages, paths.plans))):
        if not paths.is_store():
            raise StoreError(
                f"{paths.root} holds no results; `prunectl run PLAN` makes some, --store names another place"
            )
        return _of_nothing(sql, parameters, limit)
    if damage is not None:
        # Whole, for bringing it up to date may not touch the part that is damaged.
        ingest.rebuild(paths)
        tell(f"{damage}: it was made anew from the files")
    elif ingest.ingest(paths, patience=PATIENCE).busy:
        raise StoreBusy(f"{paths.database} is being made by another process; try again")
    with _opened(paths, patience) as connection:
        if not schema.is_current(connection):
            raise StoreError(f"{paths.database} has tables of another version")
        return execute(connection, sql, parameters, limit)


def _answer(
    paths: StorePaths, connection: Connection, sql: str, parameters: Parameters, limit: int | None
) -> Result:
    """Run SQL; errors as `execute`, and Damaged where it may fail because tables or views are missing."""
    try:
        return execute(connection, sql, parameters, limit)
    except QueryError as error:
        missing = schema.missing(connection)
        if not missing:
            raise
        raise Damaged(f"{paths.database} lacks {', '.join(missing)}") from error


def _of_nothing(sql: str, parameters: Parameters, limit: int | None) -> Result:
    """Run SQL on empty tables in memory; otherwise as `run`."""
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        schema.create(connection)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        connection.execute("BEGIN TRANSACTION READ ONLY")  # a statement that writes is told as ever
        return execute(connection, sql, parameters, limit)


def read_all(paths: StorePaths) -> None:
    """Read every row of every table. Raises Damaged where one cannot be, StoreError where the file cannot be opened."""
    with _opened(paths, PATIENCE) as connection:
        names = "SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"
        for (table,) in connection.execute(names).fetchall():
            connection.execute(f'SELECT bit_xor(hash(t)) FROM "{table}" t').fetchall()


def left_out(paths: StorePaths, patience: float = PATIENCE) -> dict[str, str]:
    """Return what is wrong with each file that is left out, or of which lines are, by its path inside the store.

    Raises as `run`.
    """
    sql = (
        "SELECT source, min_by(text, place), count(*) FROM left_out GROUP BY source ORDER BY source"
    )
    return {
        source: text + (f", and {plural(count - 1, 'more line')}" if count > 1 else "")
        for source, text, count in run(paths, sql, patience=patience).rows
    }


def _opened(paths: StorePaths, patience: float) -> AbstractContextManager[Connection]:
    return opened(paths.database, write=False, patience=patience)


def execute(connection: Connection, sql: str, parameters: Parameters, limit: int | None) -> Result:
    """Run SQL on an open connection.

    Raises QueryError for what the database refuses, and where it was interrupted; NoStatement for an empty text.
    """
    try:
        if not connection.extract_statements(sql):
            raise NoStatement("no statement")
        cursor = connection.execute(sql, parameters) if parameters else connection.execute(sql)
        if cursor.description is None:
            return Result((), (), [])
        columns = tuple(str(column[0]) for column in cursor.description)
        types = tuple(str(column[1]) for column in cursor.description)
        rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
    except duckdb.InterruptException as error:
        raise QueryError("interrupted") from error
    except duckdb.Error as error:
        if is_damage(error):  # who opened the file says which it is
            raise
        raise QueryError(_explained(str(error))) from error
    truncated = limit is not None and len(rows) > limit
    return Result(columns, types, rows[:limit], truncated)


_REFUSED = (
    (re.compile(r'statement of type "(\w+)".*read-only', re.S), "writes ({0})"),
    (re.compile(r"transaction is launched in read-only mode"), "writes"),
    (
        re.compile(r"file system operations are disabled|external extensions is disabled"),
        "reads or writes files",
    ),
    (re.compile(r"configuration has been locked"), "changes settings"),
)


def _explained(message: str) -> str:
    """Return DuckDB's message, or a sentence where it means that this connection only reads the store."""
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

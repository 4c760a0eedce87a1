"""Compare results.duckdb with a database that is made anew from the files, row by row, for `store verify`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import duckdb

from prunectl.errors import DiskError
from prunectl.store.db import ingest
from prunectl.store.db.column_docs import docs
from prunectl.store.db.database import (
    WRITER,
    Connection,
    attached,
    first_column,
    incomplete,
)
from prunectl.store.db.left_out import REPLACED, UNREADABLE
from prunectl.store.db.log_reader import SCHEDULER
from prunectl.store.db.query import PATIENCE
from prunectl.store.paths import StorePaths
from prunectl.store.progress import Progress, silent
from prunectl.text import plural

KEPT = "kept"
"""The name that the store's database has beside the new one."""

_LOGS = {
    "stages": "stage",
    "epochs": "stage",
    "layers": "stage",
    "correctness": "stage",
    "rates": "stage",
    "events": "log",
    "ingested": "source",
    "left_out": f"CASE source WHEN '{SCHEDULER}.jsonl' THEN '{SCHEDULER}' ELSE split_part(source, '/', 2) END",
}
"""Tables whose rows come from logs, and which log a row is of."""
_FILES = dict.fromkeys(
    ("plans", "plan_trials", "plan_selections", "tasks", "trials", "paths", "stages"), "plans/"
) | {
    "runs": "runs/",
    "replications": "replications/",
    "labels": "labels/",
}
"""Tables whose rows come from files that are read whole, and how the names of these begin."""
_UNMADE = {"left_out": f"place <> {REPLACED} AND source NOT IN (FROM moved)"}
"""Rows that a new database cannot have, or need not have."""
_UNCOMPARED = ("store",)
"""When the database was made, and by which version."""
_MOVED = f"""
    CREATE TEMP TABLE moved AS WITH files AS (
        SELECT source FROM ingested AS new FULL JOIN {KEPT}.ingested AS old USING (source)
        WHERE new.bytes IS DISTINCT FROM old.bytes OR new.stamp IS DISTINCT FROM old.stamp
        UNION SELECT source FROM left_out
        WHERE place IN (0, {UNREADABLE}) AND source NOT LIKE '%/result.json' AND source NOT LIKE '%.jsonl'
    )
    FROM files UNION SELECT split_part(source, '/', 2) FROM files WHERE source LIKE '%/spec.json'
"""
"""What is not compared: what has changed since the database was brought up to date, and what cannot be read, of which
the database keeps what it had read before."""
_EXCLUDED = re.compile(r"(?<=EXCLUDE \()[^)]*")
"""Columns that a view leaves out, which DuckDB tells in any order."""


def differences(paths: StorePaths, progress: Progress = silent) -> list[str]:
    """Return a sentence for each table that is not what the files say; `progress` hears how many stages are compared.

    What a run has written to its files since the database was brought up to date is not compared. Raises Damaged
    where the database cannot be read or is not whole, StoreBusy where it stays held, DiskError without room for two.
    """
    # What the memory does not hold goes where DuckDB would put it for the file.
    place = {"temp_directory": f"{paths.database}.tmp"}
    with duckdb.connect(":memory:", config=dict(WRITER | place)) as connection:
        try:
            ingest.fill(paths, connection, ingest.IngestReport(), partial(_compared, progress))
            with attached(connection, paths.database, KEPT, patience=PATIENCE):
                return [*_views(connection), *_tables(connection)]
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise incomplete(paths.database, error) from error
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            what = str(error).splitlines()[0]
            raise DiskError(f"no room for a second {paths.database.name}: {what}") from error


def _compared(progress: Progress, _: str, done: int, total: int) -> None:
    progress("stages compared with the database", done, total)


def _views(connection: Connection) -> Iterator[str]:
    sql = "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal AND database_name = $1"
    old, new = (
        {str(name): _EXCLUDED.sub(_in_order, text) for name, text in rows}
        for rows in (connection.execute(sql, [each]).fetchall() for each in (KEPT, "memory"))
    )
    for name in new:
        if old.get(name) != new[name]:
            yield f"the view {name} is not that of this version"


def _in_order(excluded: re.Match[str]) -> str:
    return ", ".join(sorted(excluded[0].split(", ")))


def _tables(connection: Connection) -> Iterator[str]:
    connection.execute(_MOVED)
    names = first_column(connection, "FROM moved")
    for table in docs().tables:
        beginning = _FILES.get(table)
        if beginning is not None and any(name.startswith(beginning) for name in names):
            continue
        if table in _UNCOMPARED:
            continue
        where = [f"({_LOGS[table]}) NOT IN (FROM moved)"] if table in _LOGS else []
        where += [_UNMADE[table]] if table in _UNMADE else []
        rows = f'SELECT * FROM {{}}."{table}" WHERE {" AND ".join(where) or "true"}'
        old, new = rows.format(KEPT), rows.format("memory")
        column = str(connection.execute(f"DESCRIBE {new}").fetchall()[0][0])
        found = [
            connection.execute(
                f'SELECT count(*), min("{column}"::VARCHAR) FROM ({one} EXCEPT ALL {other})'
            ).fetchall()[0]
            for one, other in ((old, new), (new, old))
        ]
        count, example = max(found, key=lambda each: int(each[0]))
        if count:
            yield (
                f"{plural(count, 'row')} of {table} {'is' if count == 1 else 'are'} not what the files say, "
                f"such as of {column} {example}"
            )

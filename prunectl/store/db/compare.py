"""Compare results.duckdb with a database that is made anew from the files, row by row, for `store verify`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import duckdb

from prunectl.store.db import ingest, schema
from prunectl.store.db.column_docs import docs
from prunectl.store.db.database import (
    WRITER,
    Connection,
    attached,
    first_column,
    incomplete,
)
from prunectl.store.db.left_out import REPLACED
from prunectl.store.db.loader import SCHEDULER
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
    "rates": "stage",
    "events": "log",
    "ingested": "source",
    "left_out": f"CASE source WHEN '{SCHEDULER}.jsonl' THEN '{SCHEDULER}' ELSE split_part(source, '/', 2) END",
}
"""Tables whose rows come from logs, and which log a row is of; the others' come from files that are read whole."""
_FROM_PLANS = ("stages",)
"""Those of them whose rows come from plans, too."""
_UNMADE = {"left_out": f"place <> {REPLACED}"}
"""Rows that a new database cannot have."""
_UNCOMPARED = ("store",)
"""When the database was made, and by which version."""
_EXCLUDED = re.compile(r"(?<=EXCLUDE \()[^)]*")
"""Columns that a view leaves out, which DuckDB tells in any order."""


def differences(paths: StorePaths, progress: Progress = silent) -> list[str]:
    """Return a sentence for each table that is not what the files say; `progress` hears how many stages are compared.

    What a run has written to its files since the database was brought up to date is not compared. Raises Damaged
    where the database cannot be read or is not whole, StoreBusy where it stays held.
    """
    with duckdb.connect(":memory:", config=dict(WRITER)) as connection:
        ingest.fill(paths, connection, ingest.IngestReport(), partial(_compared, progress))
        try:
            with attached(connection, paths.database, KEPT, patience=PATIENCE):
                return [*_views(connection), *_tables(connection)]
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise incomplete(paths.database, error) from error


def _compared(progress: Progress, _: str, done: int, total: int) -> None:
    progress("compared with the database", done, total)


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
    connection.execute(
        "CREATE TEMP TABLE moved AS SELECT source FROM ingested AS new "
        f"FULL JOIN {KEPT}.ingested AS old USING (source) "
        "WHERE new.bytes IS DISTINCT FROM old.bytes OR new.stamp IS DISTINCT FROM old.stamp"
    )
    # Of a file that is read whole.
    [recorded] = first_column(connection, "SELECT count(*) FROM moved WHERE contains(source, '/')")
    for table in docs().tables:
        is_planned = table in _FROM_PLANS or table not in (*_LOGS, *schema.SHIPPED)
        if table in _UNCOMPARED or (recorded and is_planned):
            continue
        where = [f"({_LOGS[table]}) NOT IN (FROM moved)"] if table in _LOGS else []
        where += [_UNMADE[table]] if table in _UNMADE else []
        rows = f'SELECT * FROM {{0}}."{table}" WHERE {" AND ".join(where) or "true"}'
        old, new = rows.format(KEPT), rows.format("memory")
        changed = [
            connection.execute(f"SELECT * FROM ({one} EXCEPT ALL {other}) ORDER BY ALL").fetchall()
            for one, other in ((old, new), (new, old))
        ]
        if not any(changed):
            continue
        [column, *_] = [str(each[0]) for each in connection.execute(f"DESCRIBE {new}").fetchall()]
        example = next(row[0] for rows in changed for row in rows)
        count = max(map(len, changed))
        yield (
            f"{plural(count, 'row')} of {table} {'is' if count == 1 else 'are'} not what the files say, "
            f"such as of {column} {example}"
        )

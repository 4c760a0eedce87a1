"""Create and version the tables of results.duckdb: schema.sql, views.sql and the texts of `column_docs`.

The database is an index of the stage folders, so it is never altered in place: a file of an older version is created
anew from the folders (`ingest.rebuild`), one of a newer version is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import as_file, files

import duckdb

from prunectl.errors import StoreError
from prunectl.spec.task import CLASSIFICATION, DEFAULT_TASK
from prunectl.store.db import database
from prunectl.store.db.column_docs import docs
from prunectl.store.db.database import Connection
from prunectl.store.db.rows import TASK, task_rows
from prunectl.version import __version__

SCHEMA = 9
"""Version of the tables and views; raised with every change of them."""

SHIPPED = ("published", "t_quantiles")
"""Tables that come with prunectl, as NAME.csv.gz. The quantiles are SciPy's, computed beforehand: to import
scipy.special takes 0.3 s, longer than all else that creating a database does."""


def create(connection: Connection) -> None:
    """Create all tables and views, with their comments, in an empty database, and load the shipped ones.

    Of tasks there is classification alone, whose stages and trials need name no task; others come with their plans.
    """
    connection.begin()
    connection.execute(_text("schema.sql"))
    connection.execute(_text("views.sql"))
    connection.execute(
        "INSERT INTO store VALUES ($1, $2, $3)",
        [SCHEMA, __version__, datetime.now(UTC).replace(tzinfo=None)],
    )
    for table in SHIPPED:
        _load(connection, table)
    database.upsert(connection, "tasks", TASK, task_rows(DEFAULT_TASK, CLASSIFICATION))
    _comment(connection)
    connection.commit()


def _text(name: str) -> str:
    return (files("prunectl.store.db") / name).read_text(encoding="utf-8")


def _load(connection: Connection, table: str) -> None:
    with as_file(files("prunectl.store.db") / f"{table}.csv.gz") as file:
        # By DuckDB's own reader: the 7,905 published rows take it 0.05 s, and 0.25 s where they pass through Python.
        connection.execute(
            f"COPY {table} FROM {_quoted(str(file))} (FORMAT csv, HEADER, AUTO_DETECT false)"
        )


def _comment(connection: Connection) -> None:
    """Attach the texts of `column_docs` as comments."""
    named = [("TABLE", name, text) for name, text in docs().tables.items()]
    named += [("VIEW", name, text) for name, text in docs().views.items()]
    columns = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
    ).fetchall()
    named += [
        ("COLUMN", f'{table}."{column}"', docs().column(table, column)) for table, column in columns
    ]
    connection.execute(
        ";".join(f"COMMENT ON {kind} {name} IS {_quoted(text)}" for kind, name, text in named)
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def version(connection: Connection) -> tuple[int, str] | None:
    """The version of the file's tables and the prunectl that made them; None where it has no tables of ours."""
    try:
        rows = connection.execute("SELECT schema_version, prunectl FROM store").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        return None
    return (int(rows[0][0]), str(rows[0][1])) if rows else None


def is_current(connection: Connection) -> bool:
    """Whether the file has this version's tables; False where they are older or missing.

    Raises StoreError where they are newer, naming both versions.
    """
    found = version(connection)
    if found and found[0] > SCHEMA:
        raise StoreError(
            f"the store's database has schema version {found[0]}, made by prunectl {found[1]}; this is "
            f"prunectl {__version__}, which knows versions up to {SCHEMA}. "
            "Update prunectl, or give another --store"
        )
    return found is not None and found[0] == SCHEMA


def missing(connection: Connection) -> list[str]:
    """List tables and views that a file of this version has, and this one lacks."""
    found = database.first_column(
        connection,
        "SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views()",
    )
    return sorted({*docs().tables, *docs().views} - {*found})


def schema_text() -> str:
    """All tables and views with their columns, types and meanings, as Markdown."""
    out: list[str] = []
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        create(connection)
        kinds = dict(
            connection.execute(
                "SELECT table_name, 'table' FROM duckdb_tables() WHERE NOT internal UNION ALL "
                "SELECT view_name, 'view' FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        )
        for name in [*reversed(docs().views), *docs().tables]:
            text = (docs().tables | docs().views)[name]
            out += [f"### {name} ({kinds[name]})", "", text, ""]
            columns = _columns(connection, name)
            if name.endswith("_all"):  # the same twice would hide what is more
                current = name.removesuffix("_all")
                out += [f"The columns of `{current}`, and:", ""]
                columns = [each for each in columns if each not in _columns(connection, current)]
            out += ["| column | type | meaning |", "|---|---|---|"]
            out += [f"| {column} | {kind} | {comment} |" for column, kind, comment in columns]
            out.append("")
    return "\n".join(out)


def _columns(connection: Connection, table: str) -> list[tuple[str, str, str]]:
    """Read name, type and meaning of each column, in order."""
    sql = (
        "SELECT column_name, data_type, comment FROM duckdb_columns() "
        "WHERE table_name = $1 AND NOT internal ORDER BY column_index"
    )
    return connection.execute(sql, [table]).fetchall()

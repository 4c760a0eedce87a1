"""The tables of results.duckdb: made from schema.sql and views.sql, described by the glossary, versioned.

The database is an index of the stage folders, so it is never altered in place: a file of an older version is made
anew from the folders (`ingest.rebuild`), one of a newer version is refused.
"""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime
from importlib.resources import files

import duckdb

from prunectl.errors import StoreError
from prunectl.store.db import column_docs as glossary
from prunectl.store.db import student
from prunectl.store.db.database import Connection
from prunectl.version import __version__

SCHEMA = 2
"""Version of the tables and views; raised with every change of them."""


def create(connection: Connection) -> None:
    """Make all tables and views in an empty database, described, with the published results loaded."""
    connection.begin()
    connection.execute(_text("schema.sql"))
    connection.execute(student.macros())
    connection.execute(_text("views.sql"))
    connection.execute(
        "INSERT INTO store VALUES ($1, $2, $3)",
        [SCHEMA, __version__, datetime.now(UTC).replace(tzinfo=None)],
    )
    _load_published(connection)
    _comment(connection)
    connection.commit()


def _text(name: str) -> str:
    return (files("prunectl.store.db") / name).read_text(encoding="utf-8")


def _load_published(connection: Connection) -> None:
    packed = (files("prunectl.store.db") / "published.csv.gz").read_bytes()
    rows = csv.reader(io.StringIO(gzip.decompress(packed).decode("utf-8")))
    header = next(rows)
    with connection.appender("published", columns=header) as appender:
        appender.append_rows([value or None for value in row] for row in rows)


def _comment(connection: Connection) -> None:
    for kind, texts in (("TABLE", glossary.TABLES), ("VIEW", glossary.VIEWS)):
        for name, text in texts.items():
            connection.execute(f"COMMENT ON {kind} {name} IS {_quoted(text)}")
    columns = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
    ).fetchall()
    for table, column in columns:
        text = glossary.describe(table, column)
        connection.execute(f'COMMENT ON COLUMN {table}."{column}" IS {_quoted(text)}')


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
        for name in [*reversed(glossary.VIEWS), *glossary.TABLES]:
            text = (glossary.TABLES | glossary.VIEWS)[name]
            out += [f"### {name} ({kinds[name]})", "", text, ""]
            out += ["| column | type | meaning |", "|---|---|---|"]
            columns = connection.execute(
                "SELECT column_name, data_type, comment FROM duckdb_columns() "
                "WHERE table_name = $1 AND NOT internal ORDER BY column_index",
                [name],
            ).fetchall()
            out += [f"| {column} | {kind} | {comment} |" for column, kind, comment in columns]
            out.append("")
    return "\n".join(out)

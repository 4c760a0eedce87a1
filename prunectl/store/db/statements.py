"""The few statements that ingestion is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import Any

from prunectl.store.db.database import Connection
from prunectl.store.db.ingest_offsets import MARK, Mark
from prunectl.store.db.rows import Row


class Statements:
    """On one open connection; transactions are the caller's."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def put(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Insert rows, or overwrite these columns of the rows that have the same primary key."""
        rows = list(rows)
        if rows:
            with self.connection.appender(
                table, columns=list(columns), action="upsert"
            ) as appender:
                appender.append_rows(rows)

    def marks(self, which: str, *parameters: list[str]) -> dict[str, Mark]:
        """The marks that an SQL condition picks, by source."""
        query = f"SELECT source, {', '.join(MARK)} FROM ingested WHERE {which}"
        found = self.connection.execute(query, parameters).fetchall()
        return {source: Mark(*rest) for source, *rest in found}

    def mark(self, marks: dict[str, Mark]) -> None:
        """Write how far sources have been read."""
        rows = [(source, *astuple(mark)) for source, mark in marks.items()]
        self.put("ingested", ("source", *MARK), rows)

    def scalar(self, query: str) -> Any:
        """The first value of the answer; None where it is empty."""
        # fetchall and not fetchone: a result that is not read to its end keeps the connection busy.
        rows = self.connection.execute(query).fetchall()
        return rows[0][0] if rows else None

    def column(self, query: str, values: list[str]) -> list[Any]:
        """The first column of the answer to a query about a list of values."""
        return [row[0] for row in self.connection.execute(query, [values]).fetchall()]

"""The SQL view without a screen: queries, their parameters, and what the panel on the left lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunectl.tui.columns import Cell, Column

if TYPE_CHECKING:
    from prunectl.store.db.query import Result
    from prunectl.store.db.replica import Table

START = """-- ^j or F5 runs this; ^o: recipes, history, tables
SELECT strategy, target_sparsity AS sparsity, n,
       round(mean, 2) AS mean, round(delta, 2) AS delta
FROM leaderboard
WHERE n > 0
ORDER BY sparsity, mean DESC
"""
WIDEST = 40
"""Columns of a result are no wider, in terminal cells."""
SAMPLE = 200
"""Rows of a result that decide how wide its columns are."""


def parameters(sql: str) -> dict[str, str]:
    """Return the values in comments ``-- :name value``, of those that the SQL uses as ``$name``."""
    from prunectl.store.db import queries

    body = re.sub(r"--.*", "", sql)
    known = queries.parse("", sql).parameters
    return {name: value or "" for name, value in known.items() if re.search(rf"\${name}\b", body)}


@dataclass(frozen=True)
class Entry:
    """One line of the list: a query, one that was run before, a table or a column of it."""

    key: str
    text: str
    kind: str
    """recipe, history, table, column, note or heading."""
    sql: str = ""
    """What choosing it puts into the editor."""


def _entry_cell(entry: Entry) -> Cell:
    return Cell(entry.text, "accent" if entry.kind == "heading" else "")


ENTRIES: tuple[Column[Entry], ...] = (Column("text", "", 10, _entry_cell, flex=True),)


def entries(
    known: Mapping[str, str], history: Sequence[str], tables: Sequence[Table]
) -> list[Entry]:
    """Return queries, history (newest first) and tables."""
    out = [Entry("h/recipes", "Recipes", "heading")]
    out += [Entry(f"r/{name}", f"  {name}", "recipe", sql) for name, sql in known.items()]
    if not known:
        out.append(Entry("r/none", "  none: *.sql in store/recipes", "note"))
    if history:
        out.append(Entry("h/history", "History", "heading"))
    for number, sql in reversed(list(enumerate(history))):
        out.append(Entry(f"q/{number}", f"  {' '.join(sql.split())}", "history", sql))
    if tables:
        out.append(Entry("h/schema", "Tables", "heading"))
    for table in tables:
        count = "" if table.rows is None else f"  {table.rows:,}"
        sql = f"SELECT *\nFROM {table.name}\nLIMIT 100\n"
        out.append(Entry(f"t/{table.name}", f"  {table.name}{count}", "table", sql))
        out += [Entry(f"t/{table.name}/{name}", f"     {name}", "column") for name in table.columns]
    return out


Row = tuple[int, tuple[object, ...]]
"""Number of the row, from 0, and its values."""


def result_columns(result: Result) -> tuple[Column[Row], ...]:
    """Return columns as wide as what is in them, numbers on the right; the first is the number of the row."""
    from prunectl.results.formats import numeric, shown

    def column(index: int, name: str, number: bool) -> Column[Row]:
        sample = (len(shown(row[index])) for row in result.rows[:SAMPLE])
        width = min(WIDEST, max(len(name) + 1, *sample, 0))
        order = (lambda row: row[1][index]) if number else None
        return Column(f"{index}/{name}", name, width, lambda row: Cell(shown(row[1][index])),
                      right=number, order=order)  # fmt: skip

    digits = max(2, len(str(len(result.rows))))
    first: Column[Row] = Column("#", "#", digits, lambda row: Cell(str(row[0] + 1), "dim"),
                                right=True, order=lambda row: row[0])  # fmt: skip
    named = zip(result.columns, numeric(result), strict=True)
    return (first, *(column(i, name, number) for i, (name, number) in enumerate(named)))

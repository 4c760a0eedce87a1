"""The SQL view without a screen: recipes, their parameters, and what the panel on the left lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunectl.tui.columns import Cell, Column

if TYPE_CHECKING:
    from prunectl.store.db.query import Result
    from prunectl.store.db.replica import Table

_PARAMETER = re.compile(r"^--\s*:(\w+)[ \t]*(.*)$", re.M)
START = """-- ^j or F5 runs this; ^o: recipes, history, tables
SELECT strategy, target_sparsity AS sparsity, n,
       round(mean, 2) AS mean, round(delta, 2) AS delta
FROM leaderboard
WHERE n > 0
ORDER BY sparsity, mean DESC
"""


def parameters(sql: str) -> dict[str, str]:
    """Values from the comments ``-- :name value`` for those of them that the text uses as ``$name``."""
    found = {name: value.strip() for name, value in _PARAMETER.findall(sql)}
    body = re.sub(r"--.*", "", sql)
    return {name: value for name, value in found.items() if re.search(rf"\${name}\b", body)}


@dataclass(frozen=True)
class Entry:
    """One line of the list: a recipe, a question asked before, a table or a column of it."""

    key: str
    text: str
    kind: str
    """recipe, history, table, or heading."""
    sql: str = ""
    """What choosing it puts into the editor."""


ENTRIES: tuple[Column[Entry], ...] = (
    Column(
        "text", "", 10, lambda e: Cell(e.text, "accent" if e.kind == "heading" else ""), flex=True
    ),
)


def entries(
    known: Mapping[str, str], history: Sequence[str], tables: Sequence[Table]
) -> list[Entry]:
    """Recipes, history (newest first) and the schema."""
    out = [Entry("h/recipes", "Recipes", "heading")]
    out += [Entry(f"r/{name}", f"  {name}", "recipe", sql) for name, sql in known.items()]
    if not known:
        out.append(Entry("r/none", "  none: *.sql in store/recipes", "note"))
    if history:
        out.append(Entry("h/history", "History", "heading"))
        out += [
            Entry(f"q/{n}", f"  {' '.join(sql.split())}", "history", sql)
            for n, sql in reversed(list(enumerate(history)))
        ]
    if tables:
        out.append(Entry("h/schema", "Tables", "heading"))
    for table in tables:
        count = "" if table.rows is None else f"  {table.rows:,}"
        sql = f"SELECT *\nFROM {table.name}\nLIMIT 100\n"
        out.append(Entry(f"t/{table.name}", f"  {table.name}{count}", "table", sql))
        out += [Entry(f"t/{table.name}/{name}", f"     {name}", "column") for name in table.columns]
    return out


Row = tuple[int, tuple[object, ...]]
WIDEST = 40


def result_columns(result: Result) -> tuple[Column[Row], ...]:
    """Columns as wide as what is in them, numbers on the right; the first is the number of the row."""
    from prunectl.results.formats import numeric, shown

    first: Column[Row] = Column("#", "#", max(2, len(str(len(result.rows)))), lambda r: Cell(str(r[0] + 1), "dim"),
                                right=True, order=lambda r: r[0])  # fmt: skip

    def column(index: int, name: str, number: bool) -> Column[Row]:
        sample = [shown(row[index]) for row in result.rows[:200]]
        width = min(WIDEST, max([len(name) + 1, *map(len, sample)]))
        return Column(
            f"{index}/{name}",
            name,
            width,
            lambda r: Cell(shown(r[1][index])),
            right=number,
            order=(lambda r: r[1][index]) if number else None,
        )

    named = zip(result.columns, numeric(result), strict=True)
    return (first, *(column(i, name, number) for i, (name, number) in enumerate(named)))

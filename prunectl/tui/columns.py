"""Tables without a screen: what a column shows of an item, and which items are shown in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Cell(NamedTuple):
    """Text, never markup, and a style by name: dim, good, bad, warn, accent, bold or none."""

    text: str
    style: str = ""
    below: str = ""
    """A second line, dim, in tables whose rows have two."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table of `T`."""

    name: str
    """Its key, which stays the same while tables change."""
    heading: str
    width: int
    """In terminal cells; the smallest one for a flexible column."""
    cell: Callable[[T], Cell]
    right: bool = False
    """Aligned to the right."""
    order: Callable[[T], Any] | None = None
    """The value to sort by; None sorts by the text."""
    rank: int = 0
    """Where there is no room, columns of the highest rank go first; 0 never goes."""
    flex: bool = False
    """Takes the width that is left."""


def visible(columns: Sequence[Column[T]], width: int) -> list[tuple[Column[T], int]]:
    """Return the columns that fit into `width` with a space between them, and their widths."""
    chosen = list(columns)

    def room() -> int:
        return width + 1 - sum(column.width + 1 for column in chosen)

    while room() < 0 and any(column.rank for column in chosen):
        worst = max(column.rank for column in chosen)
        del chosen[max(i for i, column in enumerate(chosen) if column.rank == worst)]
    flexible = [column for column in chosen if column.flex]
    share, rest = divmod(max(0, room()), max(1, len(flexible)))
    extra = {c.name: share + (rest if c is flexible[0] else 0) for c in flexible}
    return [(column, column.width + extra.get(column.name, 0)) for column in chosen]


def text_of(item: T, columns: Iterable[Column[T]]) -> str:
    """Return the text that a filter searches: every column, shown or not, in lower case."""
    return " ".join(column.cell(item).text for column in columns).lower()


def matches(text: str, query: str) -> bool:
    """Return whether a row's text has every word of the query, and none of those after a `!`."""
    for word in query.lower().split():
        if word.startswith("!"):
            if len(word) > 1 and word[1:] in text:
                return False
        elif word not in text:
            return False
    return True


def ordered(items: Sequence[T], column: Column[T], reverse: bool) -> list[T]:
    """Sort by a column; items without a value, or with not a number, come last in either direction."""
    known: list[tuple[Any, T]] = []
    unknown: list[T] = []
    for item in items:
        value = column.order(item) if column.order else column.cell(item).text
        if value is None or (isinstance(value, float) and math.isnan(value)):
            unknown.append(item)
        else:
            known.append((value, item))
    known.sort(key=lambda pair: pair[0], reverse=reverse)
    return [item for _, item in known] + unknown

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
    """Its key: stable while tables change."""
    heading: str
    width: int
    cell: Callable[[T], Cell]
    right: bool = False
    order: Callable[[T], Any] | None = None
    """What to sort by; None: the text."""
    rank: int = 0
    """Where there is no room, columns of the highest rank go first; 0 never goes."""
    flex: bool = False
    """Takes the width that is left."""


def visible(columns: Sequence[Column[T]], width: int) -> list[tuple[Column[T], int]]:
    """The columns that fit into `width` with a space between them, and their widths."""
    chosen = list(columns)

    def needed() -> int:
        return sum(column.width + 1 for column in chosen) - 1

    while needed() > width and any(column.rank for column in chosen):
        worst = max(column.rank for column in chosen)
        last = max(i for i, column in enumerate(chosen) if column.rank == worst)
        del chosen[last]
    left = max(0, width - needed())
    flexible = [column for column in chosen if column.flex]
    share, rest = divmod(left, len(flexible)) if flexible else (0, 0)
    widths = []
    for column in chosen:
        extra = share + (1 if rest and column is flexible[0] else 0) if column.flex else 0
        if column.flex and column is flexible[0]:
            extra = share + rest
        widths.append((column, column.width + extra))
    return widths


def text_of(item: T, columns: Iterable[Column[T]]) -> str:
    """All that a filter looks at: every column, shown or not, in small letters."""
    return " ".join(column.cell(item).text for column in columns).lower()


def matches(text: str, query: str) -> bool:
    """Whether a row's text has every word of the query, and none of those after a `!`."""
    for word in query.lower().split():
        if word.startswith("!"):
            if len(word) > 1 and word[1:] in text:
                return False
        elif word not in text:
            return False
    return True


def ordered(items: Sequence[T], column: Column[T], reverse: bool) -> list[T]:
    """Sorted by a column; what has no value, or none that is a number, comes last either way."""
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

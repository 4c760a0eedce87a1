"""README's tables, in markdown, from the results of `bench card`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prunectl.bench.card.records import Card, Check, Figure, PartResult
from prunectl.bench.card.steps import part_of
from prunectl.bench.train import cuda_tables
from prunectl.text import DASH, number

PLACES = ((100.0, 0), (10.0, 1), (1.0, 2))
"""Digits after the point of numbers that are at least so large; smaller ones have three."""


def markdown(card: Card) -> str:
    """Return the tables: seconds an epoch by network, other figures, and checks."""
    machine = card.machine
    about = (
        f"{', '.join(card.devices)}; {machine.cpu}, {machine.cores} cores; torch {machine.torch}"
    )
    tables = [_epochs(card), _figures(card), _checks(card)]
    return "\n\n".join([about, *(table for table in tables if table)])


def shown(value: float | None) -> str:
    """Write a number with three or four digits."""
    digits = (places for least, places in PLACES if value is not None and abs(value) >= least)
    return DASH if value is None else number(value, next(digits, 3))


def _epochs(card: Card) -> str:
    """Return a row per contender and a column per network, each as seconds and as times faster than the first."""
    tables = cuda_tables(False, "cuda")
    networks = [contenders[0].work.network for contenders in tables]
    rows = []
    for place, contender in enumerate(tables[0]):
        cells = []
        for contenders in tables:
            first, own = (
                _seconds(card, contenders[each].label, contenders[0].work.network)
                for each in (0, place)
            )
            times = f" ({shown(first / own)} ×)" if first and own and place else ""
            cells.append("" if own is None else shown(own) + times)
        if any(cells):
            rows.append([contender.label.strip(), *cells])
    return _table(["seconds an epoch", *networks], rows)


def _seconds(card: Card, label: str, network: str) -> float | None:
    result = card.result("table", part_of(network, label))
    return result.outcome.figures[0].value if result and result.outcome.figures else None


def _figures(card: Card) -> str:
    found = ((part, each) for part in card.parts if part.step != "table" for each in _main(part))
    rows = [[part.name, each.label, f"{shown(each.value)} {each.unit}"] for part, each in found]
    return _table(["part", "what", "measured"], rows)


def _main(part: PartResult) -> Iterator[Figure]:
    """Yield a part's figures, of timings only the median."""
    for figure in part.outcome.figures:
        if not figure.label.endswith((", fastest", ", slowest")):
            yield figure


def _checks(card: Card) -> str:
    rows = [
        [part.name, check.what, "yes" if check.passed else "**no**", check.found]
        for part in card.parts
        for check in (*part.outcome.checks, *_broken(part))
    ]
    return _table(["part", "what must be so", "is it", "found"], rows)


def _broken(part: PartResult) -> Iterator[Check]:
    """Yield why a part has no outcome."""
    if part.message:
        yield Check("runs to its end", False, part.message.splitlines()[-1])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in markdown; nothing where there are no rows."""
    if not rows:
        return ""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)

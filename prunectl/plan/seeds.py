"""`seeds` of a plan: numbers, each of which seeds all purposes, and tables, which cross what they give apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from prunectl.plan.table import Seed, Table
from prunectl.spec.seeds import Seeds

MOST_COMPARED = 400_000
"""Seeds that are looked at for duplicates: with more, the plan is too large in any case (`plan.size.MOST_STAGES`)."""


def _listed(value: Any) -> Any:
    """A single number or table is a list of one."""
    return [value] if isinstance(value, int | dict) else value


Levels = Annotated[tuple[Seed, ...], Field(min_length=1, fail_fast=True), BeforeValidator(_listed)]


class SeedTable(Table):
    """Seeds by purpose, one or several of each: every combination is a trial. What is left out is init's."""

    init: Levels
    order: Levels | None = None
    augment: Levels | None = None

    @field_validator("init", "order", "augment")
    @classmethod
    def _distinct(cls, levels: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if levels is not None and len(set(levels)) != len(levels):
            raise ValueError("seeds must be distinct")
        return levels

    @property
    def count(self) -> int:
        """How many combinations it has."""
        return math.prod(len(each) for each in (self.init, self.order, self.augment) if each)

    def combinations(self) -> Iterator[Seeds]:
        """Yield them, the last purpose first to change."""
        followed: tuple[None] = (None,)
        orders, augments = self.order or followed, self.augment or followed
        for init, order, augment in itertools.product(self.init, orders, augments):
            yield Seeds.of(init, order, augment)


_Item = Annotated[
    Annotated[Seed, Tag("Number")] | Annotated[SeedTable, Tag("Table")],
    Discriminator(lambda item: "Table" if isinstance(item, dict | SeedTable) else "Number"),
]
SeedItems = Annotated[
    tuple[_Item, ...],
    Field(min_length=1, fail_fast=True),
    # Not a number: that could be taken for how many there are.
    BeforeValidator(lambda value: [value] if isinstance(value, dict) else value),
]
"""One table may stand alone, as ``[seeds]``."""


def count(items: Sequence[int | SeedTable]) -> int:
    """Count the trials of a cell, without making them."""
    return sum(1 if isinstance(item, int) else item.count for item in items)


def in_order(items: Sequence[int | SeedTable]) -> Iterator[Seeds]:
    """Yield the seeds of a cell's trials."""
    for item in items:
        if isinstance(item, int):
            yield Seeds.of(item)
        else:
            yield from item.combinations()


def check_distinct(items: tuple[int | SeedTable, ...]) -> tuple[int | SeedTable, ...]:
    """Raise ValueError where two trials of a cell have the same seeds."""
    if count(items) <= MOST_COMPARED:
        seen: set[Seeds] = set()
        for seeds in in_order(items):
            if seeds in seen:
                raise ValueError(f"seeds must be distinct: {seeds} is there twice")
            seen.add(seeds)
    return items


def as_toml(seeds: Seeds) -> str:
    """Write what makes a plan run these seeds alone, for ``--set``."""
    if not seeds.apart:
        return f"seeds=[{seeds.init}]"
    given = (f"{name}={seed}" for name, seed in seeds._asdict().items())
    return f"seeds=[{{{','.join(given)}}}]"

"""The grid of a plan: its axes, and the combinations of their values."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prunectl.plan.load import LoadedPlan
from prunectl.plan.schema import Skip

Changes = tuple[tuple[tuple[str, ...], Any], ...]
"""Keys of the recipe or of pruning, as paths, with the values the grid gives them."""

LISTS = ("network", "dataset", "strategy", "retrain")


@dataclass(frozen=True)
class Axis:
    """A key with the values that the grid gives it."""

    path: tuple[str, ...]
    values: Sequence[Any]

    @property
    def key(self) -> str:
        """Return the key, dotted."""
        return ".".join(self.path)

    @property
    def varies(self) -> bool:
        """Check whether there are several values."""
        return len(self.values) > 1


@dataclass(frozen=True)
class Combination:
    """One value of each axis."""

    network: str
    dataset: str
    strategy: str
    retrain: Any
    changes: Changes

    def changed(self, table: dict[str, Any], first: str) -> dict[str, Any]:
        """Copy the plan's table `first` (recipe or pruning) with this combination's values in it."""
        out = copy.deepcopy(table)
        for path, value in self.changes:
            if path[0] == first:
                inside = out
                for part in path[1:-1]:
                    inside = inside.setdefault(part, {})
                inside[path[-1]] = value
        return out

    def values_in(self, first: str) -> str:
        """Write the combination's values for one table as text, by which what is made of them can be cached."""
        return repr([change for change in self.changes if change[0][0] == first])


def combinations(plan: LoadedPlan) -> Iterator[Combination]:
    """Yield every combination that is not skipped, in the order of the file.

    Raises PlanError for an axis that is not a list of different values, and for a `skip` that skips nothing.
    """
    grid = plan.content.grid
    inner = _inner(plan)
    values_of = [axis.values for axis in inner]
    index = SkipIndex(grid.skip)
    unused = dict(enumerate(grid.skip))
    for network, dataset, strategy, retrain, *values in itertools.product(
        grid.network, grid.dataset, grid.strategy, grid.retrain or (None,), *values_of
    ):
        changes = tuple((axis.path, value) for axis, value in zip(inner, values, strict=True))
        combination = Combination(network, dataset, strategy, retrain, changes)
        kind = kind_of(schedule_of(plan, combination)) if grid.skip else None
        matching = index.matching(combination, kind)
        if not matching:
            yield combination
        for number in matching:
            unused.pop(number, None)
    for skip in unused.values():
        found = str(skip.model_dump(exclude_none=True))
        raise plan.fail("no combination of the grid is this one", "grid.skip", found=found)


def schedule_of(plan: LoadedPlan, combination: Combination) -> object:
    """Return the pruning schedule under the combination, as it stands in the plan; it may be no table at all."""
    return combination.changed(plan.content.pruning, "pruning").get("schedule")


def schedules(plan: LoadedPlan) -> Iterator[object]:
    """Yield every pruning schedule that the grid asks for, as it stands in the plan. Raises PlanError as `axes`."""
    inner = [axis for axis in _inner(plan) if axis.path[:2] == ("pruning", "schedule")]
    for values in itertools.product(*(axis.values for axis in inner)):
        changes = tuple((axis.path, value) for axis, value in zip(inner, values, strict=True))
        yield schedule_of(plan, Combination("", "", "", None, changes))


def kind_of(schedule: object) -> str | None:
    """Find ``one-shot`` or ``iterative``; None for a schedule that validation will reject."""
    kind = schedule.get("kind") if isinstance(schedule, dict) else None
    return kind if isinstance(kind, str) else None


_SKIPPED_BY = ("network", "dataset", "strategy", "schedule")


class SkipIndex:
    """The tables of `grid.skip`, found by what they say: to compare each combination with each takes minutes."""

    def __init__(self, tables: Sequence[Skip]) -> None:
        self._tables: dict[tuple[str | None, ...], list[int]] = {}
        """Their numbers, by the values that they have of `_SKIPPED_BY`."""
        for number, table in enumerate(tables):
            said = tuple(getattr(table, name) for name in _SKIPPED_BY)
            self._tables.setdefault(said, []).append(number)

    def matching(self, combination: Combination, kind: str | None) -> list[int]:
        """List the numbers of the tables that leave the combination out; its schedule is of that kind."""
        actual = (combination.network, combination.dataset, combination.strategy, kind)
        # Each value as it is, or not said.
        saying = itertools.product(*((value, None) for value in actual)) if self._tables else ()
        return [number for said in dict.fromkeys(saying) for number in self._tables.get(said, ())]


def axes(plan: LoadedPlan) -> list[Axis]:
    """List the keys that the grid gives values, with these. Raises PlanError for one that is not a list of different
    values."""
    grid = plan.content.grid
    return [*(Axis((name,), getattr(grid, name) or ()) for name in LISTS), *_inner(plan)]


def _inner(plan: LoadedPlan) -> list[Axis]:
    grid = plan.content.grid
    return [*_axes(plan, grid.recipe, "recipe"), *_axes(plan, grid.pruning, "pruning")]


def _axes(plan: LoadedPlan, table: dict[str, Any], *path: str) -> list[Axis]:
    """Collect the lists in a table of the grid. Raises PlanError."""
    out: list[Axis] = []
    for name, value in table.items():
        key = ".".join(("grid", *path, name))
        if isinstance(value, dict):
            out += _axes(plan, value, *path, name)
        elif not isinstance(value, list) or not value:
            raise plan.fail("an axis is a list of at least one value", key, found=str(value))
        else:
            seen: set[Hashable] = set()
            for item in value:
                if (frozen := _hashable(item)) in seen:
                    raise plan.fail("duplicate value of an axis", key, found=str(item))
                seen.add(frozen)
            out.append(Axis((*path, name), value))
    return out


def _hashable(value: Any) -> Hashable:
    """Turn a TOML value into one that is equal to the same values and can be looked up in a set.

    Comparing each of 10,000 tables with all before it takes 2 s.
    """
    if isinstance(value, dict):
        return frozenset((name, _hashable(item)) for name, item in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list) else value

"""The grid of a plan: its axes, and the combinations of their values."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prunectl.plan.load import LoadedPlan
from prunectl.plan.schema import Grid, Skip

Changes = tuple[tuple[tuple[str, ...], Any], ...]
"""Keys of the recipe or of pruning, as paths, with the values the grid gives them."""

LISTS = ("network", "dataset", "strategy", "retrain")


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
    inner = _inner(plan, grid)
    unused = list(grid.skip)
    for network, dataset, strategy, retrain, *values in itertools.product(
        grid.network, grid.dataset, grid.strategy, grid.retrain or (None,), *(a[1] for a in inner)
    ):
        changes = tuple((path, value) for (path, _), value in zip(inner, values, strict=True))
        combination = Combination(network, dataset, strategy, retrain, changes)
        kind = _schedule_kind(plan, combination)
        matching = [skip for skip in grid.skip if _matches(skip, combination, kind)]
        if not matching:
            yield combination
        unused = [skip for skip in unused if skip not in matching]
    if unused:
        skip = str(unused[0].model_dump(exclude_none=True))
        raise plan.fail("no combination of the grid is this one", "grid.skip", found=skip)


def _schedule_kind(plan: LoadedPlan, combination: Combination) -> str | None:
    """Find ``one-shot`` or ``iterative``; None for a schedule that validation will reject."""
    schedule = combination.changed(plan.content.pruning, "pruning").get("schedule")
    kind = schedule.get("kind") if isinstance(schedule, dict) else None
    return kind if isinstance(kind, str) else None


def _matches(skip: Skip, combination: Combination, kind: str | None) -> bool:
    wanted = (skip.network, skip.dataset, skip.strategy, skip.schedule)
    actual = (combination.network, combination.dataset, combination.strategy, kind)
    return all(each is None or each == value for each, value in zip(wanted, actual, strict=True))


def axes(plan: LoadedPlan) -> list[str]:
    """List the keys that the grid gives more than one value, dotted."""
    grid = plan.content.grid
    names = [name for name in LISTS if len(getattr(grid, name) or ()) > 1]
    return names + [".".join(path) for path, values in _inner(plan, grid) if len(values) > 1]


def _inner(plan: LoadedPlan, grid: Grid) -> list[tuple[tuple[str, ...], list[Any]]]:
    return [*_axes(plan, grid.recipe, "recipe"), *_axes(plan, grid.pruning, "pruning")]


def _axes(
    plan: LoadedPlan, table: dict[str, Any], *path: str
) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Collect the lists in a table of the grid, each with its path. Raises PlanError."""
    out: list[tuple[tuple[str, ...], list[Any]]] = []
    for name, value in table.items():
        key = ".".join(("grid", *path, name))
        if isinstance(value, dict):
            out += _axes(plan, value, *path, name)
        elif not isinstance(value, list) or not value:
            raise plan.fail("an axis is a list of at least one value", key, found=str(value))
        else:
            for index, item in enumerate(value):
                if item in value[:index]:  # values may be tables, which no set can hold
                    raise plan.fail("duplicate value of an axis", key, found=str(item))
            out.append(((*path, name), value))
    return out

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
        """A copy of the plan's table `first` (recipe or pruning) with this combination's values in it."""
        out = copy.deepcopy(table)
        for path, value in self.changes:
            if path[0] == first:
                inside = out
                for part in path[1:-1]:
                    inside = inside.setdefault(part, {})
                inside[path[-1]] = value
        return out

    def about(self, first: str) -> str:
        """The combination's values for one table, as a key to remember the result by."""
        return repr([change for change in self.changes if change[0][0] == first])


def combinations(plan: LoadedPlan) -> Iterator[Combination]:
    """Every combination that is not skipped, in the order of the file.

    Raises PlanError for an axis that is not a list of different values, and for a `skip` that skips nothing.
    """
    grid = plan.content.grid
    inner = _inner(plan, grid)
    unused = list(grid.skip)
    for network, dataset, strategy, retrain, *values in itertools.product(
        grid.network, grid.dataset, grid.strategy, grid.retrain or (None,), *(a[1] for a in inner)
    ):
        changes = tuple((path, value) for (path, _), value in zip(inner, values, strict=True))
        found = Combination(network, dataset, strategy, retrain, changes)
        kind = _kind(plan, found)
        matching = [skip for skip in grid.skip if _matches(skip, found, kind)]
        if not matching:
            yield found
        unused = [skip for skip in unused if skip not in matching]
    if unused:
        said = unused[0].model_dump(exclude_none=True)
        raise plan.fail("no combination of the grid is this one", "grid.skip", found=str(said))


def _kind(plan: LoadedPlan, found: Combination) -> str | None:
    """``one-shot`` or ``iterative``, where the schedule is well-formed; what is not is refused elsewhere."""
    schedule = found.changed(plan.content.pruning, "pruning").get("schedule")
    kind = schedule.get("kind") if isinstance(schedule, dict) else None
    return kind if isinstance(kind, str) else None


def _matches(skip: Skip, found: Combination, kind: str | None) -> bool:
    return all(
        wanted is None or wanted == value
        for wanted, value in (
            (skip.network, found.network),
            (skip.dataset, found.dataset),
            (skip.strategy, found.strategy),
            (skip.schedule, kind),
        )
    )


def axes(plan: LoadedPlan) -> list[str]:
    """Keys the grid gives more than one value, as the tables name them."""
    grid = plan.content.grid
    found = [name for name in LISTS if len(getattr(grid, name) or ()) > 1]
    return found + [".".join(path) for path, values in _inner(plan, grid) if len(values) > 1]


def _inner(plan: LoadedPlan, grid: Grid) -> list[tuple[tuple[str, ...], list[Any]]]:
    return [*_axes(plan, grid.recipe, "recipe"), *_axes(plan, grid.pruning, "pruning")]


def _axes(
    plan: LoadedPlan, table: dict[str, Any], *path: str
) -> list[tuple[tuple[str, ...], list[Any]]]:
    """The lists in a table of the grid, each with its dotted key."""
    out: list[tuple[tuple[str, ...], list[Any]]] = []
    for name, value in table.items():
        key = ".".join(("grid", *path, name))
        if isinstance(value, dict):
            out += _axes(plan, value, *path, name)
        elif not isinstance(value, list) or not value:
            raise plan.fail("an axis is a list of at least one value", key, found=str(value))
        else:
            for index, item in enumerate(value):
                if item in value[:index]:
                    raise plan.fail("duplicate value of an axis", key, found=str(item))
            out.append(((*path, name), value))
    return out

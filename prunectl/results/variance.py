"""Which seeds move the number: for `rank --variance`, the spread of a cell that each purpose of its seeds makes.

Purposes whose seeds go together (as augmentation's with init's, unless the plan gives them apart) are one factor. The
components are those of the complete crossed grid; where numbers are missing, of a complete part of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy

from prunectl.results.formats import text_table, typed_table
from prunectl.results.leaderboard import BOARD_LABELS, Board
from prunectl.results.variance_components import Component, components
from prunectl.spec.seeds import Seeds
from prunectl.store.db import query
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths
from prunectl.text import DASH

INTERACTION = "interaction"
Factor = tuple[int, ...]
"""Places in `Seeds` of the purposes whose seeds go together."""
Levels = tuple[tuple[int, ...], ...]
"""Of each factor, the seeds of its first purpose."""
Scores = Mapping[Seeds, float | None]
"""What the trials of a cell came to; None is still to come, or not finite."""


def factors(every: Collection[Seeds]) -> tuple[Factor, ...]:
    """Return what of the seeds varies by itself."""
    found: list[list[int]] = []
    for purpose in range(len(Seeds._fields)):
        if len({seeds[purpose] for seeds in every}) < 2:
            continue
        for factor in found:
            pairs = {(seeds[factor[0]], seeds[purpose]) for seeds in every}
            if len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
                factor.append(purpose)
                break
        else:
            found.append([purpose])
    return tuple(map(tuple, found))


def name_of(factor: Factor) -> str:
    """Name a factor: ``order``, ``init + augment``."""
    return " + ".join(Seeds._fields[purpose] for purpose in factor)


def complete_grid(done: Collection[tuple[int, ...]]) -> Levels:
    """Find a part of a grid of which every combination is there: level by level, that with most gaps is left out."""
    levels = [sorted(set(each)) for each in zip(*done, strict=True)]
    there = set(done)
    while True:
        gaps = [point for point in itertools.product(*levels) if point not in there]
        if not gaps:
            return tuple(map(tuple, levels))
        size = len(list(itertools.product(*levels)))
        # Of equally empty ones the last one goes: which must not depend on the numbers.
        _, axis, level = max(
            (sum(gap[axis] == level for gap in gaps) * len(own) / size, axis, level)
            for axis, own in enumerate(levels)
            for level in own
        )
        levels[axis].remove(level)


@dataclass(frozen=True)
class CellVariance:
    """The components of one cell."""

    method: str
    """``dense``, or the label of the board's row."""
    sparsity: float
    cell: str
    iteration: int
    measured: int
    planned: int
    mean: float | None
    factors: tuple[Factor, ...]
    """What of its seeds varies by itself."""
    levels: Mapping[str, int]
    """Of each factor in the grid that was used; empty where there is none of 2 × 2 levels."""
    parts: Mapping[str, Component]
    """By factor, then of the interaction; empty where there is no such grid."""

    @property
    def used(self) -> int:
        """Numbers that the components are of."""
        return int(numpy.prod(list(self.levels.values()))) if self.levels else 0

    @property
    def moved_by(self) -> list[str]:
        """The factors that are shown to move the number, most first: whose 95 % interval leaves out 0."""
        shown = [name for name, part in self.parts.items() if part.low > 0 and name != INTERACTION]
        return sorted(shown, key=lambda name: -self.parts[name].std)


def of_scores(
    scores: Scores, apart: Sequence[Factor]
) -> tuple[dict[str, int], dict[str, Component]]:
    """Return the levels and the components of a cell's complete grid; both empty where there is none of 2 × 2."""
    values = {
        tuple(seeds[factor[0]] for factor in apart): score
        for seeds, score in scores.items()
        if score is not None
    }
    if not values or len(apart) < 2:
        return {}, {}
    levels = complete_grid(values)
    kept = [axis for axis, own in enumerate(levels) if len(own) > 1]
    if len(kept) < 2 or not all(levels):
        return {}, {}
    numbers = [values[point] for point in itertools.product(*levels)]
    table = numpy.array(numbers, dtype=float).reshape([len(levels[axis]) for axis in kept])
    names = [name_of(apart[axis]) for axis in kept]
    single, joint = components(table)
    parts = dict(zip(names, single, strict=True)) | {INTERACTION: joint}
    return dict(zip(names, table.shape, strict=True)), parts


_SCORES = """
SELECT cell, iteration, seed, order_seed, augment_seed, CASE WHEN isfinite(score) THEN score END FROM points_all
WHERE plan = $plan AND version = $version AND network = $network AND dataset = $dataset AND recipe = $recipe
  AND task = $task AND schedule IN ($schedule, 'dense')
"""


def board_variance(paths: StorePaths, board: Board) -> list[CellVariance]:
    """Compute the components of each of a board's cells, in its order, the dense networks first.

    Raises StoreError where the store cannot be read.
    """
    by_cell: dict[tuple[str, int], dict[Seeds, float | None]] = {}
    named = {name: getattr(board, name) for name in (*BOARD_LABELS, "version", "task")}
    for cell, iteration, *seeds, score in query.run(paths, _SCORES, named).rows:
        by_cell.setdefault((cell, iteration), {})[Seeds(*seeds)] = score
    every = [] if board.dense is None else [("dense", 0.0, board.dense)]
    every += [(row.label, column, cell) for row in board.rows for column, cell in row.cells.items()]
    out = []
    for method, column, cell in every:
        scores = by_cell.get((cell.cell, cell.iteration), {})
        apart = factors(scores)
        out.append(
            CellVariance(
                method, column, cell.cell, cell.iteration, cell.n, cell.planned, cell.mean, apart,
                *of_scores(scores, apart),
            )
        )  # fmt: skip
    return out


def table(found: Sequence[CellVariance], digits: int) -> Result:
    """Write the components of a board's cells as texts, for people."""
    names = list(dict.fromkeys(name for each in found for name in each.parts))
    names = [*(name for name in names if name != INTERACTION), INTERACTION]
    rows = [
        [
            each.method,
            f"{each.sparsity:.4g}",
            DASH if each.mean is None else f"{each.mean:.{digits}f}",
            _grid(each),
            *(_part(each.parts.get(name), digits) for name in names),
            (", ".join(each.moved_by) or "not shown") if each.parts else DASH,
        ]
        for each in found
    ]
    return text_table(["method", "sparsity", "mean", "grid", *names, "moved by"], rows)


def _grid(each: CellVariance) -> str:
    """Write ``3 × 3``, with how many of how many numbers that is where some are left out."""
    if not each.levels:
        return f"none in {each.measured} of {each.planned}"
    size = " × ".join(map(str, each.levels.values()))
    return size if each.used == each.planned else f"{size} ({each.used} of {each.planned})"


def _part(part: Component | None, digits: int) -> str:
    if part is None:
        return DASH
    ends = f"[{part.low:.{digits}f}, {part.high:.{digits}f}]"
    return f"{part.std:.{digits}f}{'*' if part.negative else ''} {ends}"


def note(found: Sequence[CellVariance], unit: str) -> str:
    """Explain the columns."""
    text = (
        f"standard deviations in {unit} with 95 % intervals: what other seeds of a purpose alone make of the number; "
        "moved by: those whose interval leaves out 0"
    )
    if any(part.negative for each in found for part in each.parts.values()):
        text += "; * the estimate of the variance is below 0, and is taken as 0"
    if any(each.levels and each.used < each.planned for each in found):
        text += "; where numbers are missing, of a complete part of the grid"
    return text


def why_none(found: Sequence[CellVariance]) -> str:
    """Say why no cell has components, and what plan would have them."""
    apart = max((each.factors for each in found), key=len, default=())
    missing = max((each.planned - each.measured for each in found), default=0)
    if len(apart) > 1 and missing:
        return (
            f"up to {missing} trials of a method are missing, and none has two seeds of one purpose with each of two "
            "of another, as components need it"
        )
    if len(apart) == 1 and len(apart[0]) == len(Seeds._fields):
        seeds = "seeds are not apart: each trial has one for all purposes"
    else:
        alone = "nothing" if not apart else f"only {name_of(apart[0])}"
        seeds = f"seeds are not crossed{'' if len(apart) > 1 else f': {alone} varies'}"
    return (
        f"{seeds}, so that nothing tells what each of them moves. A plan tells it that crosses them, as with "
        "seeds = { init = [0, 1, 2], order = [0, 1, 2] }"
    )


def long_form(found: Sequence[tuple[Board, Sequence[CellVariance]]]) -> Result:
    """Write a row per cell and component, for programs."""
    columns = {
        **dict.fromkeys((*BOARD_LABELS, "method", "cell"), "VARCHAR"),
        "iteration": "BIGINT", "target_sparsity": "DOUBLE", "mean": "DOUBLE", "n": "BIGINT", "planned": "BIGINT",
        "source": "VARCHAR", "levels": "BIGINT", "used": "BIGINT",
        **dict.fromkeys(("std", "std_low", "std_high"), "DOUBLE"),
        **dict.fromkeys(("negative", "shown"), "BOOLEAN"),
        **dict.fromkeys(("task", "metric", "unit"), "VARCHAR"), "version": "BIGINT", "current": "BOOLEAN",
    }  # fmt: skip
    rows = [
        (
            *(getattr(board, name) for name in BOARD_LABELS), each.method, each.cell, each.iteration, each.sparsity,
            each.mean, each.measured, each.planned, name, each.levels.get(name), each.used,
            part.std, part.low, part.high, part.negative, part.low > 0,
            board.task, board.metric.name, board.metric.unit, board.version, board.current,
        )
        for board, cells in found
        for each in cells
        for name, part in each.parts.items()
    ]  # fmt: skip
    return typed_table(columns, rows)

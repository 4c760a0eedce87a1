"""Methods × sparsities: the one table that the terminal UI, `prunectl rank` and its file formats show.

The numbers are those of the views `leaderboard` and `ranking`; this module only arranges them. A board is one
(version of a plan, network, dataset, recipe, schedule); its rows are strategies and what else the plan varies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

from prunectl.results import board_notes, metrics, power, relations
from prunectl.results.board_cell import Cell
from prunectl.results.cells import Shown, cells
from prunectl.results.formats import text_table
from prunectl.spec.task import Metric, TaskMetrics, metrics_of
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths
from prunectl.text import version_title

ROW_LABELS = ("strategy", "criterion", "scope", "granularity", "retrain")
BOARD_LABELS = ("plan", "network", "dataset", "recipe", "schedule")
_IDENTITY = ("task", "version", "versions", "current", *BOARD_LABELS)


@dataclass(frozen=True)
class BoardRow:
    """One method: its label, two of the names the label is made of, and its cells by target sparsity."""

    label: str
    strategy: str
    granularity: str
    cells: Mapping[float, Cell]

    @property
    def n(self) -> int:
        """Numbers measured."""
        return sum(cell.n for cell in self.cells.values())

    @property
    def planned(self) -> int:
        """Numbers planned."""
        return sum(cell.planned for cell in self.cells.values())

    @property
    def selected(self) -> bool:
        """Whether it is made by choosing among other methods by validation."""
        return any(cell.values["selected"] for cell in self.cells.values())

    @property
    def average_rank(self) -> float | None:
        """Mean place over the columns it has a number in."""
        ranks = [cell.rank for cell in self.cells.values() if cell.rank is not None]
        return sum(ranks) / len(ranks) if ranks else None


@dataclass(frozen=True)
class Board:
    """One table: rows are methods, best average rank first; columns are target sparsities, ascending."""

    plan: str
    version: int
    """Number of the plan's version."""
    versions: int
    """How many the plan has."""
    current: bool
    """Whether it is the one used last."""
    network: str
    dataset: str
    recipe: str
    schedule: str
    task: str
    metric: Metric
    """The task's score, which all numbers of the board are."""
    columns: tuple[float, ...]
    dense: Cell | None
    rows: tuple[BoardRow, ...]

    @property
    def plan_title(self) -> str:
        """Return the plan's name, with the version where there are several."""
        title = version_title(self.plan, self.version, self.versions)
        return title if self.current else f"{title} (not current)"

    @property
    def title(self) -> str:
        """Return all that the board is of."""
        return " · ".join((self.plan_title, *(getattr(self, name) for name in BOARD_LABELS[1:])))

    @property
    def independent(self) -> bool:
        """Whether the trials of each cell are replications of each other."""
        return all(cell.independent for row in self.rows for cell in row.cells.values())

    @property
    def n(self) -> int:
        """Numbers measured, the dense networks and what is chosen among the others left out."""
        return sum(row.n for row in self.rows if not row.selected)

    @property
    def planned(self) -> int:
        """Numbers planned, the dense networks and what is chosen among the others left out."""
        return sum(row.planned for row in self.rows if not row.selected)

    def reached(self, column: float) -> str:
        """Write the sparsity that a column's methods reached, where it is not the one asked for; else ""."""
        cells = (row.cells[column].values for row in self.rows if column in row.cells)
        return board_notes.reached_text(column, ((c["sparsity"], c["prunable"]) for c in cells))

    @property
    def resolution(self) -> float | None:
        """What one test item more or less changes of a score; None where that is not known."""
        cells = [cell for row in self.rows for cell in row.cells.values()]
        steps = (cell.values["resolution"] or 0.0 for cell in (self.dense, *cells) if cell)
        return max(steps, default=None)

    @property
    def demonstration(self) -> str:
        """Say that the test set is too small for a result, with what one item of it is; "" where it is not."""
        return board_notes.small_test_set(self.dataset, self.task, self.metric, self.resolution)

    def smallest_gaps(self) -> tuple[float, float] | None:
        """Find the least and the most, over the columns, that a gap must be to be told with 80 % power.

        By the spread of the differences of a column's methods, at the seeds that they share; None without marks.
        """
        found = []
        for column in self.columns:
            marked = [row.cells[column].values for row in self.rows if column in row.cells]
            one = next((values for values in marked if values["spread"] is not None), None)
            if one is not None:
                tail = relations.TAIL / (one["contenders"] - 1)
                found.append(power.smallest_gap(one["spread"], one["spread_pairs"], tail))
        return (min(found), max(found)) if found else None

    def table(self, *, delta: bool = False) -> Result:
        """Write the board as texts: a column per sparsity, the dense network first; `delta` for changes from it."""

        def text(cell: Cell | None) -> str:
            return "" if cell is None else cell.delta_text() if delta else cell.text()

        rows = [[row.label, *(text(row.cells.get(c)) for c in self.columns)] for row in self.rows]
        if self.dense is not None:
            rows.insert(0, ["dense", self.dense.text(), *([""] * (len(self.columns) - 1))])
        heads = (board_notes.column_head(column, self.reached(column)) for column in self.columns)
        return text_table(["method", *heads], rows)


def leaderboard(paths: StorePaths, plan: str | None = None, **only: Unpack[Shown]) -> list[Board]:
    """Query the boards of a plan (the last one used, unless named), or of all plans.

    Raises ControlError for a plan the store does not have, StoreError where it cannot be read.
    """
    rows = cells(paths, plan, **only).dicts()
    return boards(rows, metrics.task_metrics(paths, {row["task"] for row in rows}))


def boards(rows: Iterable[Mapping[str, Any]], tasks: Mapping[str, TaskMetrics]) -> list[Board]:
    """Arrange the rows of `cells` as boards; `tasks` says what the tasks measure."""
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    # A dense network has no schedule of pruning: it belongs to the boards of all schedules.
    dense: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in _IDENTITY)
        if row["iteration"] == 0:
            dense[key[:-1]] = row
        else:
            grouped.setdefault(key, []).append(row)
    # A plan may ask for dense networks alone: they are a board without rows.
    for key in dense:
        if not any(other[:-1] == key for other in grouped):
            grouped[*key, "dense"] = []
    return [
        _board(key, content, dense.get(key[:-1]), metrics_of(tasks, key[0]).score)
        for key, content in grouped.items()
    ]


def _board(
    key: tuple[Any, ...],
    rows: list[Mapping[str, Any]],
    dense: Mapping[str, Any] | None,
    metric: Metric,
) -> Board:
    columns = tuple(sorted({row["target_sparsity"] for row in rows})) or (0.0,)
    # What all methods have in common would only widen the first column.
    varied = [name for name in ROW_LABELS[1:] if _distinguishes(name, rows)]
    methods: dict[tuple[Any, ...], dict[float, Cell]] = {}
    for row in rows:
        labels = tuple(row[name] for name in ROW_LABELS)
        number = 0
        # Cells that differ in something no label names must not replace one another: they get rows of their own.
        while row["target_sparsity"] in methods.setdefault((*labels, number), {}):
            number += 1
        methods[*labels, number][row["target_sparsity"]] = _cell(row, metric)
    entries: dict[tuple[Any, ...], list[BoardRow]] = {}
    for labels, own in methods.items():
        # Methods whose cells have the same stages are one, with two names: as fine-tuning and learning-rate rewinding
        # are under a constant rate.
        same = tuple((column, cell.values["entry"]) for column, cell in sorted(own.items()))
        entries.setdefault(same, []).append(_row(labels, own, varied))
    made = [_one_row(same) for same in entries.values()]
    made.sort(key=lambda row: (row.average_rank is None, row.average_rank or 0.0, row.label))
    named = dict(zip(_IDENTITY, key, strict=True))
    reference = None if dense is None else _cell(dense, metric)
    return Board(**named, metric=metric, columns=columns, dense=reference, rows=tuple(made))


def _distinguishes(name: str, rows: list[Mapping[str, Any]]) -> bool:
    """Check whether some strategy has more than one value of this label, which then belongs to the method's name."""
    pairs = {(row["strategy"], row[name]) for row in rows}
    return len(pairs) > len({strategy for strategy, _ in pairs})


def _row(labels: tuple[Any, ...], cells: dict[float, Cell], varied: list[str]) -> BoardRow:
    named = dict(zip(ROW_LABELS, labels[:-1], strict=True))
    label = " · ".join([named["strategy"], *(str(named[name]) for name in varied)])
    if labels[-1]:
        label += f" · {next(iter(cells.values())).cell[:6]}"
    return BoardRow(label, named["strategy"], named["granularity"], cells)


def _one_row(rows: Sequence[BoardRow]) -> BoardRow:
    """Join the rows of methods that are the same stages."""
    first = min(rows, key=lambda row: row.label)
    return replace(first, label=" = ".join(sorted(row.label for row in rows)))


def _cell(row: Mapping[str, Any], metric: Metric) -> Cell:
    names = [name for name in Cell.__dataclass_fields__ if name not in ("metric", "values")]
    return Cell(**{name: row[name] for name in names}, metric=metric, values=row)

"""Methods × sparsities: the one table that the terminal UI, `prunectl rank` and its file formats show.

The numbers are those of the views `leaderboard` and `ranking`; this module only arranges them. A board is one
(version of a plan, network, dataset, recipe, schedule); its rows are strategies and what else the plan varies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from prunectl.errors import ControlError, nearest
from prunectl.results import metrics
from prunectl.results.formats import text_table
from prunectl.spec.task import Metric, TaskMetrics, metrics_of
from prunectl.store.db import query
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths
from prunectl.text import DASH, signed, version_title

ROW_LABELS = ("strategy", "criterion", "scope", "granularity", "retrain")
BOARD_LABELS = ("plan", "network", "dataset", "recipe", "schedule")
_IDENTITY = ("task", "version", "versions", "current", *BOARD_LABELS)

_CELLS = """
SELECT {columns}, r.rank, coalesce(r.best, false) AS best, coalesce(r.tied, false) AS tied,
       r.gap, r.gap_ci, r.pairs, r.n_needed, t.metric, t.unit, t.higher_is_better, v.version, v.versions, v.current
FROM {leaderboard} l
LEFT JOIN {ranking} r USING ({key})
LEFT JOIN tasks t ON t.task = l.task AND t.position = 0
JOIN plan_versions v ON v.plan = l.plan AND {version}
WHERE ($plan IS NULL OR l.plan = $plan)
  AND ($network IS NULL OR l.network = $network)
  AND ($dataset IS NULL OR l.dataset = $dataset)
ORDER BY l.plan, v.current DESC, v.version DESC, l.network, l.dataset, l.recipe, l.schedule, l.target_sparsity,
         r.rank NULLS LAST, l.strategy, l.criterion, l.scope, l.granularity, l.retrain, l.cell
"""
# The views of all versions take as many times as long as there are versions.
_CURRENT = _CELLS.format(
    columns="l.*", leaderboard="leaderboard", ranking="ranking", key="plan, cell, iteration",
    version="v.current",
)  # fmt: skip
_EVERY = _CELLS.format(
    columns="l.* EXCLUDE (version, current)", leaderboard="leaderboard_all", ranking="ranking_all",
    key="plan, version, current, cell, iteration",
    version="v.version = l.version AND ($version IS NULL OR v.version = $version)",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One number with what it rests on: scores in their metric's unit.

    `values` has every column of the views `leaderboard` and (rank, best, tied, gap, gap_ci, pairs, n_needed)
    `ranking`.
    """

    cell: str
    iteration: int
    n: int
    planned: int
    mean: float | None
    std: float | None
    ci: float | None
    delta: float | None
    delta_ci: float | None
    flagged: int
    rank: int | None
    best: bool
    tied: bool
    metric: Metric
    """What the number is."""
    values: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether all planned seeds are in."""
        return self.n == self.planned

    @property
    def mark(self) -> str:
        """★ best of its column, ≈ tied with the best, ! some seeds diverged, collapsed or lost a layer."""
        return ("★" if self.best else "≈" if self.tied else "") + ("!" if self.flagged else "")

    @property
    def count(self) -> str:
        """n, or n/planned while seeds are missing."""
        return str(self.n) if self.complete else f"{self.n}/{self.planned}"

    def text(self) -> str:
        """Such as ``92.14 ± 0.11 (3) ★``; ``– (0/3)`` before the first seed."""
        if self.mean is None:
            return f"{DASH} ({self.count})"
        digits = self.metric.digits
        spread = f" ± {self.std:.{digits}f}" if self.std is not None else ""
        return f"{self.mean:.{digits}f}{spread} ({self.count}) {self.mark}".rstrip()

    def delta_text(self) -> str:
        """Such as ``−0.24 ± 0.10``, the second being half the 95 % interval; with ns where that covers 0."""
        if self.delta is None:
            return DASH
        digits = self.metric.digits
        change = signed(self.delta, digits)
        if self.delta_ci is None:
            return change
        return f"{change} ± {self.delta_ci:.{digits}f}{' ns' if self.covers_no_change else ''}"

    @property
    def covers_no_change(self) -> bool:
        """Whether the 95 % interval of the change from dense covers 0."""
        return (
            self.delta is not None
            and self.delta_ci is not None
            and abs(self.delta) <= self.delta_ci
        )


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
    def n(self) -> int:
        """Numbers measured, the dense networks left out."""
        return sum(row.n for row in self.rows)

    @property
    def planned(self) -> int:
        """Numbers planned, the dense networks left out."""
        return sum(row.planned for row in self.rows)

    def table(self, *, delta: bool = False) -> Result:
        """Write the board as texts: a column per sparsity, the dense network first; `delta` for changes from it."""

        def text(cell: Cell | None) -> str:
            return "" if cell is None else cell.delta_text() if delta else cell.text()

        rows = [[row.label, *(text(row.cells.get(c)) for c in self.columns)] for row in self.rows]
        if self.dense is not None:
            rows.insert(0, ["dense", self.dense.text(), *([""] * (len(self.columns) - 1))])
        return text_table(["method", *(f"{column:.4g}" for column in self.columns)], rows)


class Selection(TypedDict, total=False):
    """What of a store is shown, beside the plan: by default all networks and data sets of that plan's current version
    alone."""

    network: str | None
    dataset: str | None
    all_plans: bool
    version: int | None
    """Number of the version to show in the current one's place."""
    every_version: bool


def cells(paths: StorePaths, plan: str | None = None, **only: Unpack[Selection]) -> Result:
    """Query the long form: one row per cell with the columns of `leaderboard`, then those of `ranking`.

    Last come `version`, `versions` (how many the plan has) and `current`. Without a name it is the plan that was last
    used. Raises ControlError for a plan or a version the store does not have.
    """
    named, version = not only.get("all_plans"), only.get("version")
    if named and plan is None:
        plan = _plan_name(paths, plan)
    chosen = {"plan": plan, "network": only.get("network"), "dataset": only.get("dataset")}
    if only.get("every_version") or version is not None:
        found = query.run(paths, _EVERY, chosen | {"version": version})
    else:
        found = query.run(paths, _CURRENT, chosen)
    if named and not found.rows:
        _plan_name(paths, plan)  # it has no cells where it is not there: said where it matters
        _check_version(paths, plan, version)
    return found


def _check_version(paths: StorePaths, plan: str | None, version: int | None) -> None:
    """Raise ControlError for a version that the plan does not have."""
    sql = "SELECT version, current FROM plan_versions WHERE plan = $plan ORDER BY version"
    known = dict(query.run(paths, sql, {"plan": plan}).rows)
    if version is not None and version not in known:
        names = (f"{each} (current)" if current else str(each) for each, current in known.items())
        raise ControlError(f"{plan} has no version {version}; it has: {', '.join(names)}")


def _plan_name(paths: StorePaths, plan: str | None) -> str | None:
    """Check a plan's name, or find the one last used; None in a store without plans."""
    rows = query.run(paths, "SELECT plan FROM current_plans ORDER BY used DESC NULLS LAST").rows
    known = [str(row[0]) for row in rows]
    if plan is None:
        return known[0] if known else None
    if plan not in known:
        near = nearest(plan, known)
        raise ControlError(
            f"no plan {plan!r} in {paths.root}; it has: {', '.join(sorted(known)) or 'none'}"
            + (f"; did you mean {near!r}?" if near else "")
        )
    return plan


def leaderboard(
    paths: StorePaths, plan: str | None = None, **only: Unpack[Selection]
) -> list[Board]:
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
    made = [_row(labels, cells, varied) for labels, cells in methods.items()]
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


def _cell(row: Mapping[str, Any], metric: Metric) -> Cell:
    names = [name for name in Cell.__dataclass_fields__ if name not in ("metric", "values")]
    return Cell(**{name: row[name] for name in names}, metric=metric, values=row)

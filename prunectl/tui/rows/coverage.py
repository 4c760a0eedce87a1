"""How many seeds of each method have reached each sparsity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from prunectl.monitor.snapshot import CoverageView, Snapshot
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.rows.study import Distinctions, method, place


@dataclass(frozen=True)
class CoverageRow:
    """One method: how many seeds have reached each sparsity."""

    key: str
    label: str
    cells: dict[str, CoverageView]


def coverage_rows(snapshot: Snapshot, study: Distinctions) -> tuple[list[CoverageRow], list[str]]:
    """Return the rows and their sparsities, ascending."""
    rows: dict[str, CoverageRow] = {}
    for view in snapshot.coverage:
        plan = view.plan if study.plans else ""
        parts = (plan, place(view.labels, study), method(view.labels, study))
        label = " ".join(filter(None, parts))
        key = f"{view.plan}/{sorted(view.labels.items())}"
        rows.setdefault(key, CoverageRow(key, label, {})).cells[view.sparsity] = view
    columns = sorted({view.sparsity for view in snapshot.coverage}, key=float)
    return list(rows.values()), columns


def coverage_cell(view: CoverageView | None) -> Cell:
    """Write seeds done, ▶ while some are running, ! where some failed."""
    if view is None:
        return Cell("")
    done = view.done or "·"
    if view.failed:
        return Cell(f"{done}!", "bad")
    running = "▶" if view.running else ""
    complete = view.done >= view.total
    return Cell(f"{done}{running}", "good" if complete else "accent" if running else "")


@lru_cache(maxsize=1)
def coverage_columns(sparsities: tuple[str, ...], width: int) -> tuple[Column[CoverageRow], ...]:
    """Return a column for the label, at most 24 wide, and one per sparsity."""
    first: Column[CoverageRow] = Column("method", "METHOD", min(24, width), lambda r: Cell(r.label))
    return (first, *map(_sparsity_column, sparsities))


def _sparsity_column(sparsity: str) -> Column[CoverageRow]:
    heading = t.sparsity(sparsity).removeprefix("0")

    def seeds(row: CoverageRow) -> int | None:
        return row.cells[sparsity].done if sparsity in row.cells else None

    return Column(sparsity, heading, max(4, len(heading)),
                  lambda r: coverage_cell(r.cells.get(sparsity)), right=True, order=seeds)  # fmt: skip

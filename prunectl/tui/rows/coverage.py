"""How many seeds of each method have reached each sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunectl.monitor.snapshot import CoverageView, Snapshot
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.rows.study import Study, method, place


@dataclass(frozen=True)
class CoverageRow:
    """One method: how many seeds have reached each sparsity."""

    key: str
    label: str
    cells: Mapping[str, CoverageView]


def coverage_rows(snapshot: Snapshot, study: Study) -> tuple[list[CoverageRow], list[str]]:
    """Rows and their sparsities, ascending."""
    table: dict[str, dict[str, CoverageView]] = {}
    names: dict[str, str] = {}
    for view in snapshot.coverage:
        parts = [
            view.plan if study.plans else "",
            place(view.labels, study),
            method(view.labels, study),
        ]
        key = f"{view.plan}/{sorted(view.labels.items())}"
        names[key] = " ".join(part for part in parts if part)
        table.setdefault(key, {})[view.sparsity] = view
    columns = sorted({view.sparsity for view in snapshot.coverage}, key=float)
    return [CoverageRow(key, names[key], cells) for key, cells in table.items()], columns


def coverage_cell(view: CoverageView | None) -> Cell:
    """Seeds done, ▶ while some are at it, ! where some failed."""
    if view is None:
        return Cell("")
    mark = "!" if view.failed else "▶" if view.running else ""
    style = (
        "bad"
        if view.failed
        else "good"
        if view.done >= view.total
        else "accent"
        if view.running
        else ""
    )
    return Cell(f"{view.done or '·'}{mark}", style)


def coverage_columns(
    sparsities: Sequence[str], rows: Sequence[CoverageRow]
) -> tuple[Column[CoverageRow], ...]:
    """The label, then a column per sparsity."""
    wide = min(24, max((len(row.label) for row in rows), default=8))
    first: Column[CoverageRow] = Column("method", "METHOD", wide, lambda r: Cell(r.label))

    def column(sparsity: str) -> Column[CoverageRow]:
        heading = t.sparsity(sparsity).removeprefix("0")
        return Column(
            sparsity,
            heading,
            max(4, len(heading)),
            lambda r: coverage_cell(r.cells.get(sparsity)),
            right=True,
            order=lambda r: r.cells[sparsity].done if sparsity in r.cells else None,
        )

    return (first, *(column(sparsity) for sparsity in sparsities))

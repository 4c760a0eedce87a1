"""From a leaderboard to the rows, the words and the curves of its view. Pure; the numbers are those of results."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prunectl.results import board_notes, metrics, selections
from prunectl.spec.trial import without_digits
from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.results_reader import Boards, SeedPoint
from prunectl.tui.widgets.curve import Picture, Series

if TYPE_CHECKING:
    from prunectl.results.board_cell import Cell as Number
    from prunectl.results.leaderboard import Board
    from prunectl.results.samples import Sample

MOST_CURVES = 6
MOST_TICKS = 10
LEGEND = "★ best  ≈ not beaten  ! flagged seeds"


@dataclass(frozen=True)
class MethodRow:
    """One method of a board, or its dense network."""

    key: str
    """Its label."""
    strategy: str
    cells: Mapping[float, Number]
    """By sparsity; the dense network has one number, at 0.0."""
    published: Mapping[float, tuple[str, Sample]] = field(default_factory=dict)
    marked: bool = False
    reference: bool = False
    """It is the dense network."""


def method_rows(board: Board, boards: Boards, marked: Collection[str] = ()) -> list[MethodRow]:
    """Return the dense network, then the methods, best first."""
    rows = []
    if board.dense is not None:
        rows.append(MethodRow("dense", "dense", {0.0: board.dense}, reference=True))
    for row in board.rows:
        names = {x: (board.plan, cell.cell, cell.iteration) for x, cell in row.cells.items()}
        known = {x: boards.published[name] for x, name in names.items() if name in boards.published}
        rows.append(MethodRow(row.label, row.strategy, row.cells, known, row.label in marked))
    return rows


def board_columns(board: Board, *, wide: bool, delta: bool) -> tuple[Column[MethodRow], ...]:
    """Return a column for the methods and one per sparsity; `delta` shows changes from dense instead of scores."""
    longest = max((len(row.label) for row in board.rows), default=6) + 2
    width = max(8, min(28 if wide else 22, longest))
    first: Column[MethodRow] = Column("method", "METHOD", width, _label)
    return (first, *(_column(board, sparsity, wide, delta) for sparsity in board.columns))


def _label(row: MethodRow) -> Cell:
    return Cell(f"● {row.key}", "bold") if row.marked else Cell(row.key)


def _column(board: Board, sparsity: float, wide: bool, delta: bool) -> Column[MethodRow]:
    first = sparsity == board.columns[0]

    def shown(row: MethodRow) -> Cell:
        if row.reference:
            return number_cell(row.cells[0.0], None, wide, False) if first else Cell("")
        return number_cell(row.cells.get(sparsity), row.published.get(sparsity), wide, delta)

    def order(row: MethodRow) -> float | None:
        cell = row.cells.get(0.0 if row.reference else sparsity)
        return None if cell is None else t.finite(cell.mean)

    more = 2 * max(0, board.metric.digits - 2)
    head = board_notes.column_head(sparsity, board.reached(sparsity), word="")
    width = max((17 if wide else 12) + more, len(head))
    return Column(repr(sparsity), head, width, shown, order=order)


def number_cell(
    cell: Number | None, published: tuple[str, Sample] | None, wide: bool, delta: bool
) -> Cell:
    """Return a cell of the table: mean, spread, seeds, marks; below them the change from dense, ours and theirs."""
    if cell is None:
        return Cell("")
    digits = cell.metric.digits
    mean = t.number(cell.mean, digits)
    theirs = f" ‹{t.signed(published[1].delta)}›" if published is not None else ""
    changed = cell.delta is not None and cell.iteration > 0
    change = t.signed(cell.delta, digits) if changed else ""
    change += " ns" if change and cell.covers_no_change else ""
    if t.finite(cell.mean) is None:
        text, style = (f"{mean} ({cell.count})!", "bad") if cell.n else (f"– {cell.count}", "dim")
        return Cell(text, style, change + theirs)
    style = "bad" if cell.flagged else "good" if cell.best else "accent" if cell.tied else ""
    if delta and cell.delta is not None:
        return Cell(_delta_text(cell, wide) + cell.mark, style, mean + theirs)
    seeds = f" ({cell.count})" if wide else "" if cell.complete else "·"
    return Cell(
        mean + _spread(cell, wide) + seeds + cell.mark,
        style,
        (mean if delta else change) + theirs,
    )


def _delta_text(cell: Number, wide: bool) -> str:
    digits = cell.metric.digits
    change = t.signed(cell.delta, digits)
    if not wide:
        return change
    spread = f"±{t.number(cell.delta_ci, digits)}" if cell.delta_ci is not None else ""
    return change + spread + (" ns" if cell.covers_no_change else "")


def _spread(cell: Number, wide: bool) -> str:
    if t.finite(cell.std) is None:
        return ""
    text = t.number(cell.std, cell.metric.digits)
    return f"±{text if wide else text.removeprefix('0')}"


def legend(board: Board, rows: Sequence[MethodRow]) -> str:
    """Say what the marks mean."""
    reached = "  (sparsity reached)" if any(map(board.reached, board.columns)) else ""
    published = "  ‹published Δ›" if any(row.published for row in rows) else ""
    return LEGEND + reached + published


def title(board: Board, at: int, count: int, delta: bool) -> str:
    """Say what the table is of."""
    of = f"  [ ] {at + 1}/{count}" if count > 1 else ""
    score = f"test {metrics.title(board.metric)}, mean±std (n)"
    what = "Δ to own dense, paired by seed" if delta else score
    what += metrics.direction(board.metric)
    return f"{board.title}  {board.n}/{board.planned}  {what}{of}"


# the cell under the cursor


def cell_at(
    row: MethodRow | None, board: Board | None, column: str | None
) -> tuple[float, Number] | None:
    """Return the sparsity and the number under the cursor."""
    if row is None or board is None:
        return None
    sparsities = [0.0] if row.reference else [x for x in board.columns if repr(x) == column]
    return next(((x, row.cells[x]) for x in sparsities if x in row.cells), None)


def cell_text(
    row: MethodRow, sparsity: float, cell: Number, seeds: Sequence[SeedPoint]
) -> list[str]:
    """Say what is known about a cell, a line each."""
    out = [_first(cell)]
    if seeds:
        out.append("seeds   " + "   ".join(_seed(seed, cell.metric.digits) for seed in seeds))
    if cell.values["selected"]:
        out.append(selections.line(cell))
    out.append(_size(cell))
    if cell.flagged:
        kinds = ("diverged", "collapsed")
        counts = ", ".join(f"{cell.values[k]} {k}" for k in kinds if cell.values.get(k))
        said = counts or "dead layers"
        out.append(
            f"flagged {cell.flagged} of {cell.n} seeds ({said}): they stay in n and in the mean"
        )
    if sparsity in row.published:
        out.append(_published(*row.published[sparsity]))
    return out


def _published(source: str, sample: Sample) -> str:
    known = t.finite(sample.retrain_epochs)
    length = f", retrained {sample.retrain_epochs:g} epochs" if known else ""
    numbers = f"median {t.number(sample.median)}, dense {t.number(sample.dense)}"
    where = f"at sparsity {t.sparsity(sample.sparsity)}, n {sample.n}"
    return f"published  {source}: Δ {t.signed(sample.delta)} ({numbers}) {where}{length}"


def _first(cell: Number) -> str:
    if cell.mean is None:
        return f"no seed is done yet: {cell.count}"

    def number(value: float | None) -> str:
        return t.number(value, cell.metric.digits)

    parts = [f"{number(cell.mean)} ± {number(cell.std)} (n {cell.count})"]
    if cell.ci is not None and t.finite(cell.mean) is not None:
        parts.append(f"95 % [{number(cell.mean - cell.ci)}, {number(cell.mean + cell.ci)}]")
    if cell.iteration > 0:
        parts.append(f"Δ {cell.delta_text()}")
    if cell.best:
        parts.append("★ best of its column")
    elif cell.tied:
        needed = cell.seeds_needed()
        parts.append("≈ not beaten by any" + (f"; to tell it from ★: {needed}" if needed else ""))
    elif cell.rank is not None:
        parts.append(f"rank {cell.rank}" + (f", not marked: {cell.failed}" if cell.uneven else ""))
    if not cell.independent:
        parts.append("trials share seeds: no interval, no mark")
    return "   ".join(parts)


def _seed(point: SeedPoint, digits: int) -> str:
    flag = f" {point.flag}" if point.flag else ""
    flag += f" {without_digits(point.picked)}" if point.picked else ""
    return f"{point.seeds}: {t.number(point.score, digits) + flag if point.done else '–'}"


def _size(cell: Number) -> str:
    values = {name: number for name, value in cell.values.items() if (number := t.finite(value))}
    get = cell.values.get
    retrained, total = (values.get(name, 0.0) for name in ("search_epochs", "total_epochs"))
    texts = {
        "kept_parameters": f"{t.short(get('kept_parameters'))} of {t.short(get('parameters'))} parameters",
        "macs": f"{t.short(get('macs'))} of {t.short(get('macs_dense'))} theoretical MACs",
        "compression": f"{values.get('compression', 0.0):.3g}× smaller",
        "total_epochs": f"retrained {retrained:.4g}/{total:.4g} epochs",
        "seconds": f"{t.duration(get('seconds'))} a stage",
    }
    return "   ".join(text for name, text in texts.items() if name in values)


# curves


def picture(board: Board, rows: Sequence[MethodRow], current: MethodRow | None) -> Picture:
    """Draw the score against compression (logarithmic, named by sparsity): the marked methods, or the first ones."""
    methods = [row for row in rows if not row.reference]
    series = []
    for row in ([row for row in methods if row.marked] or methods)[:MOST_CURVES]:
        known = [x for x in board.columns if x in row.cells and x < 1]
        means = tuple(row.cells[x].mean for x in known)
        series.append(Series(row.key, tuple(map(_log_compression, known)), means))
    if current is not None and current.published:
        found = [(source, s) for source, s in current.published.values() if s.sparsity < 1]
        label = f"{found[0][0]} {current.strategy}" if found else ""
        xs = tuple(_log_compression(sample.sparsity) for _, sample in found)
        series.append(Series(label, xs, tuple(sample.median for _, sample in found), dots=True))
    every = max(1, math.ceil(len(board.columns) / MOST_TICKS))
    ticks = tuple((_log_compression(x), t.sparsity(x)) for x in board.columns[::every] if x < 1)
    return Picture(tuple(series), ticks=ticks, empty="No finished cell yet.")


def _log_compression(sparsity: float) -> float:
    return -math.log2(1 - sparsity)

"""From a leaderboard to the rows, the words and the curves of its view. Pure; the numbers are the report's."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunectl.tui import text as t
from prunectl.tui.columns import Cell, Column
from prunectl.tui.results_reader import Boards, Published, SeedPoint
from prunectl.tui.widgets.curve import Picture, Series

if TYPE_CHECKING:
    from prunectl.results.leaderboard import Board
    from prunectl.results.leaderboard import Cell as Number

CURVES = 6


@dataclass(frozen=True)
class Line:
    """One method of a board, or its dense network."""

    key: str
    label: str
    strategy: str
    cells: Mapping[float, Number]
    published: Mapping[float, Published]
    marked: bool = False
    reference: bool = False
    """The dense network, which has one number for all columns."""


def lines(board: Board, boards: Boards, marked: Collection[str] = ()) -> list[Line]:
    """The dense network first, then the methods, best first."""
    out = []
    if board.dense is not None:
        out.append(Line("dense", "dense", "dense", {0.0: board.dense}, {}, "dense" in marked, True))
    for row in board.rows:
        known = {
            column: boards.published[name]
            for column, cell in row.cells.items()
            if (name := (board.plan, cell.cell, cell.iteration)) in boards.published
        }
        out.append(Line(row.label, row.label, row.strategy, row.cells, known, row.label in marked))
    return out


def columns(board: Board, *, wide: bool, delta: bool) -> tuple[Column[Line], ...]:
    """The methods, then a column per sparsity; `delta` shows changes from dense instead of accuracies."""
    longest = max((len(row.label) for row in board.rows), default=6) + 2
    first: Column[Line] = Column(
        "method", "METHOD", max(8, min(28 if wide else 22, longest)), lambda line: _label(line)
    )
    return (first, *(_column(board, sparsity, wide, delta) for sparsity in board.columns))


def _label(line: Line) -> Cell:
    return Cell(("● " if line.marked else "") + line.label, "bold" if line.marked else "")


def _column(board: Board, sparsity: float, wide: bool, delta: bool) -> Column[Line]:
    first = bool(board.columns) and sparsity == board.columns[0]

    def shown(line: Line) -> Cell:
        if line.reference:
            return number_cell(line.cells[0.0], None, wide, False) if first else Cell("")
        return number_cell(line.cells.get(sparsity), line.published.get(sparsity), wide, delta)

    def order(line: Line) -> float | None:
        cell = line.cells.get(0.0 if line.reference else sparsity)
        return None if cell is None else t.finite(cell.mean)

    return Column(f"{sparsity!r}", t.sparsity(sparsity), 17 if wide else 12, shown, order=order)


def number_cell(cell: Number | None, beside: Published | None, wide: bool, delta: bool) -> Cell:
    """A cell of the table: mean, spread, seeds, marks; below it the change from dense, ours and theirs."""
    if cell is None:
        return Cell("")
    if cell.mean is None or t.finite(cell.mean) is None:
        if cell.n:
            return Cell(f"{t.number(cell.mean)} ({cell.count})!", "bad", _below(cell, beside))
        return Cell(f"– {cell.count}", "dim", _below(cell, beside))
    partial = "" if cell.complete else "·"
    if delta and cell.delta is not None:
        text = t.signed(cell.delta)
        if wide and cell.delta_ci is not None:
            text += f"±{t.number(cell.delta_ci)}"
        text += " ns" if wide and _nothing(cell) else ""
        text += cell.mark
    else:
        text = t.number(cell.mean) + (
            f"±{_spread(cell.std, wide)}" if t.finite(cell.std) is not None else ""
        )
        text += f" ({cell.count})" if wide else partial
        text += cell.mark
    style = "bad" if cell.flagged else "good" if cell.best else "accent" if cell.tied else ""
    return Cell(text, style, _below(cell, beside, t.number(cell.mean) if delta else ""))


def _spread(std: float | None, wide: bool) -> str:
    text = t.number(std)
    return text if wide or not text.startswith("0.") else text[1:]


def _nothing(cell: Number) -> bool:
    """Whether the interval of the change covers 0."""
    return cell.delta is not None and cell.delta_ci is not None and abs(cell.delta) <= cell.delta_ci


def _below(cell: Number, beside: Published | None, ours: str = "") -> str:
    """The second line: the change from dense, or what the first does not show."""
    if not ours and cell.delta is not None and cell.iteration > 0:
        ours = t.signed(cell.delta) + (" ns" if _nothing(cell) else "")
    return ours + (f" ‹{t.signed(beside.delta)}›" if beside is not None else "")


LEGEND = "★ best  ≈ tied with it  ! flagged seeds"


def legend(board: Board, boards: Boards) -> str:
    """What the marks mean."""
    text = LEGEND
    if any(line.published for line in lines(board, boards)):
        text += "  ‹published Δ›"
    return text


def title(board: Board, at: int, count: int, delta: bool) -> str:
    """What the table is of."""
    of = f"  [ ] {at + 1}/{count}" if count > 1 else ""
    what = "Δ to own dense, paired by seed" if delta else "test accuracy %, mean±std (n)"
    return f"{board.title}  {board.n}/{board.planned}  {what}{of}"


# the cell under the cursor


def chosen(line: Line | None, board: Board, column: str | None) -> tuple[float, Number] | None:
    """The sparsity and the number under the cursor."""
    if line is None:
        return None
    if line.reference:
        return 0.0, line.cells[0.0]
    for sparsity in board.columns:
        if repr(sparsity) == column and sparsity in line.cells:
            return sparsity, line.cells[sparsity]
    return None


def words(line: Line, sparsity: float, cell: Number, seeds: Sequence[SeedPoint]) -> list[str]:
    """What is known about a cell, a line each."""
    out = [_first(cell)]
    if seeds:
        out.append("seeds   " + "   ".join(_seed(point) for point in seeds))
    out.append(_size(cell))
    if cell.flagged:
        values = cell.values
        kinds = [f"{values[name]} {name}" for name in ("diverged", "collapsed") if values.get(name)]
        said = ", ".join(kinds) or "dead layers"
        out.append(
            f"flagged {cell.flagged} of {cell.n} seeds ({said}): they stay in n and in the mean"
        )
    beside = line.published.get(sparsity)
    if beside is not None:
        length = (
            f", retrained {beside.retrain_epochs:g} epochs"
            if t.finite(beside.retrain_epochs)
            else ""
        )
        out.append(
            f"published  {beside.source}: Δ {t.signed(beside.delta)} (median {t.number(beside.median)}, "
            f"dense {t.number(beside.dense)}) at sparsity {t.sparsity(beside.sparsity)}, n {beside.n}{length}"
        )
    return out


def _first(cell: Number) -> str:
    if cell.mean is None:
        return f"no seed is done yet: {cell.count}"
    text = f"{t.number(cell.mean)} ± {t.number(cell.std)} (n {cell.count})"
    if cell.ci is not None and t.finite(cell.mean) is not None:
        text += f"   95 % [{t.number(cell.mean - cell.ci)}, {t.number(cell.mean + cell.ci)}]"
    if cell.iteration > 0:
        text += f"   Δ {cell.delta_text()}"
    if cell.best:
        text += "   ★ best of its column"
    elif cell.tied:
        needed = cell.values.get("n_needed")
        text += "   ≈ tied with the best" + (f", {needed} seeds would decide" if needed else "")
    elif cell.rank is not None:
        text += f"   rank {cell.rank}"
    return text


def _seed(point: SeedPoint) -> str:
    if not point.done:
        return f"{point.seed}: –"
    flag = f" {point.flag}" if point.flag else ""
    return f"{point.seed}: {t.number(point.accuracy)}{flag}"


def _size(cell: Number) -> str:
    v = cell.values
    parts = []
    if t.finite(v.get("kept_parameters")):
        parts.append(
            f"{t.short(v.get('kept_parameters'))} of {t.short(v.get('parameters'))} parameters"
        )
    if t.finite(v.get("macs")):
        parts.append(f"{t.short(v.get('macs'))} of {t.short(v.get('macs_dense'))} MACs")
    if t.finite(v.get("compression")):
        parts.append(f"{v['compression']:.3g}× smaller")
    if t.finite(v.get("search_epochs")):
        parts.append(f"{v['search_epochs']:.4g} epochs of retraining")
    if t.finite(v.get("seconds")):
        parts.append(f"{t.duration(v['seconds'])} per stage")
    return "   ".join(parts)


# curves


def picture(board: Board, shown: Sequence[Line], current: Line | None) -> Picture:
    """Accuracy against compression (logarithmic, named by sparsity): the marked methods, or the first ones."""
    marked = [line for line in shown if line.marked and not line.reference]
    chosen = marked or [line for line in shown if not line.reference][:CURVES]
    series = []
    for line in chosen[:CURVES]:
        known = [(c, line.cells[c].mean) for c in board.columns if c in line.cells and c < 1]
        xs = tuple(_compression(c) for c, _ in known)
        series.append(Series(line.label, xs, tuple(mean for _, mean in known)))
    if current is not None and current.published:
        points = [point for point in current.published.values() if point.sparsity < 1]
        named = f"{points[0].source} {current.strategy}" if points else ""
        series.append(Series(named, tuple(_compression(p.sparsity) for p in points),
                             tuple(p.median for p in points), dots=True))  # fmt: skip
    every = max(1, math.ceil(len(board.columns) / 10))
    ticks = tuple((_compression(c), t.sparsity(c)) for c in board.columns[::every] if c < 1)
    return Picture(tuple(series), ticks=ticks, empty="No finished cell yet.")


def _compression(sparsity: float) -> float:
    return -math.log2(1 - sparsity)

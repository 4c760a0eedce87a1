"""Ranked tables on the terminal: those of `rank`, and at the end of a `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunectl.cli.support.tables import console, result_table, table
from prunectl.results import metrics, selections
from prunectl.results.board_notes import NOT_INDEPENDENT

if TYPE_CHECKING:  # results.leaderboard imports DuckDB
    from rich.console import Console

    from prunectl.results.leaderboard import Board


SHARED = f"no marks and no intervals where {NOT_INDEPENDENT}: `rank --variance` says which seeds move the number"


def print_boards(boards: list[Board], *, delta: bool = False) -> None:
    """Print boards on the terminal, each transposed where it is too wide for it."""
    out = console()
    if not boards:
        out.print("No results yet.")
        return
    for board in boards:
        _print_board(out, board, delta)
    for note in dict.fromkeys(board.demonstration for board in boards):
        if note:
            out.print(note, markup=False)
    out.print(f"{_value(boards, delta)} · ★ best, ≈ not beaten by any (paired by seed)")
    out.print(
        "the truly best of the methods with 3 seeds or more, none of them failing alone, is marked with at least 95 %"
    )
    if not all(board.independent for board in boards):
        out.print(SHARED)
    if any(row.selected for board in boards for row in board.rows):
        out.print(selections.NOTE, markup=False)
    if any(cell.flagged for board in boards for row in board.rows for cell in row.cells.values()):
        out.print("! a seed diverged, collapsed or lost a layer: it is counted, not dropped")


def _value(boards: list[Board], delta: bool) -> str:
    """Say what the numbers of the boards are."""
    scores = [board.metric for board in boards]
    if not delta:
        return f"{metrics.titles(scores)} of the last epoch, mean ± std (n)"
    changes = " or ".join(dict.fromkeys(map(metrics.difference_title, scores)))
    return f"{changes} from the own dense network, paired by seed, ± half the 95 % interval; ns: covers 0"


def _print_board(out: Console, board: Board, delta: bool) -> None:
    wide = board.table(delta=delta)
    made = table(["sparsity", *wide.columns[1:]], wide.rows)
    out.print(heading(board), markup=False)
    unlimited = out.options.update(width=10_000)
    if out.measure(made, options=unlimited).maximum <= out.width or not out.is_terminal:
        out.print(made)
        _print_below(out, board)
        return
    if board.dense is not None:
        out.print(f"dense {board.dense.text()}", markup=False)
    methods = [row for row in wide.rows if row[0] != "dense"]
    transposed = zip(wide.columns[1:], *(row[1:] for row in methods), strict=True)
    out.print(table(["sparsity", *(row[0] for row in methods)], transposed))
    _print_below(out, board)


def _print_below(out: Console, board: Board) -> None:
    _print_gaps(out, board)
    for row in selections.selected_rows(board):
        out.print(selections.title(row), markup=False)
        out.print(result_table(selections.table(row)))


def _print_gaps(out: Console, board: Board) -> None:
    """Say what so few seeds leave unseen."""
    gaps = board.smallest_gaps()
    if gaps is not None:
        digits = board.metric.digits
        low, high = (f"{gap:.{digits}f}" for gap in gaps)
        between = low if low == high else f"{low} to {high}"
        what = metrics.difference_unit(board.metric)
        by_column = "" if low == high else ", by column,"
        out.print(
            f"so many seeds tell a gap of {between} {what}{by_column} with 80 % power", markup=False
        )


def heading(board: Board) -> str:
    """Return a board's title, and how many of its trials it has."""
    return f"{board.title}   {board.n}/{board.planned}"

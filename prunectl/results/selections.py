"""What choosing by validation gives, and how much choosing on the test set would have flattered it, in words.

The numbers are those of the view `selections`, as the cells of a board carry them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prunectl.results import metrics
from prunectl.spec.trial import without_digits
from prunectl.text import DASH, number

if TYPE_CHECKING:  # they import DuckDB
    from prunectl.results.board_cell import Cell
    from prunectl.results.leaderboard import Board, BoardRow
    from prunectl.store.db.query import Result

NOTE = (
    "chosen by validation: for each seed by itself, the cost that of the whole sweep; flatters: how much better "
    "choosing on the test set would have looked, ± half the 95 % interval over the seeds"
)


def picks_text(cell: Cell) -> str:
    """Say how many seeds pick which option: ``hot 2, fine-tune 1``; a dash before the first one is picked."""
    picks = json.loads(cell.values["picks"] or "{}")
    often_first = sorted(picks.items(), key=lambda pick: (-pick[1], pick[0]))
    return ", ".join(f"{without_digits(option)} {n}" for option, n in often_first) or DASH


def flattery_text(cell: Cell) -> str:
    """Write how much choosing on the test set would have flattered: ``0.20 ± 0.12``."""
    flattery, half = cell.values["flattery"], cell.values["flattery_ci"]
    digits = cell.metric.digits
    spread = "" if half is None else f" ± {number(half, digits)}"
    return number(flattery, digits) + spread


def table(row: BoardRow) -> Result:
    """Write what was chosen for a method, a line per sparsity, as texts."""
    from prunectl.results.formats import text_table

    heads = ["sparsity", "picked (seeds)", "by validation", "by test", "flatters"]
    rows = [
        [
            f"{sparsity:.4g}",
            picks_text(cell),
            number(cell.mean, cell.metric.digits),
            number(cell.values["mean_by_test"], cell.metric.digits),
            flattery_text(cell),
        ]
        for sparsity, cell in sorted(row.cells.items())
    ]
    return text_table(heads, rows)


def title(row: BoardRow) -> str:
    """Name a method that is made by choosing, and how many options it has."""
    options = {cell.values["options"] for cell in row.cells.values()}
    return f"{row.label}: among {' or '.join(map(str, sorted(options)))}"


def line(cell: Cell) -> str:
    """Say in a line what was picked for a cell, and how much choosing on the test set would have flattered."""
    if cell.values["flattery"] is None:
        return f"picked among {cell.values['options']}: {picks_text(cell)}"
    unit = metrics.difference_unit(cell.metric)
    shown = number(cell.values["mean_by_test"], cell.metric.digits)
    return (
        f"picked among {cell.values['options']}: {picks_text(cell)}   by test {shown}: flattered by "
        f"{flattery_text(cell)} {unit}"
    )


def selected_rows(board: Board) -> list[BoardRow]:
    """Return the methods of a board that are made by choosing."""
    return [row for row in board.rows if row.selected]

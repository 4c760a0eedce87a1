"""What a board comes to, method by method: how far it compresses without loss, how often it wins, what it costs.

Made from the board's own cells, so `rank --summary`, the terminal UI and SQL cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunectl.results import statistics as stats
from prunectl.results.formats import text_table
from prunectl.results.leaderboard import BOARD_LABELS, Board, BoardRow
from prunectl.results.statistics import LOSSES, Record
from prunectl.store.db import query
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths

Column = Mapping[int, float]
"""Accuracies of one cell by seed, percent."""


@dataclass(frozen=True)
class Summary:
    """One method of a board."""

    label: str
    n: int
    """Numbers measured, of `planned`."""
    planned: int
    average_rank: float | None
    record: Record
    """Against all other methods at all sparsities, by the 95 % interval of the paired difference."""
    against: Mapping[str, Record]
    """The same, against each."""
    compressions: Mapping[float, float | None]
    """Largest compression whose median is at most so many points below the mean dense accuracy; None: nowhere."""
    largest: float | None
    """The largest compression measured."""
    search_epochs: float | None
    """Retraining up to the method's last sparsity, epochs."""


def summarise(paths: StorePaths, board: Board) -> list[Summary]:
    """The methods of a board, in its order. Raises StoreError where the store cannot be read."""
    columns = _columns(paths, board)
    return [_summary(row, board, columns) for row in board.rows]


_ACCURACIES = """
SELECT cell, iteration, seed, accuracy FROM points
WHERE accuracy IS NOT NULL AND iteration > 0 AND plan = $plan AND network = $network AND dataset = $dataset
  AND recipe = $recipe AND schedule = $schedule
"""


def _columns(paths: StorePaths, board: Board) -> dict[str, dict[float, Column]]:
    """Accuracies by seed of each method's cells, by target sparsity."""
    places = {
        (cell.cell, cell.iteration): (row.label, sparsity)
        for row in board.rows
        for sparsity, cell in row.cells.items()
    }
    out: dict[str, dict[float, dict[int, float]]] = {row.label: {} for row in board.rows}
    named = {name: getattr(board, name) for name in BOARD_LABELS}
    for cell, iteration, seed, accuracy in query.run(paths, _ACCURACIES, named).rows:
        if (cell, iteration) in places:
            label, sparsity = places[cell, iteration]
            out[label].setdefault(sparsity, {})[seed] = accuracy
    return {label: dict(columns) for label, columns in out.items()}


def _summary(row: BoardRow, board: Board, columns: Mapping[str, Mapping[float, Column]]) -> Summary:
    against = {
        other.label: _duel(columns[row.label], columns[other.label])
        for other in board.rows
        if other.label != row.label
    }
    cells = [cell for cell in row.cells.values() if cell.n]
    points = [
        (float(cell.values["compression"]), float(cell.values["median"]))
        for cell in cells
        if cell.values["compression"] is not None
    ]
    dense = board.dense.mean if board.dense is not None else None
    costs = [cell.values["search_epochs"] for cell in cells]
    return Summary(
        label=row.label,
        n=sum(cell.n for cell in row.cells.values()),
        planned=sum(cell.planned for cell in row.cells.values()),
        average_rank=row.average_rank,
        record=Record(
            sum(each.wins for each in against.values()),
            sum(each.ties for each in against.values()),
            sum(each.losses for each in against.values()),
        ),
        against=against,
        compressions={
            loss: None if dense is None else stats.largest_compression(points, dense, loss)
            for loss in LOSSES
        },
        largest=max((x for x, _ in points), default=None),
        search_epochs=max((cost for cost in costs if cost is not None), default=None),
    )


def _duel(ours: Mapping[float, Column], theirs: Mapping[float, Column]) -> Record:
    shared = sorted(ours.keys() & theirs.keys())
    return stats.record([ours[s] for s in shared], [theirs[s] for s in shared])


def table(summaries: Sequence[Summary]) -> Result:
    """As texts, for people."""
    heads = ["method", "n", "average rank", "wins–ties–losses",
             *(f"−{loss:g} points" if loss else "no loss" for loss in LOSSES), "search epochs"]  # fmt: skip
    rows = []
    for each in summaries:
        record = each.record
        rows.append(
            [
                each.label,
                str(each.n) if each.n == each.planned else f"{each.n}/{each.planned}",
                "–" if each.average_rank is None else f"{each.average_rank:.2f}",
                f"{record.wins}–{record.ties}–{record.losses}",
                *(_times(each.compressions[loss], each.largest) for loss in LOSSES),
                "–" if each.search_epochs is None else f"{each.search_epochs:g}",
            ]
        )
    return text_table(heads, rows)


def _times(compression: float | None, largest: float | None) -> str:
    """Such as ``5.96×``; with ≥ where nothing more compressed was measured."""
    if compression is None:
        return "–"
    return f"{'≥ ' if compression == largest else ''}{compression:.2f}×"


def long_form(found: Sequence[tuple[Board, Sequence[Summary]]]) -> Result:
    """One row per method and board, for programs."""
    losses = [f"compression_loss_{loss:g}".replace(".", "_") for loss in LOSSES]
    columns = {
        **dict.fromkeys((*BOARD_LABELS, "method"), "VARCHAR"),
        "n": "BIGINT", "planned": "BIGINT", "average_rank": "DOUBLE",
        "wins": "BIGINT", "ties": "BIGINT", "losses": "BIGINT",
        **dict.fromkeys((*losses, "largest_compression", "search_epochs"), "DOUBLE"),
        "against": "JSON",
    }  # fmt: skip
    rows = []
    for board, summaries in found:
        for each in summaries:
            against = {
                name: [record.wins, record.ties, record.losses]
                for name, record in each.against.items()
            }
            rows.append(
                (*(getattr(board, name) for name in BOARD_LABELS), each.label, each.n, each.planned,
                 each.average_rank, each.record.wins, each.record.ties, each.record.losses,
                 *(each.compressions[loss] for loss in LOSSES), each.largest, each.search_epochs,
                 against)
            )  # fmt: skip
    return Result(tuple(columns), tuple(columns.values()), rows)

"""Summary of a board, method by method: compression without loss, wins against the others, cost of the search.

Made from the board's own cells, so `rank --summary`, the terminal UI and SQL cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

from prunectl.results.formats import text_table, typed_table
from prunectl.results.leaderboard import BOARD_LABELS, ROW_LABELS, Board, BoardRow
from prunectl.results.ties import BySeed, Record, record
from prunectl.spec.seeds import Seeds
from prunectl.spec.task import Metric
from prunectl.store.db import query
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths
from prunectl.text import DASH

MARGINS = (0.25, 0.5, 1.0)
"""Those of the view `no_loss`: points of percentages, else percent of the dense networks' mean."""


@dataclass(frozen=True)
class Summary:
    """One method of a board."""

    row: BoardRow
    record: Record | None
    """Against all other methods at all sparsities, by the 95 % interval of the paired difference; None where trials
    are not independent, and have none."""
    against: Mapping[str, Record]
    """The same, against each."""
    compressions: Mapping[float, float | None]
    """By margin: the compression up to which every level is without loss; None: nowhere."""
    largest: float | None
    """The largest compression measured."""
    search_epochs: float | None
    """Retraining up to the method's last sparsity, epochs."""
    total_epochs: float | None
    """The same with the training of the dense network."""


def summarise(paths: StorePaths, board: Board) -> list[Summary]:
    """Summarise the methods of a board, in its order. Raises StoreError where the store cannot be read."""
    scores = _scores(paths, board)
    reached = _without_loss(paths, board)
    return [_summary(row, board, scores, reached) for row in board.rows]


_SCORES = """
SELECT cell, iteration, seed, order_seed, augment_seed, score FROM points_all
WHERE score IS NOT NULL AND iteration > 0 AND plan = $plan AND version = $version AND network = $network
  AND dataset = $dataset AND recipe = $recipe AND schedule = $schedule AND task = $task
"""


def _scores(paths: StorePaths, board: Board) -> dict[str, dict[float, BySeed]]:
    """Read the scores by seed of each method's cells, by target sparsity."""
    by_cell: dict[tuple[str, int], dict[Seeds, float]] = {}
    named = {name: getattr(board, name) for name in (*BOARD_LABELS, "version", "task")}
    for cell, iteration, *seeds, score in query.run(paths, _SCORES, named).rows:
        by_cell.setdefault((cell, iteration), {})[Seeds(*seeds)] = score
    return {
        row.label: {
            sparsity: by_cell[cell.cell, cell.iteration]
            for sparsity, cell in row.cells.items()
            if (cell.cell, cell.iteration) in by_cell
        }
        for row in board.rows
    }


_NO_LOSS = """
SELECT strategy, criterion, scope, granularity, retrain, margin, compression FROM no_loss_all
WHERE plan = $plan AND version = $version AND network = $network AND dataset = $dataset AND recipe = $recipe
  AND schedule = $schedule AND task = $task
"""

Reached = Mapping[tuple[str, ...], Mapping[float, float | None]]
"""By a method's labels and a margin: the compression without loss."""


def _without_loss(paths: StorePaths, board: Board) -> Reached:
    out: dict[tuple[str, ...], dict[float, float | None]] = {}
    named = {name: getattr(board, name) for name in (*BOARD_LABELS, "version", "task")}
    for *labels, margin, compression in query.run(paths, _NO_LOSS, named).rows:
        out.setdefault(tuple(labels), {})[margin] = compression
    return out


def _summary(
    row: BoardRow, board: Board, scores: Mapping[str, Mapping[float, BySeed]], reached: Reached
) -> Summary:
    higher = board.metric.higher_is_better
    against = {
        other.label: record(
            scores[row.label],
            scores[other.label],
            higher_is_better=higher,
            resolution=board.resolution or 0.0,
        )
        for other in board.rows
        if other.label != row.label and board.independent
    }
    measured = [cell.values for cell in row.cells.values() if cell.n]
    compressions = [
        values["compression"] for values in measured if values["compression"] is not None
    ]
    labels = [tuple(values[name] for name in ROW_LABELS) for values in measured]
    found: Mapping[float, float | None] = reached.get(labels[0], {}) if labels else {}

    def most(column: str) -> float | None:
        return max((v[column] for v in measured if v[column] is not None), default=None)

    return Summary(
        row=row,
        record=sum(against.values(), Record()) if board.independent else None,
        against=against,
        compressions={margin: found.get(margin) for margin in MARGINS},
        largest=max(map(float, compressions), default=None),
        search_epochs=most("search_epochs"),
        total_epochs=most("total_epochs"),
    )


def table(summaries: Sequence[Summary], metric: Metric) -> Result:
    """Write the summaries of a board with this score as texts, for people."""
    kept = [_margin_text(f"{margin:g}", metric) for margin in MARGINS]
    heads = [
        "method",
        "n",
        "average rank",
        "wins–ties–losses",
        *kept,
        "search epochs",
        "total epochs",
    ]
    rows = [
        [
            each.row.label,
            str(each.row.n)
            if each.row.n == each.row.planned
            else f"{each.row.n}/{each.row.planned}",
            DASH if each.row.average_rank is None else f"{each.row.average_rank:.2f}",
            DASH if each.record is None else str(each.record),
            *(_times(each.compressions[margin], each.largest) for margin in MARGINS),
            *(
                DASH if cost is None else f"{cost:g}"
                for cost in (each.search_epochs, each.total_epochs)
            ),
        ]
        for each in summaries
    ]
    return text_table(heads, rows)


def _margin_text(margin: str, metric: Metric) -> str:
    """Name a column of compressions: ``−0.5 points``, or with a plus where lower is better."""
    sign = "−" if metric.higher_is_better else "+"
    return f"{sign}{margin} {_unit(metric)}"


def _unit(metric: Metric) -> str:
    return metric.points if metric.unit == "%" else "%"


def note(metric: Metric) -> str:
    """Explain the columns of compressions."""
    worse = "below" if metric.higher_is_better else "above"
    of = "" if metric.unit == "%" else " of it"
    return (
        f"{_margin_text('x', metric)}: the compression up to which every level is shown by its seeds (one-sided 95 %) "
        f"to be less than x {_unit(metric)}{of} {worse} the own dense {metric.name}"
    )


def _times(compression: float | None, largest: float | None) -> str:
    """Write a compression such as ``5.96×``; with ≥ where nothing more compressed was measured."""
    if compression is None:
        return DASH
    return f"{'≥ ' if compression == largest else ''}{compression:.2f}×"


def long_form(found: Sequence[tuple[Board, Sequence[Summary]]]) -> Result:
    """Write one row per method and board, for programs."""
    names = [f"compression_loss_{margin:g}".replace(".", "_") for margin in MARGINS]
    columns = {
        **dict.fromkeys((*BOARD_LABELS, "method"), "VARCHAR"),
        "n": "BIGINT", "planned": "BIGINT", "average_rank": "DOUBLE",
        "wins": "BIGINT", "ties": "BIGINT", "losses": "BIGINT",
        **dict.fromkeys((*names, "largest_compression", "search_epochs", "total_epochs"), "DOUBLE"),
        "against": "JSON", "task": "VARCHAR", "metric": "VARCHAR", "unit": "VARCHAR",
        "higher_is_better": "BOOLEAN", "version": "BIGINT", "current": "BOOLEAN",
    }  # fmt: skip
    rows = [
        (
            *(getattr(board, name) for name in BOARD_LABELS), each.row.label, each.row.n, each.row.planned,
            each.row.average_rank, *(astuple(each.record) if each.record else (None,) * 3),
            *(each.compressions[margin] for margin in MARGINS), each.largest, each.search_epochs, each.total_epochs,
            {name: list(astuple(count)) for name, count in each.against.items()},
            board.task, board.metric.name, board.metric.unit, board.metric.higher_is_better,
            board.version, board.current,
        )
        for board, summaries in found
        for each in summaries
    ]  # fmt: skip
    return typed_table(columns, rows)

"""`rank`: the ranked tables of methods across sparsities, for people and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption, TableFormat
from prunectl.cli.support.tables import console, result_table, table
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:  # results.leaderboard imports DuckDB
    from rich.console import Console

    from prunectl.results.leaderboard import Board

SUMMARY_NOTE = (
    "wins–ties–losses: against every other method at every sparsity, by the 95 % interval of the difference paired "
    "by seed"
)


def rank(
    plan: Annotated[
        str | None, typer.Argument(help="A plan's name. Default: the one last run.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only this network.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    all_plans: Annotated[bool, typer.Option("--all", help="Every plan of the store.")] = False,
    delta: Annotated[
        bool, typer.Option("--delta", help="Change from the own dense network, paired by seed.")
    ] = False,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", help="A line per strategy: compression without loss, wins, search cost."
        ),
    ] = False,
    form: Annotated[TableFormat, typer.Option("--format", help="What to write.")] = "table",
    store: StoreOption = None,
) -> None:
    """Rank strategies by their score at each sparsity: mean ± std (n), best ★, tied with it ≈."""
    from prunectl.results.formats import render
    from prunectl.results.leaderboard import boards, cells
    from prunectl.results.metrics import task_metrics

    paths = results_of(store)
    rows = cells(paths, plan, network=network, dataset=dataset, all_plans=all_plans)
    if form in ("json", "csv") and not summary:
        typer.echo(render(rows, form), nl=False)
        return
    content = rows.dicts()
    shown = boards(content, task_metrics(paths, {row["task"] for row in content}))
    if summary:
        _print_summaries(paths, shown, form)
    elif form == "table":
        print_boards(shown, delta=delta)
    else:
        for board in shown:
            typer.echo(render(board.table(delta=delta), form), nl=False)


def _print_summaries(paths: StorePaths, boards: list[Board], form: TableFormat) -> None:
    from prunectl.results import summary
    from prunectl.results.formats import render

    found = [(board, summary.summarise(paths, board)) for board in boards]
    if form in ("json", "csv"):
        typer.echo(render(summary.long_form(found), form), nl=False)
    elif form != "table":
        for board, summaries in found:
            typer.echo(render(summary.table(summaries, board.metric), form), nl=False)
    else:
        out = console()
        for board, summaries in found:
            out.print(_heading(board), markup=False)
            out.print(result_table(summary.table(summaries, board.metric)))
        if not found:
            out.print("No results yet.")
            return
        for note in dict.fromkeys(summary.note(board.metric) for board, _ in found):
            out.print(f"{note} (≥: nothing beyond was measured)")
        out.print(SUMMARY_NOTE)


def print_boards(boards: list[Board], *, delta: bool = False) -> None:
    """Print boards on the terminal, each transposed where it is too wide for it."""
    out = console()
    if not boards:
        out.print("No results yet.")
        return
    for board in boards:
        _print_board(out, board, delta)
    out.print(f"{_value(boards, delta)} · ★ best, ≈ tied with it (95 %, paired by seed)")
    if any(cell.flagged for board in boards for row in board.rows for cell in row.cells.values()):
        out.print("! a seed diverged, collapsed or lost a layer: it is counted, not dropped")


def _value(boards: list[Board], delta: bool) -> str:
    """Say what the numbers of the boards are."""
    from prunectl.results import metrics

    scores = [board.metric for board in boards]
    if not delta:
        return f"{metrics.titles(scores)} of the last epoch, mean ± std (n)"
    changes = " or ".join(dict.fromkeys(map(metrics.difference_title, scores)))
    return f"{changes} from the own dense network, paired by seed, ± half the 95 % interval; ns: covers 0"


def _print_board(out: Console, board: Board, delta: bool) -> None:
    wide = board.table(delta=delta)
    made = table(["sparsity", *wide.columns[1:]], wide.rows)
    out.print(_heading(board), markup=False)
    unlimited = out.options.update(width=10_000)
    if out.measure(made, options=unlimited).maximum <= out.width or not out.is_terminal:
        out.print(made)
        return
    if board.dense is not None:
        out.print(f"dense {board.dense.text()}", markup=False)
    methods = [row for row in wide.rows if row[0] != "dense"]
    transposed = zip(wide.columns[1:], *(row[1:] for row in methods), strict=True)
    out.print(table(["sparsity", *(row[0] for row in methods)], transposed))


def _heading(board: Board) -> str:
    return f"{board.title}   {board.n}/{board.planned}"

"""`rank`: the ranked tables of methods across sparsities, for people and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.boards import SHARED, heading, print_boards
from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption, TableFormat, VersionOption
from prunectl.cli.support.tables import console, result_table
from prunectl.cli.support.terminal import narrate
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:  # results.leaderboard imports DuckDB
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
    all_plans: Annotated[
        bool, typer.Option("--all", help="Every plan of the store, in all its versions.")
    ] = False,
    version: VersionOption = None,
    delta: Annotated[
        bool, typer.Option("--delta", help="Change from the own dense network, paired by seed.")
    ] = False,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", help="A line per strategy: compression without loss, wins, search cost."
        ),
    ] = False,
    variance: Annotated[
        bool,
        typer.Option(
            "--variance", help="Which seeds move the number: init's, order's or augmentation's."
        ),
    ] = False,
    form: Annotated[TableFormat, typer.Option("--format", help="What to write.")] = "table",
    store: StoreOption = None,
) -> None:
    """Rank strategies by their score at each sparsity: mean ± std (n), best ★, not beaten by any ≈."""
    from prunectl.results.cells import cells
    from prunectl.results.formats import render
    from prunectl.results.leaderboard import boards
    from prunectl.results.metrics import task_metrics

    if all_plans and version is not None:
        raise typer.BadParameter("--version is of one plan and goes without --all")
    if variance and (summary or delta):
        raise typer.BadParameter("--variance is a table of its own, without --summary and --delta")
    paths = results_of(store)
    rows = cells(
        paths,
        plan,
        network=network,
        dataset=dataset,
        all_plans=all_plans,
        version=version,
        every_version=all_plans,
    )
    if form in ("json", "csv") and not (summary or variance):
        typer.echo(render(rows, form), nl=False)
        return
    content = rows.dicts()
    shown = boards(content, task_metrics(paths, {row["task"] for row in content}))
    if summary:
        _print_summaries(paths, shown, form)
    elif variance:
        _print_variances(paths, shown, form)
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
            out.print(heading(board), markup=False)
            out.print(result_table(summary.table(summaries, board.metric)))
        if not found:
            out.print("No results yet.")
            return
        for note in dict.fromkeys(summary.note(board.metric) for board, _ in found):
            out.print(f"{note} (≥: nothing beyond was measured)")
        out.print(SUMMARY_NOTE)
        if not all(board.independent for board, _ in found):
            out.print(SHARED)


def _print_variances(paths: StorePaths, boards: list[Board], form: TableFormat) -> None:
    from prunectl.results import metrics, variance
    from prunectl.results.formats import render

    found = [(board, variance.board_variance(paths, board)) for board in boards]
    without = [variance.why_none(cells) for _, cells in found if not any(c.parts for c in cells)]
    if form in ("json", "csv"):
        typer.echo(render(variance.long_form(found), form), nl=False)
    out = console()
    for board, cells in found:
        made = variance.table(cells, board.metric.digits)
        if form in ("json", "csv") or not any(each.parts for each in cells):
            continue
        if form != "table":
            typer.echo(render(made, form), nl=False)
            continue
        out.print(heading(board), markup=False)
        out.print(result_table(made))
        out.print(variance.note(cells, metrics.difference_unit(board.metric)), markup=False)
    if not found:
        narrate("No results yet.")
    for text in dict.fromkeys(without):
        narrate(text)

"""`rank` and `sql`: what was measured, for people and for scripts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption
from prunectl.errors import PrunectlError

if TYPE_CHECKING:
    from rich.console import Console

    from prunectl.results.leaderboard import Board
    from prunectl.store.db.query import Result
    from prunectl.store.paths import StorePaths

TABLE_ROWS = 500
"""Rows a table on the terminal shows unless --limit says otherwise."""


class RankFormat(StrEnum):
    """What `rank` writes."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"
    latex = "latex"


class SqlFormat(StrEnum):
    """What `sql` writes."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"
    latex = "latex"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(rank)
    app.command()(sql)


def rank(
    plan: Annotated[
        str | None, typer.Argument(help="A plan's name. Default: the one last run.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only this network.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    all_plans: Annotated[bool, typer.Option("--all", help="Every plan of the store.")] = False,
    delta: Annotated[
        bool, typer.Option("--delta", help="Points from the own dense network, paired by seed.")
    ] = False,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary", help="A line per strategy: compression without loss, wins, search cost."
        ),
    ] = False,
    form: Annotated[RankFormat, typer.Option("--format", help="What to write.")] = RankFormat.table,
    store: StoreOption = None,
) -> None:
    """Rank strategies by accuracy at each sparsity: mean ± std (n), best ★, tied with it ≈."""
    from prunectl.results.formats import render
    from prunectl.results.leaderboard import cells, leaderboard

    paths = results_of(store)
    only = {"network": network, "dataset": dataset, "all_plans": all_plans}
    if summary:
        _summary(paths, leaderboard(paths, plan, **only), form)  # type: ignore[arg-type]
        return
    if form in (RankFormat.json, RankFormat.csv):
        typer.echo(render(cells(paths, plan, **only), form.value), nl=False)  # type: ignore[arg-type]
        return
    boards = leaderboard(paths, plan, **only)  # type: ignore[arg-type]
    if form is RankFormat.table:
        print_boards(boards, delta=delta)
        return
    for board in boards:
        typer.echo(render(board.table(delta=delta), form.value), nl=False)


def _summary(paths: StorePaths, boards: list[Board], form: RankFormat) -> None:
    from prunectl.cli.support.tables import console, table
    from prunectl.results import summary
    from prunectl.results.formats import render

    found = [(board, summary.summarise(paths, board)) for board in boards]
    if form in (RankFormat.json, RankFormat.csv):
        typer.echo(render(summary.long_form(found), form.value), nl=False)
        return
    out = console()
    for board, summaries in found:
        made = summary.table(summaries)
        if form is not RankFormat.table:
            typer.echo(render(made, form.value), nl=False)
            continue
        out.print(f"{board.title}   {board.n}/{board.planned}", markup=False)
        out.print(table(made.columns, made.rows))
    if form is RankFormat.table:
        out.print(
            "no loss, −x points: the largest compression whose median is at most x points below the mean "
            "dense accuracy (≥: nothing beyond was measured)\nwins–ties–losses: against every other method at "
            "every sparsity, by the 95 % interval of the difference paired by seed"
            if found
            else "No results yet."
        )


def print_boards(boards: list[Board], *, delta: bool = False) -> None:
    """Boards as tables on the terminal, turned on their side where they are too wide for it."""
    from prunectl.cli.support.tables import console

    out = console()
    if not boards:
        out.print("No results yet.")
        return
    for board in boards:
        _print_board(out, board, delta)
    dense = (
        "points from the own dense network, paired by seed, ± half the 95 % interval; ns: covers 0"
    )
    value = "accuracy % of the last epoch, mean ± std (n)"
    out.print(f"{dense if delta else value} · ★ best, ≈ tied with it (95 %, paired by seed)")
    if any(cell.flagged for board in boards for row in board.rows for cell in row.cells.values()):
        out.print("! a seed diverged, collapsed or lost a layer: it is counted, not dropped")


def _print_board(out: Console, board: Board, delta: bool) -> None:
    from prunectl.cli.support.tables import table

    wide = board.table(delta=delta)
    rows = [list(row) for row in wide.rows]
    made = table(["sparsity", *wide.columns[1:]], rows)
    turned_rows = [
        [heading, *(row[index] for row in rows if row[0] != "dense")]
        for index, heading in enumerate(wide.columns)
        if index > 0
    ]
    turned = table(["sparsity", *(row[0] for row in rows if row[0] != "dense")], turned_rows)
    out.print(f"{board.title}   {board.n}/{board.planned}", markup=False)
    unlimited = out.options.update(width=10_000)
    if out.measure(made, options=unlimited).maximum <= out.width or not out.is_terminal:
        out.print(made)
    else:
        if board.dense is not None:
            out.print(f"dense {board.dense.text()}", markup=False)
        out.print(turned)


def sql(
    query: Annotated[str | None, typer.Argument(help="A statement that reads.")] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--query", "-q", "--recipe", "-r", help="A query with a name; `-q list` lists them."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A file of SQL; - for standard input.")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A query's parameter: name=value.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="The tables, with units.")] = False,
    form: Annotated[SqlFormat, typer.Option("--format", help="What to write.")] = SqlFormat.table,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows at the most.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A file to write to; parquet needs one.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Query the results with SQL, during a run or after it."""
    if schema:
        from prunectl.store.db.schema import schema_text

        typer.echo(schema_text(), nl=False)
        return
    if sum(item is not None for item in (query, name, file)) != 1:
        raise typer.BadParameter("give one of QUERY, --query, --file and --schema")
    if limit is None and form is SqlFormat.table:
        limit = TABLE_ROWS
    paths = results_of(store)
    result = _ask(paths, query, name, file, parameter or [], limit)
    _write(result, form, out)


def _ask(
    paths: StorePaths,
    query: str | None,
    name: str | None,
    file: Path | None,
    parameters: list[str],
    limit: int | None,
) -> Result:
    from prunectl.store.db.queries import queries, run_query
    from prunectl.store.db.query import Result, run

    if name == "list":
        listed = [(item.name, item.description) for item in queries(paths).values()]
        return Result(("query", "description"), ("VARCHAR", "VARCHAR"), listed)
    values: dict[str, str] = {}
    for item in parameters:
        parameter, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"--param needs name=value, found {item!r}")
        values[parameter] = value
    if name is not None:
        return run_query(paths, name, values, limit)
    if file is not None:
        if str(file) == "-":
            query = typer.get_text_stream("stdin").read()
        else:
            try:
                query = file.read_text(encoding="utf-8")
            except OSError as error:
                raise PrunectlError(f"cannot read {file}: {error.strerror}") from None
    assert query is not None
    return run(paths, query, values or None, limit)


def _write(result: Result, form: SqlFormat, out: Path | None) -> None:
    from prunectl.results.formats import render

    if form is SqlFormat.parquet:
        from prunectl.store.db.query import write_parquet

        if out is None:
            raise typer.BadParameter("--format parquet needs --out FILE")
        write_parquet(result, out)
        return
    if form is not SqlFormat.table:
        text = render(result, form.value)
        if out is None:
            typer.echo(text, nl=False)
        else:
            from prunectl.store.files import write_text

            write_text(out, text)
        if result.truncated:
            typer.echo(f"{len(result.rows)} of >{len(result.rows)} rows", err=True)
        return
    from prunectl.cli.support.tables import console, table
    from prunectl.results.formats import numeric, shown

    terminal = console()
    rows = ([shown(value) for value in row] for row in result.rows)
    left = [index for index, number in enumerate(numeric(result)) if not number]
    made = table(result.columns, rows, left=left)
    terminal.print(made)
    count = len(result.rows)
    more = f"{count} of >{count}" if result.truncated else f"{count}"
    typer.echo(f"{more} row{'' if count == 1 and not result.truncated else 's'}", err=True)

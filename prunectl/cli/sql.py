"""`sql`: queries of the results, given, from a file, or shipped under a name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.tables import console, result_table
from prunectl.cli.support.terminal import narrate
from prunectl.errors import PrunectlError
from prunectl.spec.ranges import SMALL
from prunectl.store.paths import StorePaths

if TYPE_CHECKING:  # store.db imports DuckDB
    from prunectl.store.db.query import Result

SqlFormat = Literal["table", "json", "csv", "md", "latex", "parquet"]

TABLE_ROWS = 500
"""Rows a table on the terminal shows unless --limit says otherwise."""


def sql(
    query: Annotated[str | None, typer.Argument(help="A statement that reads.")] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--query",
            "-q",
            "--recipe",
            "-r",
            help="One of the shipped queries; `-q list` names them.",
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A file of SQL; - for standard input.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="A shipped query's parameter: name=value."),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="The tables, with units.")] = False,
    form: Annotated[SqlFormat, typer.Option("--format", help="What to write.")] = "table",
    limit: Annotated[int | None, typer.Option(min=1, max=SMALL, help="Rows at the most.")] = None,
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
    if form == "parquet" and out is None:
        raise typer.BadParameter("--format parquet needs --out FILE")
    if limit is None and form == "table":
        limit = TABLE_ROWS
    paths = results_of(store)
    values = _parameters(parameter or [])
    if name is not None:
        result = _shipped(paths, name, values, limit)
    else:
        from prunectl.store.db.query import run

        text = query if file is None else _text(file)
        assert text is not None
        result = run(paths, text, values or None, limit)
    _write(result, form, out)


def _parameters(words: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"--param needs name=value, found {word!r}")
        values[name] = value
    return values


def _shipped(paths: StorePaths, name: str, values: dict[str, str], limit: int | None) -> Result:
    """Run a shipped query, or list what queries there are for the name `list`."""
    from prunectl.store.db import queries
    from prunectl.store.db.query import Result

    if name != "list":
        return queries.run_query(paths, name, values, limit)
    listed = [(item.name, item.description) for item in queries.queries(paths).values()]
    return Result(("recipe", "description"), ("VARCHAR", "VARCHAR"), listed)


def _text(file: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise PrunectlError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PrunectlError(f"cannot read {file}: it is not text in UTF-8: {error}") from None


def _write(result: Result, form: SqlFormat, out: Path | None) -> None:
    from prunectl.results.formats import render, row_count, write

    if form == "table":
        console().print(result_table(result))
    elif out is not None:
        write(result, out, form)
    else:
        typer.echo(render(result, form), nl=False)
    if form == "table" or result.truncated:
        narrate(row_count(result))

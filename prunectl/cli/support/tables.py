"""Tables on the terminal, by rich."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:  # rich takes 0.1 s to import, which `--help` must not pay
    from rich.console import Console
    from rich.table import Table

    from prunectl.store.db.query import Result


def console() -> Console:
    """Open stdout, without wrapping or cutting where it is no terminal: a file or pipe has no width to fit."""
    from rich.console import Console

    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=10_000)


def print_json(content: object) -> None:
    """Print anything of dataclasses and structs as JSON; numbers that are not finite become null."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(content), indent=1).decode())


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, left: Container[int] = (0,)
) -> Table:
    """Make a plain table: the columns numbered `left` are aligned to the left, the others to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        made.add_column(Text(heading), justify="left" if index in left else "right")
    for row in rows:
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return made


def result_table(result: Result) -> Table:
    """Make a table of a query's result, numbers to the right."""
    from prunectl.results.formats import numeric, shown

    left = [index for index, number in enumerate(numeric(result)) if not number]
    return table(
        result.columns, ([shown(value) for value in row] for row in result.rows), left=left
    )

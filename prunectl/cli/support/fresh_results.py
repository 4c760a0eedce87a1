"""Before a command that answers from the database: bring it up to date, and say where that was not possible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from prunectl.store.paths import StorePaths


def results_of(store: Path | None) -> StorePaths:
    """The store to ask, with its database up to date; what stands in the way of that goes to stderr."""
    from prunectl.store.db.query import bring_up_to_date
    from prunectl.store.paths import StorePaths

    paths = StorePaths.locate(store)
    for note in bring_up_to_date(paths):
        typer.echo(note, err=True)
    return paths

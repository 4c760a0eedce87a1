"""`watch`: the terminal UI on any store, with a scheduler or without."""

from __future__ import annotations

from typing import Annotated

import typer

from prunectl.cli.support.background import on_terminal
from prunectl.cli.support.options import StoreOption
from prunectl.errors import PrunectlError, StoreError
from prunectl.store.paths import StorePaths


def watch(
    store: StoreOption = None,
    readonly: Annotated[
        bool, typer.Option("--readonly", help="Without the keys that change a run.")
    ] = False,
    ascii_curves: Annotated[
        bool, typer.Option("--ascii", help="Curves without braille, for fonts that lack it.")
    ] = False,
) -> None:
    """Watch a run live: progress, ranked tables, trials and SQL. Leaving does not touch the run."""
    paths = StorePaths.locate(store)
    if not paths.root.exists():
        raise StoreError(
            f"there is no store {paths.root}; `prunectl run PLAN` makes one, --store names another place"
        )
    if not on_terminal():
        raise PrunectlError("watch needs a terminal")
    from prunectl.tui import open_viewer

    open_viewer(paths, readonly=readonly, plain_curves=ascii_curves)

"""`import`: take in a study that `export --study` wrote.

The module has an underscore because `import` is a Python keyword and no name of a module or function.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from prunectl.cli.support.fresh_results import bring_up_to_date
from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.terminal import Counts, narrate
from prunectl.store.paths import StorePaths


def import_(
    folder: Annotated[Path, typer.Argument(help="What `export --study` made.", show_default=False)],
    store: StoreOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take.")
    ] = False,
    current: Annotated[
        bool,
        typer.Option(
            "--current", help="Make its version the current one of a plan that is here already."
        ),
    ] = False,
    max_size: Annotated[
        float, typer.Option("--max-size", min=0, help="GB that it may take at most.")
    ] = 100.0,
) -> None:
    """Take in a study from another store: what is done here already stays as it is."""
    from prunectl.cli.support.plan_record import check_plan_record
    from prunectl.store.import_study import Import

    paths = StorePaths.locate(store)
    found = Import(folder, paths, int(max_size * 1e9))
    narrate(f"{found.done.plan}: {'would take' if dry_run else 'taking'} {found.done.summary()}")
    if dry_run:
        return
    check = partial(check_plan_record, tell=narrate)
    imported = found.run(check, current=current, progress=Counts())
    for note in imported.notes:
        narrate(note)
    narrate(f"{imported.plan}: {imported.stages} stages taken, {imported.known} were here already")
    bring_up_to_date(paths)

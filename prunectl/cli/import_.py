"""`import`: take in a study that `export --study` wrote.

The module has an underscore because `import` is a Python keyword and no name of a module or function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunectl.cli.support.fresh_results import bring_up_to_date
from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.terminal import narrate
from prunectl.store.paths import StorePaths


def import_(
    folder: Annotated[Path, typer.Argument(help="What `export --study` made.", show_default=False)],
    store: StoreOption = None,
) -> None:
    """Take in a study from another store: what is done here already stays as it is."""
    from prunectl.store.archive import import_study

    paths = StorePaths.locate(store)
    imported = import_study(folder, paths)
    for note in imported.notes:
        narrate(note)
    narrate(f"{imported.plan}: {imported.stages} stages taken, {imported.known} were here already")
    bring_up_to_date(paths)

"""`store …`: commands on the folder of results itself."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.terminal import Counts, narrate
from prunectl.errors import ControlError, ExitCode, PrunectlError, StoreError
from prunectl.store.paths import StorePaths
from prunectl.text import plural, size

app = typer.Typer(help="The folder of results itself.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def where(store: StoreOption = None) -> None:
    """Print which folder is the store."""
    typer.echo(str(StorePaths.locate(store).root))


@app.command()
def rebuild(store: StoreOption = None) -> None:
    """Make results.duckdb anew from the stage folders."""
    from prunectl.store.db import ingest

    paths = StorePaths.locate(store)
    if not paths.is_store():  # a folder that is mistyped is not made
        raise StoreError(f"{paths.root} holds no results")
    report = ingest.rebuild(paths, progress=Counts())
    for note in (*report.notes, *report.left_out):
        narrate(note)
    narrate(
        f"{report.finished} finished stages, {report.records} records in {report.seconds:.1f} s"
    )


@app.command()
def verify(
    root: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="With --data: folder of data sets. Default: PRUNECTL_DATA, then the user's cache.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
    with_data: Annotated[
        bool,
        typer.Option("--data", help="Read again what its networks were trained on, too."),
    ] = False,
    seal: Annotated[
        bool,
        typer.Option("--seal", help="First add checksums to the records of older versions."),
    ] = False,
) -> None:
    """Check every checksum and every count, and the database against the files. Exit status 3 for problems."""
    from prunectl.store import verify

    if root is not None and not with_data:
        raise PrunectlError(f"{root}: only --data takes a folder; that of results is --store's")
    paths = StorePaths.locate(store)
    unsealed: list[str] = []
    if seal:
        from prunectl.store.sealing import seal_store

        sealed = seal_store(paths)
        unsealed = sealed.problems
        narrate(f"{plural(sealed.records, 'record')} got their checksums")
    found = verify.verify(paths, Counts())
    found.problems += (text for text in unsealed if text not in found.problems)
    if with_data:
        from prunectl.cli.support.data_check import check_again
        from prunectl.ml.datasets.files import data_root

        data = check_again(paths, found.data, data_root(root))
        found.notes += data.notes
        found.problems += data.problems
        for text in data.same:
            narrate(f"data as they were: {text}")
    for note in found.notes:
        narrate(f"note: {note}")
    for problem in found.problems:
        typer.echo(problem)
    problems = plural(len(found.problems), "problem") if found.problems else "no problems"
    narrate(
        f"{found.stages} stages, {found.done} of them done; {found.files} checkpoints and masks, "
        f"{size(found.bytes)}: {problems}"
    )
    if found.problems:
        raise typer.Exit(ExitCode.STORE)


@app.command()
def gc(
    store: StoreOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would free.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
) -> None:
    """Remove what nothing needs: superseded checkpoints, corrupt and temporary files. Never a result."""
    from prunectl.store import gc as garbage

    paths = StorePaths.locate(store)
    found = garbage.removable(paths)
    groups: dict[str, list[int]] = defaultdict(list)
    for each in found:
        groups[each.why].append(each.bytes)
    for why, sizes in groups.items():
        typer.echo(f"{size(sum(sizes)):>10}  {len(sizes)} {why}")
    if not found:
        narrate("nothing to remove")
        return
    total = size(sum(each.bytes for each in found))
    if dry_run:
        narrate(f"{total} could be freed; nothing was removed")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise ControlError(f"{total} can be freed; --yes removes it, --dry-run only tells")
        typer.confirm(f"Remove these {len(found)} files, {total}?", abort=True, err=True)
    narrate(f"{size(garbage.remove(paths, found))} freed")

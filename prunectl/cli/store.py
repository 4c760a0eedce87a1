"""`prunectl store …`: the folder of results itself."""

from __future__ import annotations

import typer

from prunectl.cli.options import StoreOption

app = typer.Typer(help="The folder of results itself.", no_args_is_help=True)


@app.command()
def where(store: StoreOption = None) -> None:
    """Print which folder is the store."""
    from prunectl.storage.paths import StorePaths

    typer.echo(str(StorePaths.locate(store).root))


@app.command()
def rebuild(store: StoreOption = None) -> None:
    """Make results.duckdb anew from the stage folders."""
    from prunectl.errors import StoreBusy
    from prunectl.storage import ingest
    from prunectl.storage.paths import StorePaths

    paths = StorePaths.locate(store)
    report = ingest.rebuild(paths)
    if report.busy:
        raise StoreBusy(f"{paths.database} is held by another process; nothing was changed")
    for note in report.notes:
        typer.echo(note, err=True)
    typer.echo(
        f"{report.finished} finished stages, {report.records} records in {report.seconds:.1f} s",
        err=True,
    )

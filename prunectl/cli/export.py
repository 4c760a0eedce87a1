"""`export`: a network, or a whole study, out of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunectl.cli.support.fresh_results import results_of
from prunectl.cli.support.options import StoreOption
from prunectl.cli.support.terminal import Counts, narrate
from prunectl.store.paths import StorePaths


def export(
    trial: Annotated[
        str | None,
        typer.Argument(help="A trial: its id or the beginning of it.", show_default=False),
    ] = None,
    iteration: Annotated[
        int | None,
        typer.Option("--iteration", "-k", min=0, help="Default: the last one that is done."),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="A plan's name: all of it, as a folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="FILE.safetensors, or the study's folder.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Write a network's weights and mask as safetensors, or a study as one read-only bundle, named by its digest."""
    if (trial is None) == (study is None):
        raise typer.BadParameter("give either a TRIAL or --study PLAN")
    if study is not None:
        if iteration is not None:
            raise typer.BadParameter("--iteration belongs to a TRIAL")
        _export_study(study, out or Path(study), store)
        return
    from prunectl.results.export import export_network

    assert trial is not None
    for file in export_network(StorePaths.locate(store), trial, iteration, out):
        typer.echo(str(file))


def _export_study(plan: str, folder: Path, store: Path | None) -> None:
    from prunectl.results.export import export_tables
    from prunectl.store.archive import export_study, finish

    paths = results_of(store)
    manifest = export_study(
        paths,
        plan,
        folder,
        Counts(),
        lambda text: narrate(f"{text}: if it is a version of {plan}, an older one is exported"),
    )
    tables = export_tables(paths, plan, folder / "tables")
    manifest = finish(folder, manifest, tables)
    size = sum(entry.bytes for entry in manifest.files.values())
    missing = manifest.stages_missing
    narrate(
        f"{manifest.stages} done stages, {size / 1e6:.1f} MB"
        + (f"; {missing} are not done and were left out" if missing else "")
    )
    typer.echo(str(folder))
    typer.echo(f"sha256:{manifest.bundle}")

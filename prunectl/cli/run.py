"""`run`: queue plans and run them to the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.background import background, on_terminal
from prunectl.cli.support.options import DataOption, SetOption, SlotsOption, StoreOption
from prunectl.errors import ExitCode, PrunectlError, StoreError

if TYPE_CHECKING:
    from prunectl.plan.expand import Expansion
    from prunectl.scheduler.devices.base import Device, Slots
    from prunectl.scheduler.timeouts import Failure, Outcome
    from prunectl.spec.settings import DataSettings
    from prunectl.store.paths import StorePaths


LOG_LINES = 12
"""Of a failed worker's log."""


@dataclass(frozen=True)
class Manner:
    """How a run goes about it; none of it changes what a stage is."""

    share: bool
    fuse: bool
    checkpoint_every: float
    """Seconds."""


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(run)


def run(
    plans: Annotated[list[Path], typer.Argument(help="Plans: TOML files.", show_default=False)],
    store: StoreOption = None,
    data: DataOption = None,
    devices: Annotated[
        str | None,
        typer.Option(help="all, cpu, or cuda:0,cuda:1. Default: the plan's, then all."),
    ] = None,
    slots: SlotsOption = None,
    changes: SetOption = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Without the terminal UI, in the foreground.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background, and return at once.")
    ] = False,
    share: Annotated[
        bool, typer.Option("--share", help="Use devices that another run has leased, too.")
    ] = False,
    fuse: Annotated[
        bool,
        typer.Option(
            "--fuse", help="CUDA: fuse kernels with torch.compile; faster, with other last bits."
        ),
    ] = False,
    checkpoint_every: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Between checkpoints inside stages.")
    ] = 60.0,
) -> None:
    """Run plans: what is done already is not done again, what was interrupted goes on."""
    from prunectl.cli.support.planning import read_plan
    from prunectl.store import requests as control
    from prunectl.store.paths import StorePaths
    from prunectl.store.records.plan import write_plans
    from prunectl.store.records.provenance import write_run

    paths = StorePaths.locate(store)
    expansions = [read_plan(file, changes or [], paths) for file in plans]
    _distinct(expansions)
    todo = {
        key: spec
        for expansion in expansions
        for key, spec in expansion.stages.items()
        if not paths.stage(key).result.exists()
    }
    chosen = _devices(devices, slots, expansions) if todo else []
    _check_data({spec.data for spec in todo.values()}, expansions, data)
    if todo:
        _say_what_mixes(paths, expansions)
    view = not plain and not detach and on_terminal()
    if view:
        from prunectl.tui import own_keys

        own_keys()  # what is wrong with them is told before anything is started
    records = [expansion.record() for expansion in expansions]
    if todo and (detach or view) and not control.alive(paths):
        write_plans(paths, records)
        typer.echo(background(paths), err=True)
        if view:
            _watch(paths, expansions)
        return
    write_plans(paths, records)
    identifier = write_run(
        paths, [each.digest for each in expansions], [each.id for each in chosen]
    )
    if not todo:
        _already_done(paths, expansions)
        return
    if control.alive(paths):
        for expansion in expansions:
            typer.echo(control.add_plan(paths, expansion.digest).text, err=True)
        typer.echo("added to the scheduler that is running; `prunectl status` shows it", err=True)
        if view:
            _watch(paths, expansions)
        return
    manner = Manner(share, fuse, checkpoint_every)
    outcome = _schedule(paths, expansions, chosen, data, manner, identifier)
    _report(paths, expansions, outcome)


def _distinct(expansions: Sequence[Expansion]) -> None:
    seen: dict[str, str] = {}
    for expansion in expansions:
        name = expansion.plan.content.name
        if name in seen and seen[name] != expansion.digest:
            raise expansion.plan.fail(
                "another plan of this run has the same name", "name", found=name
            )
        seen[name] = expansion.digest


def _say_what_mixes(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    """A line for each version of the code whose numbers this run would be put beside."""
    from prunectl.spec.key import NUMERICS
    from prunectl.store.records.plan import current_studies
    from prunectl.store.records.provenance import version_warnings

    names = {expansion.plan.content.name for expansion in expansions}
    for study in current_studies(paths):
        numerics = {int(stage.spec.get("numerics", 0)) for stage in study.stages.values()}
        if study.name in names and numerics - {NUMERICS}:
            typer.echo(
                f"note: {study.name} was run by a prunectl that computes other numbers (numerics "
                f"{', '.join(map(str, sorted(numerics)))}, now {NUMERICS}): none of its stages is reused",
                err=True,
            )
    keys = {key for expansion in expansions for key in expansion.stages}
    for text in version_warnings(paths, keys):
        typer.echo(f"note: {text}", err=True)


def _devices(
    option: str | None, slots: Slots | None, expansions: Sequence[Expansion]
) -> list[Device]:
    """The option's devices, the plans', or all there are."""
    from prunectl.scheduler.devices.base import most, parse

    tables = [expansion.plan.content.run for expansion in expansions]
    said = [table.devices for table in tables if table.devices]
    asked = slots or most(table.slots_per_device for table in tables)
    return parse(option or (said[0] if said else "all"), slots=asked)


def _check_data(
    needed: set[DataSettings], expansions: Sequence[Expansion], data: Path | None
) -> None:
    """Find the files of every data set before anything is queued, and fetch those that are missing."""
    from prunectl.ml.datasets import data_root
    from prunectl.ml.datasets.registry import ensure

    root = data_root(data)
    places = {found: place for one in expansions for found, place in one.places.items()}
    # Variants that hold out other images are the same files.
    once = {
        (item.name, item.options, item.fingerprint): dict(item.options) | places[item]
        for item in needed
    }
    for (name, _, fingerprint), options in sorted(once.items()):
        ensure(name, root, options, fingerprint, progress=lambda text: typer.echo(text, err=True))


def _watch(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    """The terminal UI; after it the table and the exit code of a run that has ended by then."""
    from prunectl.monitor.watcher import Watcher
    from prunectl.store import requests as control
    from prunectl.tui import open_viewer

    open_viewer(paths)
    if control.alive(paths):
        return
    _print_rank(paths, expansions)
    counts = Watcher(paths).snapshot().counts
    if counts.get("failed") or counts.get("blocked"):
        raise typer.Exit(ExitCode.TRIAL_FAILED)


def _already_done(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    from prunectl.store.db.ingest import ingest

    ingest(paths)
    for expansion in expansions:
        typer.echo(
            f"{expansion.plan.content.name}: all {len(expansion.trials)} trials are done "
            f"({len(expansion.stages)} stages in {paths.root})",
            err=True,
        )
    _print_rank(paths, expansions)


def _schedule(
    paths: StorePaths,
    expansions: Sequence[Expansion],
    devices: Sequence[Device],
    data: Path | None,
    manner: Manner,
    identifier: str,
) -> Outcome:
    from prunectl.cli.support.progress import Display, LiveDisplay, PlainDisplay, Work
    from prunectl.ml.datasets import data_root
    from prunectl.scheduler.scheduler import WORKER, Scheduler
    from prunectl.store.db.ingest import ingest

    keys = {key for expansion in expansions for key in expansion.stages}
    work = Work(expansions, {key for key in keys if paths.stage(key).result.exists()})
    live = sys.stderr.isatty()
    display: Display = LiveDisplay(work) if live else PlainDisplay(work)
    scheduler = Scheduler(
        paths,
        devices,
        [expansion.digest for expansion in expansions],
        data=data_root(data),
        ingest=ingest,
        worker_command=[*WORKER, "--fuse"] if manner.fuse else WORKER,
        share=manner.share,
        run_id=identifier,
        checkpoint_every=manner.checkpoint_every,
        on_tick=display.tick,
        on_event=display.event,
    )
    slots = sum(device.slots for device in devices)
    most = "at most " if any(device.auto for device in devices) else ""
    typer.echo(
        f"{len(keys) - len(work.done)} of {len(keys)} stages to run on "
        f"{', '.join(device.id for device in devices)} ({most}{slots} at a time), store {paths.root}",
        err=True,
    )
    with display:
        return scheduler.run()


def _report(paths: StorePaths, expansions: Sequence[Expansion], outcome: Outcome) -> None:
    """The ranked table, what went wrong, and the exit code that says so."""
    from prunectl.cli.support.terminal import leave_if_closed
    from prunectl.store.db.ingest import ingest

    leave_if_closed()
    try:
        if ingest(paths).busy:
            typer.echo("results.duckdb is held by another program: it may be behind", err=True)
    except StoreError as error:
        typer.echo(f"results.duckdb is behind: {error}", err=True)
    _print_rank(paths, expansions)
    counts = ", ".join(f"{count} {state}" for state, count in outcome.trials.items() if count)
    typer.echo(f"trials: {counts}", err=True)
    if outcome.failure is not None:
        _report_failure(paths, outcome.failure)
    for reason in outcome.stopped.values():
        typer.echo(reason, err=True)
    command = shlex.join(["prunectl", *sys.argv[1:]])
    if outcome.broken is not None:
        typer.echo(f"error: {outcome.broken}", err=True)
        typer.echo(f"stopped, nothing is lost; then the same command goes on: {command}", err=True)
        raise typer.Exit(ExitCode.STORE)
    if outcome.interrupted:
        typer.echo(f"stopped; the same command goes on: {command}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not outcome.ok:
        raise typer.Exit(ExitCode.TRIAL_FAILED)


def _report_failure(paths: StorePaths, failure: Failure) -> None:
    """The first failure: its traceback, what its worker had said before, and how full its device was."""
    typer.echo(f"first failure: {failure.reason}: {failure.message}", err=True)
    if failure.log:
        typer.echo("the last lines of its worker's log:", err=True)
        for line in failure.log.splitlines()[-LOG_LINES:]:
            typer.echo(f"  {line}", err=True)
    if failure.traceback:
        typer.echo(failure.traceback.rstrip(), err=True)
    if failure.memory:
        typer.echo(f"memory: {failure.memory}", err=True)
    typer.echo(f"its log: {paths.stage(failure.key).events}", err=True)


def _print_rank(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    from prunectl.cli.results import print_boards
    from prunectl.results.leaderboard import leaderboard

    try:
        for expansion in expansions:
            print_boards(leaderboard(paths, expansion.plan.content.name))
    except PrunectlError as error:
        typer.echo(f"no table: {error}", err=True)

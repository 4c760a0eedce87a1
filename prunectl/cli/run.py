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
from prunectl.cli.support.fresh_results import bring_up_to_date
from prunectl.cli.support.options import DataOption, SetOption, SlotsOption, StoreOption
from prunectl.cli.support.terminal import leave_if_closed, narrate
from prunectl.errors import ExitCode, PrunectlError
from prunectl.spec.state import State
from prunectl.store import narration
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import write_plans
from prunectl.store.records.provenance import write_run

if TYPE_CHECKING:  # the plan's models and the scheduler take 0.5 s to import
    from prunectl.plan.expand import Expansion
    from prunectl.scheduler.devices.base import Device, Slots
    from prunectl.scheduler.outcome import Failure, Outcome
    from prunectl.spec.settings import DataSettings

LOG_LINES = 12
"""Lines of a failed worker's log that are shown."""


@dataclass(frozen=True)
class Execution:
    """How the stages are run. None of it is part of a stage's key."""

    devices: list[Device]
    data: Path | None
    share: bool
    fuse: bool
    checkpoint_every: float
    """Seconds."""


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
    from prunectl.cli.support.planning import read_plans

    paths = StorePaths.locate(store)
    expansions = read_plans(plans, changes or [])
    todo = {
        key: spec
        for expansion in expansions
        for key, spec in expansion.stages.items()
        if not paths.has_result(key)
    }
    chosen = _devices(devices, slots, expansions) if todo else []
    _check_data({spec.data for spec in todo.values()}, expansions, data)
    if todo:
        _warn_of_mixed_versions(paths, expansions)
    view = not plain and not detach and on_terminal()
    if view:
        from prunectl.tui import own_keys

        own_keys()  # a mistake in the user's key file is reported before anything is started
    if todo:
        execution = Execution(chosen, data, share, fuse, checkpoint_every)
        _start(paths, expansions, execution, detach=detach, view=view)
    else:
        _record(paths, expansions, chosen)
        _report_all_done(paths, expansions)


def _start(
    paths: StorePaths,
    expansions: Sequence[Expansion],
    execution: Execution,
    *,
    detach: bool,
    view: bool,
) -> None:
    """Run the plans: by the scheduler that is running, by one in the background, or by one in this process."""
    from prunectl.store import requests
    from prunectl.store.records.requests import AddPlan

    if (detach or view) and not requests.alive(paths):
        # The viewer must find the plans at once; the process in the background records the run itself.
        write_plans(paths, [expansion.study() for expansion in expansions])
        narrate(background(paths))
    else:
        identifier = _record(paths, expansions, execution.devices)
        # Looked at again: recording asks git and takes up to seconds, in which another run may have started.
        if not requests.alive(paths):
            _report(paths, expansions, _schedule(paths, expansions, execution, identifier))
            return
        for expansion in expansions:
            narrate(requests.request(paths, AddPlan(plan=expansion.digest)).text)
        narrate("added to the scheduler that is running; `prunectl status` shows it")
    if view:
        _watch(paths, expansions)


def _record(paths: StorePaths, expansions: Sequence[Expansion], devices: Sequence[Device]) -> str:
    """Write the plans and the run into the store. Returns the run's id. Raises StoreError."""
    write_plans(paths, [expansion.study() for expansion in expansions])
    digests = [expansion.digest for expansion in expansions]
    return write_run(paths, digests, [device.id for device in devices])


def _warn_of_mixed_versions(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    """Write a note for each version of the code whose numbers this run would be put beside."""
    from prunectl.spec.key import NUMERICS
    from prunectl.store.records.plan import current_studies
    from prunectl.store.records.provenance import version_warnings

    names = {expansion.plan.content.name for expansion in expansions}
    for study in current_studies(paths):
        numerics = {stage.spec.numerics for stage in study.stages.values()}
        if study.name in names and numerics - {NUMERICS}:
            known = ", ".join(map(str, sorted(numerics)))
            narrate(
                f"note: {study.name} was run by a prunectl that computes other numbers (numerics {known}, "
                f"now {NUMERICS}): none of its stages is reused"
            )
    keys = {key for expansion in expansions for key in expansion.stages}
    for text in version_warnings(paths, keys):
        narrate(f"note: {text}")


def _devices(
    option: str | None, slots: Slots | None, expansions: Sequence[Expansion]
) -> list[Device]:
    """Choose the devices: the option's, else the first plan's that names some, else all."""
    from prunectl.scheduler.devices.base import most_slots, parse
    from prunectl.scheduler.devices.system import SystemLayer

    tables = [expansion.plan.content.run for expansion in expansions]
    named = option or next((table.devices for table in tables if table.devices), "all")
    asked = slots or most_slots(table.slots_per_device for table in tables)
    return parse(named, SystemLayer(), asked)


def _check_data(
    needed: set[DataSettings], expansions: Sequence[Expansion], data: Path | None
) -> None:
    """Find the files of every data set before anything is queued, and fetch those that are missing.

    Raises DataError for files that cannot be had.
    """
    from prunectl.ml.datasets.files import data_root
    from prunectl.ml.datasets.registry import ensure

    root = data_root(data)
    places = {found: place for one in expansions for found, place in one.places.items()}
    # Variants that hold out other images have the same files.
    distinct = {
        (item.name, item.options, item.fingerprint): dict(item.options) | places[item]
        for item in needed
    }
    for (name, _, fingerprint), options in sorted(distinct.items()):
        ensure(name, root, options, fingerprint, progress=narrate)


def _watch(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    """Open the terminal UI. Where the run has ended when it is left, print the table and exit with the run's code."""
    from prunectl.monitor.watcher import Watcher
    from prunectl.store import requests
    from prunectl.tui import open_viewer

    open_viewer(paths)
    if requests.alive(paths):
        return
    _print_rank(paths, expansions)
    counts = Watcher(paths).snapshot().counts
    if counts.get(State.FAILED) or counts.get(State.BLOCKED):
        raise typer.Exit(ExitCode.TRIAL_FAILED)


def _report_all_done(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    for expansion in expansions:
        narrate(
            f"{expansion.plan.content.name}: all {len(expansion.trials)} trials are done "
            f"({len(expansion.stages)} stages in {paths.root})"
        )
    bring_up_to_date(paths)
    _print_rank(paths, expansions)


def _schedule(
    paths: StorePaths, expansions: Sequence[Expansion], execution: Execution, identifier: str
) -> Outcome:
    """Run all stages to their end in this process's scheduler, writing progress to stderr."""
    from prunectl.cli.support.progress import Progress
    from prunectl.ml.datasets.files import data_root
    from prunectl.scheduler.executors.local import WORKER, LocalExecutor
    from prunectl.scheduler.scheduler import Scheduler
    from prunectl.store.db.ingest import ingest

    keys = {key for expansion in expansions for key in expansion.stages}
    done = {key for key in keys if paths.has_result(key)}
    progress = Progress(expansions, done)
    devices = execution.devices
    executor = LocalExecutor(
        paths,
        devices,
        data=data_root(execution.data),
        command=[*WORKER, "--fuse"] if execution.fuse else WORKER,
        checkpoint_every=execution.checkpoint_every,
        share=execution.share,
    )
    scheduler = Scheduler(
        paths,
        executor,
        [expansion.digest for expansion in expansions],
        ingest=ingest,
        run_id=identifier,
        on_heartbeat=progress.tick,
        on_record=progress.event,
    )
    slots = sum(device.slots for device in devices)
    most = "at most " if any(device.auto for device in devices) else ""
    narrate(
        f"{len(keys) - len(done)} of {len(keys)} stages to run on "
        f"{', '.join(device.id for device in devices)} ({most}{slots} at a time), store {paths.root}"
    )
    return scheduler.run()


def _report(paths: StorePaths, expansions: Sequence[Expansion], outcome: Outcome) -> None:
    """Print the ranked table and what went wrong, and exit with the code that says so."""
    leave_if_closed()
    bring_up_to_date(paths)
    _print_rank(paths, expansions)
    counts = ", ".join(f"{count} {state}" for state, count in outcome.trials.items() if count)
    narrate(f"trials: {counts}")
    if outcome.failure is not None:
        _report_failure(paths, outcome.failure)
    for reason in outcome.stopped.values():
        narrate(reason)
    for device, why in outcome.given_up.items():
        narrate(f"{device} was given up {why}")
    command = shlex.join(["prunectl", *sys.argv[1:]])
    if outcome.broken is not None:
        narrate(f"error: {outcome.broken}")
        narrate(f"stopped, nothing is lost; then the same command goes on: {command}")
        raise typer.Exit(ExitCode.STORE)
    if outcome.interrupted:
        narrate(f"stopped; the same command goes on: {command}")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not outcome.ok:
        if outcome.given_up:
            narrate(f"nothing is lost; once the device works, the same command goes on: {command}")
        raise typer.Exit(ExitCode.TRIAL_FAILED)


def _report_failure(paths: StorePaths, failure: Failure) -> None:
    """Print the first failure: its traceback, the end of its worker's log, and how full its device was."""
    narrate(f"first failure: {narration.failure(failure.reason, failure.message)}")
    if failure.log:
        narrate("the last lines of its worker's log:")
        for line in failure.log.splitlines()[-LOG_LINES:]:
            narrate(f"  {line}")
    if failure.traceback:
        narrate(failure.traceback.rstrip())
    if failure.memory:
        narrate(f"memory: {failure.memory}")
    narrate(f"its log: {paths.stage(failure.key).events}")


def _print_rank(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    from prunectl.cli.rank import print_boards
    from prunectl.results.leaderboard import leaderboard

    try:
        for expansion in expansions:
            print_boards(leaderboard(paths, expansion.plan.content.name))
    except PrunectlError as error:
        narrate(f"no table: {error}")

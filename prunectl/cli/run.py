"""`run`: queue plans and run them to the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunectl.cli.support.background import background, on_terminal
from prunectl.cli.support.data_check import check_data
from prunectl.cli.support.execution import Execution, choose_devices, record, schedule
from prunectl.cli.support.fresh_results import bring_up_to_date
from prunectl.cli.support.older_folders import tell_of_older_folders
from prunectl.cli.support.options import (
    DataOption,
    NameOption,
    SetOption,
    SlotsByOption,
    SlotsOption,
    StoreOption,
)
from prunectl.cli.support.terminal import narrate
from prunectl.errors import ExitCode, StoreBusy
from prunectl.spec.ranges import SMALL
from prunectl.spec.state import State
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import write_plans
from prunectl.store.records.stage import has_result

if TYPE_CHECKING:  # the plan's models and the scheduler take 0.5 s to import
    from prunectl.plan.expand import Expansion
    from prunectl.spec.study import Study


def run(
    plans: Annotated[list[Path], typer.Argument(help="Plans: TOML files.", show_default=False)],
    store: StoreOption = None,
    data: DataOption = None,
    devices: Annotated[
        str | None,
        typer.Option(help="all, cpu, or cuda:0,cuda:1. Default: the plan's, then all."),
    ] = None,
    slots: SlotsOption = None,
    slots_by: SlotsByOption = None,
    changes: SetOption = None,
    name: NameOption = None,
    new_version: Annotated[
        bool,
        typer.Option(
            "--new-version",
            help="Where the store has another study of this name: take the plan for its next version.",
        ),
    ] = False,
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
        float,
        typer.Option(
            min=0, max=SMALL, metavar="SECONDS", help="Between checkpoints inside stages."
        ),
    ] = 60.0,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do not ask before a run of more than a day on the CPU."),
    ] = False,
) -> None:
    """Run plans: what is done already is not done again, what was interrupted goes on."""
    from prunectl.cli.support.planning import read_plans, taken_name
    from prunectl.store import requests

    paths = StorePaths.locate(store)
    expansions = read_plans(plans, changes or [], name)
    if not new_version:
        for expansion in expansions:
            if (taken := taken_name(paths, expansion)) is not None:
                raise taken
    todo = {
        key: spec
        for expansion in expansions
        for key, spec in expansion.stages.items()
        if not has_result(paths, key)
    }
    # Whoever handed a plan over was promised that the next run carries it out.
    due = bool(todo) or requests.plans_wait(paths)
    tables = [expansion.plan.content.run for expansion in expansions]
    chosen = choose_devices(devices, slots, slots_by, tables) if due else []
    places = {found: place for one in expansions for found, place in one.places.items()}
    datasets = check_data(paths, {spec.data for spec in todo.values()}, places, data)
    if todo:
        _warn_of_mixed_versions(paths, expansions)
        tell_of_older_folders(paths, expansions)
    if todo and not yes and not requests.alive(paths):
        from prunectl.cli.support.cpu_estimate import ask_before_long_run

        trials = [trial.path for expansion in expansions for trial in expansion.trials]
        ask_before_long_run(todo, trials, chosen, data)
    view = not plain and not detach and on_terminal()
    if view:
        from prunectl.tui import own_keys

        own_keys()  # a mistake in the user's key file is reported before anything is started
    studies = [expansion.study() for expansion in expansions]
    execution = Execution(chosen, data, share, fuse, checkpoint_every, datasets)
    if due:
        _start(paths, studies, execution, detach=detach, view=view)
    else:
        record(paths, studies, execution)
        _report_all_done(paths, studies)


def _start(
    paths: StorePaths,
    plans: Sequence[Study],
    execution: Execution,
    *,
    detach: bool,
    view: bool,
) -> None:
    """Run the plans: by the scheduler that is running, by one in the background, or by one in this process."""
    from prunectl.cli.support import handover
    from prunectl.store import requests

    if not detach and not view:
        _run_to_the_end(paths, plans, execution, record(paths, plans, execution))
        return
    if requests.alive(paths):
        record(paths, plans, execution)
        answers = handover.hand_over(paths, plans)
        in_hands = bool(answers) and all(answer.ok for answer in answers)
    else:
        # The viewer must find the plans at once; the process in the background records the run itself.
        write_plans(paths, plans)
        in_hands = False
    narrate(
        f"`prunectl status --store {paths.root}` shows how far it is, `prunectl watch` all of it"
        if in_hands
        else background(paths)
    )
    if view:
        _watch(paths, plans)


def _run_to_the_end(
    paths: StorePaths, plans: Sequence[Study], execution: Execution, identifier: str
) -> None:
    """Be the scheduler, or wait for the one that has the store and be the next where it does not finish the plans.

    Exits with the plans' code. `identifier` is the run's, should it come to that.
    """
    from prunectl.cli.support import handover
    from prunectl.cli.support.run_report import report
    from prunectl.store import requests

    while True:
        # Looked at only now: recording asks git and takes up to seconds, in which another run may have started.
        if not requests.alive(paths):
            try:
                outcome = schedule(paths, plans, execution, identifier)
            except StoreBusy:
                narrate("another command has just taken the store")
                continue
            report(
                paths,
                plans,
                stopped=outcome.interrupted,
                broken=outcome.broken,
                given_up=outcome.given_up,
                outdated=outcome.outdated,
            )
            return
        waited = handover.wait_for(paths, plans)
        if waited is not handover.Waited.GONE:
            report(paths, plans, stopped=waited is handover.Waited.STOPPED)
            return


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


def _watch(paths: StorePaths, plans: Sequence[Study]) -> None:
    """Open the terminal UI. Where the run has ended when it is left, print the table and exit with the run's code."""
    from prunectl.cli.support.run_report import print_rank
    from prunectl.monitor.plan_status import PlanStatus
    from prunectl.store import requests
    from prunectl.tui import open_viewer

    open_viewer(paths)
    if requests.alive(paths):
        return
    print_rank(paths, plans)
    counts = PlanStatus(paths, plans).counts
    if counts[State.FAILED] or counts[State.BLOCKED]:
        raise typer.Exit(ExitCode.TRIAL_FAILED)


def _report_all_done(paths: StorePaths, plans: Sequence[Study]) -> None:
    from prunectl.cli.support.run_report import print_rank

    for plan in plans:
        narrate(
            f"{plan.name}: all {len(plan.trials)} trials are done "
            f"({len(plan.stages)} stages in {paths.root})"
        )
    bring_up_to_date(paths, {key for plan in plans for key in plan.stages})
    print_rank(paths, plans)

"""The end of a `run`: ranked tables on stdout, on stderr what went wrong, and the exit code of the command's own plans.

The same for a command that was the scheduler and for one that waited for it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence

import typer

from prunectl.cli.support.boards import print_boards
from prunectl.cli.support.fresh_results import bring_up_to_date
from prunectl.cli.support.terminal import narrate
from prunectl.errors import ExitCode, PrunectlError
from prunectl.monitor.plan_status import PlanStatus
from prunectl.spec.study import Study
from prunectl.store import narration
from prunectl.store.paths import StorePaths
from prunectl.store.records.scheduler_log import StageFailed

LOG_LINES = 12
"""Lines of a failed worker's log that are shown."""


def report(
    paths: StorePaths,
    plans: Sequence[Study],
    *,
    stopped: bool,
    broken: str | None = None,
    given_up: Mapping[str, str] | None = None,
    outdated: str | None = None,
) -> None:
    """Print how the plans stand, and exit with the code that says so; arguments as those of `tell_end`."""
    bring_up_to_date(paths, {key for plan in plans for key in plan.stages})
    print_rank(paths, plans)
    if not tell_end(
        paths, plans, stopped=stopped, broken=broken, given_up=given_up, outdated=outdated
    ):
        raise typer.Exit(ExitCode.TRIAL_FAILED)


def tell_end(
    paths: StorePaths,
    plans: Sequence[Study],
    *,
    stopped: bool,
    broken: str | None = None,
    given_up: Mapping[str, str] | None = None,
    outdated: str | None = None,
) -> bool:
    """Write to stderr what went wrong with the plans. Returns whether nothing did; exits where the run was cut short.

    `stopped`: the scheduler was stopped by a user. `broken` is why the store could not be written, where that ended the
    run; `given_up` why devices were; `outdated` how new workers differed, where the package was changed under the run.
    """
    status = PlanStatus(paths, plans)
    counts = ", ".join(f"{count} {state}" for state, count in status.counts.items() if count)
    narrate(f"trials: {counts}")
    if not status.ok and status.failure is not None:
        _print_failure(paths, status.failure)
    for reason in status.stops:
        narrate(reason)
    for device, why in (given_up or {}).items():
        narrate(f"{device} was given up {why}")
    if broken is not None:
        narrate(f"error: {broken}")
        narrate(f"stopped, nothing is lost; then the same command goes on: {this_command()}")
        raise typer.Exit(ExitCode.STORE)
    if stopped and status.unfinished:
        narrate(f"stopped; the same command goes on: {this_command()}")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if outdated is not None:
        narrate(f"error: prunectl was changed under the run: {outdated}")
        narrate(
            f"what ran then was finished, and nothing else started; start again: {this_command()}"
        )
        raise typer.Exit(ExitCode.TRIAL_FAILED)
    if given_up and not status.ok:
        narrate(
            f"nothing is lost; once the device works, the same command goes on: {this_command()}"
        )
    return status.ok


def this_command() -> str:
    """Return this command as it was typed."""
    return shlex.join(["prunectl", *sys.argv[1:]])


def _print_failure(paths: StorePaths, failure: StageFailed) -> None:
    """Print a failure: its traceback, the end of its worker's log, and how full its device was."""
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


def print_rank(paths: StorePaths, plans: Sequence[Study]) -> None:
    """Print the ranked tables of the plans."""
    from prunectl.results.leaderboard import leaderboard

    try:
        for plan in plans:
            print_boards(leaderboard(paths, plan.name))
    except PrunectlError as error:
        narrate(f"no table: {error}")

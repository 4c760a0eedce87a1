"""A `run` where another scheduler has the store: its plans are handed over, and it waits for what becomes of them.

1. The plans and a request for each are on the disk before anything is waited for. Whatever happens to this command, the
   scheduler carries the requests out, or else the next one does at its start; also those that a scheduler had accepted
   when it was killed.
2. Accepted: the command shows the progress of its own plans until nothing more is to come of them, and exits with
   their code. Ctrl-C ends the waiting alone.
3. A scheduler that ends before that was either stopped by a user, who then means these plans as well: the command ends
   as if it had been stopped itself. Or it finished, broke down or was killed: the command takes over, that is, becomes
   the scheduler of its own plans. Of several that try, the store's lock lets one; the others hand their plans to it.
4. A scheduler that is already ending puts the plans off. Who asks for them after a stop does not mean that stop: the
   command waits for the end and takes over.
5. A scheduler that does not answer is named, with what to do about it, and the command ends with `ExitCode.STORE`, as
   wherever another process holds the store. One that falls silent later is named too, and waited for: it may go on.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto

import typer
from msgspec.structs import replace

from prunectl.cli.support.progress import Progress
from prunectl.cli.support.terminal import narrate
from prunectl.errors import ExitCode, StoreBusy, StoreError
from prunectl.monitor.plan_status import PlanStatus
from prunectl.scheduler.signals import Signals
from prunectl.spec.study import Study
from prunectl.store import requests
from prunectl.store.holder import describe_silence, holder_name, is_silent, patience_with
from prunectl.store.paths import StorePaths
from prunectl.store.records.scheduler_log import Answered

LOOK_SECONDS = 0.25
"""Between looks at the store while waiting."""

Sleep = Callable[[float], None]


class Waited(Enum):
    """What the waiting ended with."""

    SETTLED = auto()
    """Nothing more is to come of the plans."""
    STOPPED = auto()
    """A user stopped the scheduler that had accepted them."""
    GONE = auto()
    """The scheduler has ended, or was killed, and they are not done: this command is to take over."""


def hand_over(
    paths: StorePaths, plans: Sequence[Study], sleep: Sleep = time.sleep
) -> list[Answered]:
    """Ask the live scheduler to run the plans, which the store has. Returns its answers; none where it has ended.

    Raises StoreBusy where it does not answer, StoreError where it refuses.
    """
    asked = [requests.add_plan(paths, plan.digest) for plan in plans]
    patience = _patience(plans)
    answers = []
    for plan, request in zip(plans, asked, strict=True):
        try:
            answer = requests.answer_to(paths, request, patience, sleep)
        except StoreBusy as error:
            raise StoreBusy(
                f"{error}. The plan is kept: that scheduler runs it when it goes on, else the next "
                "`prunectl run` on this store does"
            ) from error
        if answer is None:
            return []
        if not answer.ok and not answer.later:
            raise StoreError(f"{holder_name(paths)} refuses {plan.name}: {answer.answer}")
        narrate(f"{holder_name(paths)} answers: {answer.answer}")
        answers.append(answer)
    return answers


def wait_for(paths: StorePaths, plans: Sequence[Study]) -> Waited:
    """Hand the plans over to the live scheduler and wait for what becomes of them, writing progress to stderr.

    Raises as `hand_over`, and typer.Exit where a signal ends the waiting.
    """
    with Signals() as signals:

        def sleep(seconds: float) -> None:
            select.select([signals.reader], [], [], seconds)
            if signals.count:
                names = ", ".join(plan.name for plan in plans)
                narrate(
                    f"not waiting any longer; {names} is kept: {holder_name(paths)} runs it, or else the next "
                    f"one; `prunectl status --store {paths.root}` shows how far it is"
                )
                raise typer.Exit(ExitCode.INTERRUPTED)

        answers = hand_over(paths, plans, sleep)
        if answers:
            return _follow(paths, plans, answers, sleep)
        narrate("the scheduler ended before it answered; this command goes on")
        return Waited.GONE


def _follow(
    paths: StorePaths, plans: Sequence[Study], answers: Sequence[Answered], sleep: Sleep
) -> Waited:
    """Wait until the plans are settled, or the run that answered is over."""
    run = answers[0].attempt  # of a log's records, the number of the run
    accepted = not any(answer.later for answer in answers)
    narrate(
        "waiting for it, on its devices and with its options; Ctrl-C ends the waiting alone"
        if accepted
        else "waiting for its end, to go on then"
    )
    status = PlanStatus(paths, plans)
    history, held = status.store.history, frozenset(status.store.history.held)
    progress = Progress(plans, status.done)
    beat, heard, told = None, time.monotonic(), False
    patience = _patience(plans)
    while True:
        # Asked before the log is read, which then has all of a scheduler that ended.
        holds = requests.alive(paths)
        change = status.update()
        for record in filter(status.concerns, change.records):
            progress.event(record)
        if accepted and status.settled(held):
            return Waited.SETTLED
        if not holds or history.run is None or history.run.attempt != run:
            break
        if status.store.heartbeat.time != beat:
            beat, heard, told = status.store.heartbeat.time, time.monotonic(), False
            _show_beat(status, progress)
        elif not told and is_silent(paths, history, time.monotonic() - heard, patience):
            narrate(describe_silence(paths, history))
            told = True
        sleep(LOOK_SECONDS)
    ending = history.endings.get(run)
    if accepted and ending is not None and ending.reason == "stopped":
        narrate("the scheduler was stopped")
        return Waited.STOPPED
    narrate(
        f"the scheduler {'was killed' if ending is None else f'ended ({ending.reason})'}; this command goes on"
    )
    return Waited.GONE


def _patience(plans: Sequence[Study]) -> float:
    """Return how long the scheduler may be silent that has these plans to queue."""
    return patience_with(sum(len(plan.stages) for plan in plans))


def _show_beat(status: PlanStatus, progress: Progress) -> None:
    """Take in a heartbeat, but for stages that the plans do not need."""
    beat = status.store.heartbeat
    running = {key: stage for key, stage in beat.running.items() if status.needs(key)}
    progress.tick(replace(beat, running=running))

"""Send requests to a scheduler and read them; also where none is alive.

A request is a file in `control/requests`, written atomically; the scheduler carries it out, logs it in
scheduler.jsonl with its answer, and removes it. Where no scheduler is alive, an action on trials is logged
directly, under the scheduler's lock, so that the next run follows it; other requests fail, as none is running.

A request that is not answered is taken back, so that it does not take effect when nobody expects it any more. Only a
plan stays: whichever scheduler comes next carries it out.

What a request has is in `records.requests`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from prunectl.errors import ControlError, StoreBusy, StoreError
from prunectl.spec.study import Study
from prunectl.store import files
from prunectl.store.holder import PATIENCE, describe_silence, is_silent
from prunectl.store.locks import Lock, is_held, process_name
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import NOT_DECODED, unsound, write_record
from prunectl.store.records.journal import Journal
from prunectl.store.records.plan import current_studies, read_study
from prunectl.store.records.requests import (
    AddPlan,
    AnyTrialRequest,
    Cancel,
    Hold,
    Priority,
    Release,
    Request,
    Retry,
    TrialAction,
    TrialRequest,
    done_text,
    sign,
)
from prunectl.store.records.scheduler_log import (
    Answered,
    Cancelled,
    Held,
    History,
    PrioritySet,
    Released,
    Retried,
)
from prunectl.store.records.stage import has_result
from prunectl.store.refusals import cannot_read, is_refusal
from prunectl.store.select import find_trials

_DECODER = msgspec.json.Decoder(Request)


@dataclass(frozen=True)
class Answer:
    """The outcome of a request."""

    ok: bool
    text: str
    trials: tuple[str, ...] = ()
    by: Literal["scheduler", "store", "nobody"] = "scheduler"
    """Who carried it out: a live scheduler, the log for the next one, or nobody in time."""


def alive(paths: StorePaths) -> bool:
    """Return whether a scheduler holds the store now."""
    return is_held(paths.scheduler_lock)


def send(paths: StorePaths, request: Request) -> str:
    """Write a request of this user and moment. Returns its id. Raises StoreError where it cannot be written."""
    name = sign(request).id
    write_record(paths.requests / f"{name}.json", request)
    return name


def pending(paths: StorePaths, refused: Callable[[str], None] | None = None) -> list[Request]:
    """Read the requests that have not been carried out, in their order.

    Files that are no requests are removed where there is `refused`, which gets a sentence for each. One that the system
    does not let be read stays: it may be a request all the same.
    """
    found = _read(paths)
    if refused is None:
        return found.requests
    for path, problem in found.others.items():
        refused(f"{path.name} is no request, and was removed: {problem}")
        # A folder, or a file of somebody else, must not stop a run.
        with contextlib.suppress(OSError):
            files.disk.unlink(path, missing_ok=True)
    return found.requests


def unreadable(paths: StorePaths) -> list[str]:
    """Name the files that are no requests, which the next scheduler removes, and those that may not be read."""
    found = _read(paths)
    return [
        *(f"{path} is no request: {problem}" for path, problem in found.others.items()),
        *found.unread,
    ]


class _Read(NamedTuple):
    """The files of the folder of requests."""

    requests: list[Request]
    others: dict[Path, str]
    """Why files are none."""
    unread: list[str]
    """A sentence for each file that the system does not let be read."""


def _read(paths: StorePaths) -> _Read:
    found = _Read([], {}, [])
    for path in files.disk.glob(paths.requests, "*.json"):
        try:
            data = files.disk.read(path).removesuffix(b"\n")
            if (why := unsound(data, path)) is not None:
                found.others[path] = f"it {why}"
                continue
            request = _DECODER.decode(data)
        except FileNotFoundError:
            continue
        except OSError as error:
            if is_refusal(error):
                found.unread.append(str(cannot_read(path, error)))
            else:
                found.others[path] = error.strerror or str(error)
            continue
        except NOT_DECODED as error:
            found.others[path] = str(error)
            continue
        if request.id == path.stem:
            found.requests.append(request)
        else:
            found.others[path] = f"its id is {request.id!r}"
    return found


def add_plan(paths: StorePaths, plan: str) -> str:
    """Ask for a plan (digest) to be run, if nobody has yet without an answer. Returns the request's id.

    Raises StoreError where the request cannot be written.
    """
    history = History()
    history.catch_up(paths)
    for each in pending(paths):
        if isinstance(each, AddPlan) and each.plan == plan and each.id not in history.answered:
            return each.id
    return send(paths, AddPlan(plan=plan))


def is_open(paths: StorePaths, history: History, plan: str) -> bool:
    """Return whether a plan (digest) of the store has trials that are neither done, failed nor cancelled.

    Raises StoreError where the store has no such plan.
    """
    return any(
        trial.id not in history.cancelled
        and history.failures.keys().isdisjoint(trial.path)
        and not all(has_result(paths, key) for key in trial.path)
        for trial in read_study(paths, plan).trials
    )


def plans_wait(paths: StorePaths) -> bool:
    """Return whether plans were handed over that no scheduler is there to run: to none, or to one that was killed."""
    if alive(paths):
        return False
    if any(isinstance(each, AddPlan) for each in pending(paths)):
        return True
    history = History()
    history.catch_up(paths)
    for plan in history.left_behind():
        with contextlib.suppress(StoreError):
            if is_open(paths, history, plan):
                return True
    return False


def withdraw(paths: StorePaths, request: str) -> bool:
    """Remove a request. Returns whether it was still there."""
    try:
        files.disk.unlink(paths.requests / f"{request}.json")
    except FileNotFoundError:
        return False
    return True


def wait(
    paths: StorePaths,
    request: str,
    timeout: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Wait for the scheduler's answer to a request, and withdraw the request where there is none (`answer_to`)."""
    found, why = None, "the scheduler ended before it answered"
    try:
        found = answer_to(paths, request, timeout, sleep)
    except StoreBusy as error:
        why = str(error)
    if found is None:
        back = withdraw(paths, request)
        history = History()
        history.catch_up(paths)
        found = history.answered.get(request)  # it may have been answered just now
        if found is None:
            what = "was taken back" if back else "is gone without an answer"
            return Answer(False, f"{why}; the request {what}", by="nobody")
    trials = found.request.trials if isinstance(found.request, TrialRequest) else ()
    return Answer(found.ok, found.answer, trials)


def answer_to(
    paths: StorePaths,
    request: str,
    timeout: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> Answered | None:
    """Wait for the answer to a request, which stays where it is. Returns None where the scheduler ends before.

    Raises StoreBusy where it is silent (`holder.is_silent`), with who it is and what to do.
    """
    asked = time.monotonic()
    history = History()
    while True:
        waited, holds = time.monotonic() - asked, alive(paths)
        history.catch_up(paths)
        if request in history.answered or not holds:
            return history.answered.get(request)
        if is_silent(paths, history, waited, timeout):
            raise StoreBusy(describe_silence(paths, history))
        sleep(0.05)


def request(paths: StorePaths, request: Request, *, timeout: float = PATIENCE) -> Answer:
    """Send a request to the live scheduler and wait for its answer. Raises ControlError where none is running."""
    if not alive(paths):
        raise ControlError(f"no scheduler is running on {paths.root}")
    return wait(paths, send(paths, request), timeout)


ACTIONS: dict[TrialAction, type[Cancel | Hold | Release | Retry]] = {
    "cancel": Cancel,
    "hold": Hold,
    "release": Release,
    "retry": Retry,
}


def change_trials(
    paths: StorePaths,
    do: TrialAction,
    selectors: Sequence[str],
    *,
    where: str | None = None,
    value: int | None = None,
    change: int | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """Cancel, hold, release, retry or prioritise trials: by the live scheduler, or in the log for the next one.

    The trials are those of `select.find_trials`. For `priority`, `value` sets and `change` adds.
    Raises ControlError for selectors that name nothing.
    """
    trials = tuple(trial.id for trial in find_trials(paths, selectors, where))
    if do == "priority":
        if (value is None) == (change is None):
            raise ControlError("a priority needs either a value or a change")
        action: AnyTrialRequest = Priority(trials=trials, value=value, change=change)
    else:
        action = ACTIONS[do](trials=trials)
    while True:
        if alive(paths):
            answer = wait(paths, send(paths, action), timeout)
            if answer.by == "scheduler" or alive(paths):
                return answer
        try:
            return _record(paths, action)
        except StoreBusy:  # a scheduler has just started: ask it
            continue


def _record(paths: StorePaths, action: AnyTrialRequest) -> Answer:
    lock = Lock(paths.scheduler_lock)
    lock.acquire(process_name())
    with lock:
        history = History()
        history.catch_up(paths)
        text = f"{done_text(action)}; no scheduler is running, the next run carries it out"
        with contextlib.closing(Journal(paths.scheduler_log)) as journal:
            record = action_record(action, history, current_studies(paths))
            journal.append(record, durable=True)
            journal.append(Answered(request=sign(action), ok=True, answer=text))
    return Answer(True, text, action.trials, by="store")


def action_record(
    action: AnyTrialRequest, history: History, studies: Iterable[Study]
) -> Cancelled | Held | Released | Retried | PrioritySet:
    """Make the log record of an action on trials."""
    trials = action.trials
    match action:
        case Cancel():
            return Cancelled(trials=trials)
        case Hold():
            return Held(trials=trials)
        case Release():
            return Released(trials=trials)
        case Retry():
            chosen = set(trials)
            each = (trial for study in studies for trial in study.trials if trial.id in chosen)
            keys = {key for trial in each for key in trial.path}
            return Retried(trials=trials, keys=tuple(sorted(keys & set(history.failures))))
        case Priority():
            known, add = history.priority, action.change or 0
            values = {trial: known.get(trial, 0) + add for trial in trials}
            if action.value is not None:
                values = dict.fromkeys(trials, action.value)
            return PrioritySet(values=values)

"""Asking a scheduler for something, whether one is alive or not.

A request is a file in `control/requests`, written atomically; the scheduler obeys it, logs it in
scheduler.jsonl with its answer, and removes it. Where no scheduler is alive, what concerns trials is logged
directly, under the scheduler's lock, so that the next run obeys; the rest says that none is running.

Requests (`do`): cancel, hold, release, retry {trials}; priority {trials, value | change}; stop {now};
add-plan {plan}; drain, undrain {device}. All have id, time (Unix seconds) and by.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prunectl.errors import ControlError, QueryError, StoreBusy, StoreError
from prunectl.store.files import read_json, write_json
from prunectl.store.journal import Journal, Record
from prunectl.store.locks import Lock, is_held
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import LABELS, Study, Trial, current_studies
from prunectl.store.records.scheduler_log import History

TrialAction = Literal["cancel", "hold", "release", "retry", "priority"]
PAST = {"cancel": "cancelled", "hold": "held", "release": "released", "retry": "retried"}
"""Names of the records that actions on trials leave in the log."""

ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    ok: bool
    text: str
    trials: tuple[str, ...] = ()
    by: Literal["scheduler", "store", "nobody"] = "scheduler"
    """Who took it: a live scheduler, the log for the next one, or nobody in time."""


def alive(paths: StorePaths) -> bool:
    """Whether a scheduler has the store now."""
    return is_held(paths.scheduler_lock)


# which trials


def find_trials(
    paths: StorePaths, selectors: Sequence[str], where: str | None = None
) -> list[Trial]:
    """The trials that any of the selectors names, or all, and that the SQL condition `where` is true of, in the
    order of their plans.

    A selector is an id, the beginning of one, `all`, or conditions joined by commas:
    `strategy=lr-rewind,seed=0`. Conditions are on the labels of trials, `plan`, `seed`, `cell`, and `state`
    (failed, cancelled or held). `where` is on the columns of `trials`, or on those of `iterations`: then a trial
    is meant that has such an iteration.

    Raises ControlError for a selector that names no trial, or that begins the ids of several, and for a
    condition that the database refuses or that is true of none.
    """
    studies = current_studies(paths)
    trials = {trial.trial: trial for study in studies for trial in study.trials}
    history = History()
    history.catch_up(paths)
    chosen: set[str] = set()
    for selector in selectors if where is None else (selectors or ["all"]):
        chosen |= _select(selector, trials, history)
    if where is not None:
        chosen &= _where(paths, where)
        if not chosen:
            raise ControlError(f"--where {where!r} is true of no trial")
    return [trial for name, trial in trials.items() if name in chosen]


def _select(selector: str, trials: dict[str, Trial], history: History) -> set[str]:
    if selector == "all":
        found = set(trials)
    elif "=" in selector:
        conditions = [part.partition("=")[::2] for part in selector.split(",")]
        tests = [_condition(name.strip(), value.strip(), history) for name, value in conditions]
        found = {name for name, trial in trials.items() if all(test(trial) for test in tests)}
    else:
        found = {name for name in trials if name.startswith(selector.lower())}
        if len(found) > 1 and selector.lower() not in found:
            some = ", ".join(sorted(found)[:4])
            raise ControlError(f"{selector!r} begins {len(found)} trials: {some}, …")
    if not found or not selector:
        raise ControlError(f"no trial matches {selector!r}")
    return found


def _where(paths: StorePaths, condition: str) -> set[str]:
    from prunectl.store.db import query  # DuckDB is loaded only where it is asked

    with contextlib.suppress(StoreError):  # what it lacks is added, if it can be written
        query.refresh(paths)
    refused: list[QueryError] = []
    for table in ("trials", "iterations"):
        try:
            sql = f"SELECT DISTINCT trial FROM {table} WHERE (\n{condition}\n)"
            return {row[0] for row in query.run(paths, sql).rows}
        except QueryError as error:
            refused.append(error)
    if "not found" in str(
        refused[0]
    ):  # no column of trials, so what is wrong with iterations tells more
        refused.reverse()
    raise ControlError(f"--where {condition!r}: {refused[0]}") from refused[0]


def _condition(name: str, value: str, history: History) -> Callable[[Trial], bool]:
    if name == "state":
        states: dict[str, Callable[[Trial], bool]] = {
            "failed": lambda trial: any(key in history.failures for key in trial.path),
            "cancelled": lambda trial: trial.trial in history.cancelled,
            "held": lambda trial: trial.trial in history.held,
        }
        if value not in states:
            raise ControlError(f"state={value}: trials are chosen by {', '.join(states)}")
        return states[value]
    allowed = ("plan", "seed", "cell", *LABELS)
    if name not in allowed:
        raise ControlError(f"no label {name!r}; there are {', '.join(allowed)} and state")
    return lambda trial: trial.label(name) == value


# requests


def send(paths: StorePaths, do: str, **fields: Any) -> str:
    """Leave a request; its id. Raises StoreError where it cannot be written."""
    request = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    write_json(
        paths.requests / f"{request}.json",
        {"id": request, "do": do, "time": time.time(), "by": _by(), **fields},
    )
    return request


def pending(paths: StorePaths) -> list[dict[str, Any]]:
    """Requests that have not been obeyed, in their order. Files that are no requests are removed."""
    found = []
    for path in sorted(paths.requests.glob("*.json")):
        try:
            request = read_json(path)
            if request["id"] == path.stem and isinstance(request["do"], str):
                found.append(request)
                continue
        except FileNotFoundError:
            continue
        except Exception:  # a stray file must not stop a run
            pass
        path.unlink(missing_ok=True)
    return found


def withdraw(paths: StorePaths, request: str) -> bool:
    """Take a request back; whether it was still there."""
    try:
        (paths.requests / f"{request}.json").unlink()
    except FileNotFoundError:
        return False
    return True


def wait(
    paths: StorePaths,
    request: str,
    timeout: float = ANSWER_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """The scheduler's answer to a request. Where none comes, or the scheduler ends, the request is
    withdrawn."""
    deadline = time.monotonic() + timeout
    history = History()
    while True:
        last = time.monotonic() > deadline or not alive(paths)
        history.catch_up(paths)
        record = history.answered.get(request)
        if record is not None:
            return _answer(record)
        if last and withdraw(paths, request):
            reason = "did not answer in time" if alive(paths) else "ended before it answered"
            return Answer(False, f"the scheduler {reason}", by="nobody")
        if last and time.monotonic() > deadline + 1:
            return Answer(False, "the request is gone without an answer", by="nobody")
        sleep(0.05)


def _answer(record: Record) -> Answer:
    trials = tuple(record["request"].get("trials", ()))
    return Answer(bool(record["ok"]), str(record["answer"]), trials)


def request(
    paths: StorePaths, do: str, *, timeout: float = ANSWER_SECONDS, **fields: Any
) -> Answer:
    """Ask the live scheduler and wait for its answer.

    Raises ControlError where none is running.
    """
    if not alive(paths):
        raise ControlError(f"no scheduler is running on {paths.root}")
    return wait(paths, send(paths, do, **fields), timeout)


# what can be asked for


def change_trials(
    paths: StorePaths,
    do: TrialAction,
    selectors: Sequence[str],
    *,
    where: str | None = None,
    value: int | None = None,
    change: int | None = None,
    timeout: float = ANSWER_SECONDS,
) -> Answer:
    """Cancel, hold, release, retry or prioritise trials: by the live scheduler, or in the log for the next
    one.

    The trials are those of `find_trials`. For `priority`, `value` sets and `change` adds.
    Raises ControlError for selectors that name nothing.
    """
    trials = [trial.trial for trial in find_trials(paths, selectors, where)]
    fields: dict[str, Any] = {"trials": trials}
    if do == "priority":
        if (value is None) == (change is None):
            raise ControlError("a priority needs either a value or a change")
        fields |= {"value": value} if value is not None else {"change": change}
    while True:
        if alive(paths):
            answer = wait(paths, send(paths, do, **fields), timeout)
            if answer.by == "scheduler" or alive(paths):
                return answer
        try:
            return _record(paths, do, trials, fields)
        except StoreBusy:  # a scheduler has just started: ask it
            continue


def _record(
    paths: StorePaths, do: TrialAction, trials: list[str], fields: dict[str, Any]
) -> Answer:
    lock = Lock(paths.scheduler_lock)
    lock.acquire(_by())
    try:
        history = History()
        history.catch_up(paths)
        journal = Journal(paths.scheduler_log)
        try:
            journal.append(**effect(do, fields, history, current_studies(paths)), durable=True)
            text = f"{done_text(do, len(trials))}; no scheduler is running, the next run obeys"
            asked = {"id": f"{time.time_ns():020d}", "do": do, "by": _by(), **fields}
            journal.append("request", request=asked, ok=True, answer=text)
        finally:
            journal.close()
    finally:
        lock.release()
    return Answer(True, text, tuple(trials), by="store")


def effect(
    do: str, fields: dict[str, Any], history: History, studies: Iterable[Study]
) -> dict[str, Any]:
    """The record that an action on trials leaves: its `kind` and its fields, as `Journal.append` takes
    them."""
    trials = list(fields["trials"])
    if do == "priority":
        value, change = fields.get("value"), fields.get("change")
        values = {
            trial: int(value)
            if value is not None
            else history.priority.get(trial, 0) + int(change or 0)
            for trial in trials
        }
        return {"kind": "priority", "values": values}
    record: dict[str, Any] = {"kind": PAST[do], "trials": trials}
    if do == "retry":
        chosen = set(trials)
        paths = (trial.path for study in studies for trial in study.trials if trial.trial in chosen)
        keys = {key for path in paths for key in path}
        record["keys"] = sorted(keys & set(history.failures))
    return record


def done_text(do: str, count: int) -> str:
    """The action in words: "cancelled 3 trials"."""
    word = PAST.get(do, "set the priority of")
    return f"{word} {count} trial{'' if count == 1 else 's'}"


def stop(paths: StorePaths, *, now: bool = False, timeout: float = ANSWER_SECONDS) -> Answer:
    """Ask the scheduler to checkpoint and end, or to end at once.

    Raises ControlError where none is running.
    """
    return request(paths, "stop", now=now, timeout=timeout)


def add_plan(paths: StorePaths, digest: str, *, timeout: float = ANSWER_SECONDS) -> Answer:
    """Ask the scheduler to run a plan of the store as well.

    An answer `by` nobody means that the scheduler ended first and that a new one is needed. Raises
    ControlError where none is running.
    """
    return request(paths, "add-plan", plan=digest, timeout=timeout)


def drain(paths: StorePaths, device: str, *, timeout: float = ANSWER_SECONDS) -> Answer:
    """Ask the scheduler to move its stages off a device and to leave it alone."""
    return request(paths, "drain", device=device, timeout=timeout)


def undrain(paths: StorePaths, device: str, *, timeout: float = ANSWER_SECONDS) -> Answer:
    """Ask the scheduler to use a device again."""
    return request(paths, "undrain", device=device, timeout=timeout)


def _by() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        user = f"uid {os.getuid()}"
    return f"{user}, pid {os.getpid()}"

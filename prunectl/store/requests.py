"""Send requests to a scheduler and read them; also where none is alive.

A request is a file in `control/requests`, written atomically; the scheduler carries it out, logs it in
scheduler.jsonl with its answer, and removes it. Where no scheduler is alive, an action on trials is logged
directly, under the scheduler's lock, so that the next run follows it; other requests fail, as none is running.

What a request has is in `records.requests`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prunectl.errors import ControlError, StoreBusy
from prunectl.store.files import read_json, write_json
from prunectl.store.journal import Journal, Record
from prunectl.store.locks import Lock, is_held, process_name
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import Study, current_studies
from prunectl.store.records.requests import PAST, Request, TrialAction, make_request
from prunectl.store.records.scheduler_log import History
from prunectl.store.select import find_trials
from prunectl.text import plural

ANSWER_SECONDS = 15.0


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


def send(paths: StorePaths, do: str, **fields: Any) -> str:
    """Write a request. Returns its id. Raises StoreError where it cannot be written."""
    request = make_request(do, **fields)
    name: str = request["id"]
    write_json(paths.requests / f"{name}.json", request)
    return name


def pending(paths: StorePaths) -> list[Request]:
    """Read the requests that have not been carried out, in their order. Files that are no requests are removed."""
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
    """Remove a request. Returns whether it was still there."""
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
    """Wait for the scheduler's answer to a request; after `timeout` seconds, or its end, withdraw the request."""
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
    """Send a request to the live scheduler and wait for its answer. Raises ControlError where none is running."""
    if not alive(paths):
        raise ControlError(f"no scheduler is running on {paths.root}")
    return wait(paths, send(paths, do, **fields), timeout)


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
    """Cancel, hold, release, retry or prioritise trials: by the live scheduler, or in the log for the next one.

    The trials are those of `select.find_trials`. For `priority`, `value` sets and `change` adds.
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
    lock.acquire(process_name())
    with lock:
        history = History()
        history.catch_up(paths)
        record = action_record(do, fields, history, current_studies(paths))
        text = f"{done_text(do, len(trials))}; no scheduler is running, the next run carries it out"
        with contextlib.closing(Journal(paths.scheduler_log)) as journal:
            journal.append(**record, durable=True)
            journal.append("request", request=make_request(do, **fields), ok=True, answer=text)
    return Answer(True, text, tuple(trials), by="store")


def action_record(
    do: str, fields: Mapping[str, Any], history: History, studies: Iterable[Study]
) -> dict[str, Any]:
    """Make the log record of an action on trials: its `kind` and its fields, as `Journal.append` takes them."""
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
    """Return the action in words: "cancelled 3 trials"."""
    word = PAST.get(do, "set the priority of")
    return f"{word} {plural(count, 'trial')}"

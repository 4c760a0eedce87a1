"""Records of `scheduler.jsonl`, and what they add up to: trials cancelled or held, priorities, stages that failed.

The log is the only memory between runs of the scheduler. `History` is a fold of it: feed it records in their order,
in as many pieces as they come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.spec.ranges import Amount, Count, Small
from prunectl.spec.task import CLASSIFICATION, Metric
from prunectl.store.paths import StorePaths
from prunectl.store.records import journal
from prunectl.store.records.base import (
    DigestBefore,
    Finite,
    Key,
    LinesBefore,
    LogRecord,
    Measured,
    Time,
)
from prunectl.store.records.journal import START, Log, Position, Unknown
from prunectl.store.records.requests import AddPlan, Rank, Request, TrialRequest, Trials
from prunectl.store.records.texts import LAST, measured

Device = Annotated[str, Meta(description="id of the device")]
Digest = Annotated[str, Meta(description="digest of the plan's record")]
Reason = Annotated[str, Meta(description="why, in words")]
Workload = Annotated[
    tuple[str, str, Count, str], Meta(description="[network, data set, batch, precision]")
]


class RunStarted(LogRecord, tag="run_started"):
    """A scheduler has taken the store."""

    run: Annotated[str, Meta(description="the run's id")] = ""
    plans: Annotated[tuple[str, ...], Meta(description="digests of what it runs")] = ()
    devices: Annotated[tuple[str, ...], Meta(description="ids of the devices")] = ()
    pid: Annotated[Small | None, Meta(description="the scheduler's process id")] = None
    host: Annotated[str, Meta(description="name of the machine")] = ""
    lines_before: LinesBefore = None
    digest_before: DigestBefore = ""


class Queued(LogRecord, tag="queued"):
    """A plan was queued."""

    plan: Digest
    name: Annotated[str, Meta(description="name of the plan")] = ""
    trials: Annotated[Count, Meta(description="trials of the plan")] = 0
    stages: Annotated[Count, Meta(description="stages of the plan")] = 0
    done: Annotated[Count, Meta(description="stages that were done before")] = 0


class Dispatched(LogRecord, tag="dispatched"):
    """A stage is given to a worker, which is told after this is on the disk; `attempt` counts the stage's, over all
    runs."""

    key: Key
    device: Device = ""
    worker: Annotated[Small, Meta(description="number of the worker")] = 0


class StageDone(Measured, tag="stage_done"):
    """A stage is done."""

    key: Key
    seconds: Annotated[Amount | None, Meta(description="training time, as in the result, s")] = None
    score: Annotated[Finite, Meta(description=measured("score", LAST))] = None
    metric: Annotated[Metric, Meta(description="what the score is")] = CLASSIFICATION.score
    flag: Annotated[
        str | None, Meta(description="diverged or collapsed, as in the result; null for neither")
    ] = None


class StageNoted(LogRecord, tag="stage_noted"):
    """A stage's log has something for people to read; of stages that say the same, the first of the run."""

    key: Key
    text: Annotated[str, Meta(description="what to read, a sentence")] = ""


class StageInterrupted(LogRecord, tag="stage_interrupted"):
    """A stage left its worker before its end, and goes on later."""

    key: Key
    step: Annotated[
        Count | None, Meta(description="optimizer steps done, those of its checkpoint")
    ] = None
    fenced_until: Annotated[
        Time,
        Meta(
            description="where nobody saw how its worker ended: when that must have ended itself, Unix seconds; no "
            "scheduler gives the stage out before"
        ),
    ] = None


class StageFailed(LogRecord, tag="stage_failed"):
    """An attempt ended in failure; `attempt` counts the stage's, over all runs."""

    key: Key
    reason: Annotated[str, Meta(description="one of the reasons of failure")] = "exception"
    message: Annotated[str, Meta(description="the error in one line")] = ""
    traceback: Annotated[str, Meta(description="traceback of the exception")] = ""
    final: Annotated[
        bool, Meta(description="whether it is given up; false where it is tried again")
    ] = False
    log: Annotated[str, Meta(description="the last lines of the worker's log")] = ""
    memory: Annotated[str, Meta(description="what of the device's memory was in use, in words")] = (
        ""
    )


class Reopened(LogRecord, tag="reopened"):
    """A stage was done, and its end or mask is gone: it is computed again."""

    key: Key
    by: Annotated[str, Meta(description="key of the stage that needs it")] = ""


class Removed(LogRecord, tag="removed"):
    """Garbage collection removes files of the store that nothing needs."""

    why: Annotated[str, Meta(description="what they are, in words")] = ""
    files: Annotated[tuple[str, ...], Meta(description="their paths inside the store")] = ()
    bytes: Annotated[Count, Meta(description="their sizes together, bytes")] = 0


class Blocked(LogRecord, tag="blocked"):
    """Stages cannot run because one that they need has failed."""

    key: Key
    keys: Annotated[tuple[str, ...], Meta(description="keys of the dependants")] = ()
    reason: Annotated[str, Meta(description="one of the reasons of failure")] = ""


class Cancelled(LogRecord, tag="cancelled"):
    """Trials were cancelled."""

    trials: Trials = ()


class Held(LogRecord, tag="held"):
    """Trials rest."""

    trials: Trials = ()


class Released(LogRecord, tag="released"):
    """Trials no longer rest."""

    trials: Trials = ()


class Retried(LogRecord, tag="retried"):
    """Cancelled and failed trials start afresh."""

    trials: Trials = ()
    keys: Annotated[
        tuple[str, ...], Meta(description="keys of stages whose failures are forgotten")
    ] = ()


class PrioritySet(LogRecord, tag="priority"):
    """Priorities of trials were set."""

    values: Annotated[dict[str, Rank], Meta(description="priority by trial")] = {}


class Drained(LogRecord, tag="drained"):
    """A device takes no more stages."""

    device: Device
    reason: Reason = ""


class Undrained(LogRecord, tag="undrained"):
    """A device is used again."""

    device: Device
    reason: Reason = ""


class Leased(LogRecord, tag="leased"):
    """A device belongs to another scheduler."""

    device: Device
    reason: Reason = ""


class SlotsSet(LogRecord, tag="lanes"):
    """How many stages of a workload run side by side on a device from now on."""

    device: Device
    device_name: Annotated[str, Meta(description="the device's model")]
    of: Workload
    lanes: Annotated[Small, Meta(description="how many stages")]
    by: Annotated[
        str, Meta(description="what its slots are: streams of one worker, or processes")
    ] = "streams"
    settled: Annotated[bool, Meta(description="whether the measuring is over")] = False
    memory: Annotated[
        Count | None, Meta(description="memory of each stage, bytes; null where it is not known")
    ] = None
    reason: Reason = ""


class WorkerStarted(LogRecord, tag="worker_started"):
    """A worker takes stages."""

    worker: Annotated[Small, Meta(description="number of the worker")]
    device: Device = ""
    pid: Annotated[Small | None, Meta(description="the worker's process id")] = None
    reason: Reason = ""


class WorkerEnded(LogRecord, tag="worker_ended"):
    """A worker is gone."""

    worker: Annotated[Small, Meta(description="number of the worker")]
    device: Device = ""
    pid: Annotated[Small | None, Meta(description="the worker's process id")] = None
    reason: Reason = ""


class StudyStopped(LogRecord, tag="study_stopped"):
    """A plan was stopped early."""

    plan: Digest
    name: Annotated[str, Meta(description="name of the plan")] = ""
    reason: Reason = ""


class Answered(LogRecord, tag="request"):
    """A request was carried out, or refused."""

    request: Annotated[Request, Meta(description="the request as it was read")]
    ok: Annotated[bool, Meta(description="whether it was carried out")] = False
    later: Annotated[
        bool,
        Meta(description="whether it was put off: it stays, for the scheduler that comes next"),
    ] = False
    answer: Annotated[str, Meta(description="what came of it, in words")] = ""


class RunEnded(LogRecord, tag="run_ended"):
    """The scheduler has left the store."""

    run: Annotated[str, Meta(description="the run's id")] = ""
    reason: Annotated[
        str,
        Meta(
            description="why: finished, stopped, disk, devices (all were given up), outdated (the package was changed) "
            "or error"
        ),
    ] = ""
    trials: Annotated[dict[str, Count], Meta(description="number of trials, by state")] = {}
    lines_before: LinesBefore = None
    digest_before: DigestBefore = ""


SchedulerRecord = (
    RunStarted | Queued | Dispatched | StageNoted | StageDone | StageInterrupted | StageFailed | Reopened
    | Blocked | Cancelled | Held | Released | Retried | PrioritySet | Drained | Undrained | Leased
    | SlotsSet | WorkerStarted | WorkerEnded | StudyStopped | Answered | Removed | RunEnded
)  # fmt: skip

_DECODER = msgspec.json.Decoder(SchedulerRecord)


def read_scheduler_log(path: Path, start: Position = START) -> Log[SchedulerRecord]:
    """Read the log's records from a position on."""
    return journal.read(path, _DECODER, start)


@dataclass
class History:
    """The result of the records fed so far."""

    cancelled: set[str] = field(default_factory=set)
    """Trials."""
    held: set[str] = field(default_factory=set)
    """Trials."""
    priority: dict[str, int] = field(default_factory=dict)
    """Trials whose priority is not 0; higher runs first."""
    failures: dict[str, StageFailed] = field(default_factory=dict)
    """The last record with `final` of each stage that has not been done or retried since."""
    setbacks: dict[str, StageFailed] = field(default_factory=dict)
    """The last record of stages that wait to be tried again."""
    dispatched: set[str] = field(default_factory=set)
    """Stages given to a worker with no record of their end: running, or cut off with their scheduler."""
    attempts: dict[str, int] = field(default_factory=dict)
    """The number of the last attempt at each stage."""
    fences: dict[str, float] = field(default_factory=dict)
    """Until when an attempt at a stage may still run whose worker's end nobody saw, Unix seconds."""
    answered: dict[str, Answered] = field(default_factory=dict)
    """By the request's id."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Plans (digests) whose last run was stopped early, and why."""
    run: RunStarted | None = None
    """The last one."""
    endings: dict[int, RunEnded] = field(default_factory=dict)
    """By the run's number, `attempt` of all its own records; a run that was killed has none."""
    _retried: dict[str, set[str]] = field(default_factory=dict)
    """Trials that were retried since, by such a plan."""
    settled: dict[tuple[str, ...], SlotsSet] = field(default_factory=dict)
    """The last one by model of device, what its slots are, and workload."""
    position: Position = START
    """How much of the log has been folded in by `catch_up`."""

    def feed(self, records: Iterable[LogRecord]) -> None:
        """Fold in the next records."""
        for record in records:
            self._feed(record)

    def catch_up(self, paths: StorePaths) -> list[SchedulerRecord | Unknown]:
        """Read and fold in what was appended to the log. Returns the new records."""
        log = read_scheduler_log(paths.scheduler_log, self.position)
        self.position = log.end
        self.feed(log.records)
        return log.records

    def is_stopped(self, plan: str, trial: str) -> bool:
        """Return whether the trial rests because its plan (digest) was stopped early."""
        return plan in self.stopped and trial not in self._retried[plan]

    def left_behind(self) -> list[str]:
        """Return the plans (digests) that the last run was handed, where it was killed or broke down."""
        ending = None if self.run is None else self.endings.get(self.run.attempt)
        if self.run is None or (ending is not None and ending.reason in ("finished", "stopped")):
            return []
        return [
            record.request.plan
            for record in self.answered.values()
            if record.ok
            and record.attempt == self.run.attempt
            and isinstance(record.request, AddPlan)
        ]

    def _feed(self, record: LogRecord) -> None:
        match record:
            case Cancelled():
                self.cancelled.update(record.trials)
            case Held():
                self.held.update(record.trials)
            case Released():
                self.held.difference_update(record.trials)
            case Retried():
                self.cancelled.difference_update(record.trials)
                for retried in self._retried.values():
                    retried.update(record.trials)
                for key in record.keys:
                    self.failures.pop(key, None)
            case PrioritySet():
                self.priority.update(record.values)
                self.priority = {trial: value for trial, value in self.priority.items() if value}
            case Dispatched():
                self.dispatched.add(record.key)
                self.fences.pop(record.key, None)
                self.attempts[record.key] = max(record.attempt, self.attempts.get(record.key, 0))
                self.setbacks.pop(record.key, None)
            case StageFailed():
                self.dispatched.discard(record.key)
                kept = self.failures if record.final else self.setbacks
                kept[record.key] = record
            case StageDone() | StageInterrupted():
                if isinstance(record, StageInterrupted) and record.fenced_until is not None:
                    self.fences[record.key] = record.fenced_until
                self.dispatched.discard(record.key)
                self.failures.pop(record.key, None)
                self.setbacks.pop(record.key, None)
            case SlotsSet(settled=True):
                self.settled[record.device_name, record.by, *map(str, record.of)] = record
            case Queued():
                self.stopped.pop(record.plan, None)
            case StudyStopped():
                self.stopped[record.plan] = record.reason
                self._retried[record.plan] = set()
            case Answered():
                self.answered[record.request.id] = record
            case RunEnded():
                self.endings[record.attempt] = record
            case RunStarted():
                self.run = record
                self.dispatched.clear()
                self.setbacks.clear()


def kind(record: LogRecord) -> str:
    """Return a record's type as it stands in the log, such as ``stage_done``."""
    return record.kind if isinstance(record, Unknown) else str(record.__struct_config__.tag)


def concerned(record: LogRecord) -> set[str]:
    """Return what a record is about: keys of stages, ids of trials, digests of plans, and of a run's end its id."""
    match record:
        case RunStarted():
            return set(record.plans)
        case RunEnded():
            return {record.run}
        case Queued() | StudyStopped():
            return {record.plan}
        case Blocked():
            return {record.key, *record.keys}
        case Retried():
            return {*record.trials, *record.keys}
        case Cancelled() | Held() | Released():
            return set(record.trials)
        case Answered(request=TrialRequest(trials=trials)):
            return set(trials)
        case PrioritySet():
            return set(record.values)
        case Answered(request=AddPlan(plan=plan)):
            return {plan}
    return {getattr(record, "key", "")} - {""}

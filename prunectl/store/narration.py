"""The two logs in words, for everybody who reads them: on the terminal, in the terminal UI, while a run goes on.

`describe` is for records of the scheduler's log (`records.scheduler_log`), `describe_event` for those of a stage's
(`records.events`).
"""

from __future__ import annotations

from prunectl.spec.task import Metric
from prunectl.store.records import events
from prunectl.store.records import scheduler_log as log
from prunectl.store.records.base import LogRecord, Measured
from prunectl.store.records.result import Result
from prunectl.text import duration, number, plural, short, sparsity

QUIET = (log.WorkerStarted, log.Answered)
"""Types of records that are not worth a line: others say the same."""


def describe(record: LogRecord) -> str:
    """Describe a record of the scheduler's log in words, without the trials it is about."""
    match record:
        case log.RunStarted():
            return f"run {record.run} started on {', '.join(record.devices)}"
        case log.RunEnded():
            return f"run {record.run} {record.reason}"
        case log.Queued():
            return f"{record.name} queued: {record.done} of {plural(record.stages, 'stage')} done"
        case log.Dispatched():
            attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
            return f"started on {record.device}{attempt}"
        case log.StageDone():
            text = "done" if record.score is None else f"done, {record.metric.text(record.score)}"
            return f"{text} ({record.flag})" if record.flag else text
        case log.StageNoted():
            return record.text or "noted"
        case log.StageInterrupted():
            return "interrupted"
        case log.StageFailed():
            what = failure(record.reason, record.message)
            return f"failed, {what}" if record.final else f"to be tried again, {what}"
        case log.Blocked():
            return f"{plural(len(record.keys), 'stage')} blocked ({record.reason})"
        case log.Retried(trials=()):
            return f"retried {plural(len(record.keys), 'stage')}"
        case log.Cancelled() | log.Held() | log.Released() | log.Retried():
            return f"{log.kind(record)} {plural(len(record.trials), 'trial')}"
        case log.PrioritySet():
            return f"priority of {plural(len(record.values), 'trial')} set"
        case log.Drained() | log.Undrained() | log.Leased():
            return f"{record.device} {log.kind(record)} {record.reason}".rstrip()
        case log.SlotsSet():
            many = "1 at a time" if record.lanes == 1 else f"{record.lanes} side by side"
            return f"{record.device}: {many} of {' on '.join(record.of[:2])} ({record.reason})"
        case log.WorkerEnded():
            return f"worker {record.worker} on {record.device}: {record.reason}"
        case log.Removed():
            return f"removed {plural(len(record.files), 'file')} ({record.why})"
        case log.StudyStopped():
            return f"{record.name} {record.reason}"
        case _:
            return log.kind(record)


def failure(reason: str, message: str) -> str:
    """Return why a stage failed: its reason, and the message where there is one."""
    return f"{reason}: {message}" if message else reason


def describe_event(record: LogRecord, iteration: int, goal: str, metric: Metric) -> str:
    """Describe a record of a stage's log in words; "" for what says nothing to a reader.

    The stage is iteration `iteration` of a trial, which prunes to the sparsity `goal`; `metric` is its task's score.
    """

    def score(suffix: str = "") -> str:
        found = record.metrics if isinstance(record, Measured) else {}
        return f"{metric.name} {number(found.get(metric.name + suffix), metric.digits)}"

    match record:
        case events.Start():
            return _started(record, iteration, goal)
        case events.Pruned():
            dead = record.dead_layers
            lost = f", dead layers: {', '.join(dead)}" if dead else ""
            kept = f"{short(record.kept)} of {short(record.prunable)} weights kept"
            return f"pruned: {kept}, {score('_pruned')}{lost}"
        case events.Begin():
            what = "retraining" if iteration else "training"
            return f"{what} starts from {score('_start')}"
        case events.Epoch():
            losses = f"loss {number(record.loss, 4)}  train {number(record.train_loss, 4)}"
            skipped = f"  {record.skipped} steps skipped" if record.skipped else ""
            return f"epoch {record.epoch}  {score()}  {losses}  lr {short(record.lr)}{skipped}"
        case events.Checkpoint():
            return f"checkpoint at step {record.step}"
        case events.Note():
            return record.text
        case events.Interrupted():
            return f"interrupted at step {record.step}"
        case events.Failed():
            return f"failed, {failure(record.reason, record.message)}"
        case Result():
            flag = f", {record.flag}" if record.flag else ""
            devices = f", on {' and '.join(record.device_names)}" if record.device_names else ""
            return f"done: {score()}{flag} ({duration(record.seconds)}){devices}"
    return ""


def _started(record: events.Start, iteration: int, goal: str) -> str:
    what = f"iteration {iteration}, to sparsity {sparsity(goal)}" if iteration else "dense network"
    how = f"goes on at step {record.step}" if record.resumed else "started"
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    return f"{what} {how} on {record.device} (pid {record.pid}{attempt})"

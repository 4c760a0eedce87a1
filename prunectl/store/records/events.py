"""Records of a stage's log, `stages/<key>/events.jsonl`: what its worker did, as it happened.

Losses are in nats or whatever the task minimises; scores and metrics in the unit that the task declares; steps and
epochs are counted from the start of the stage. They come in the order of their declaration here; `notes`, checkpoints
and epochs any number of times.

The reasons of failures, here, in messages and in the scheduler's log, are `REASONS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from prunectl.spec.ranges import Amount, Count, Small
from prunectl.store.records import journal
from prunectl.store.records.base import (
    DigestBefore,
    Finite,
    Key,
    LinesBefore,
    LogRecord,
    Measured,
    Steps,
)
from prunectl.store.records.journal import START, Log, Position
from prunectl.store.records.result import Counts, Result, Versions
from prunectl.store.records.texts import measured

REASONS = {
    "oom": "memory of the device or the host ran out",
    "nonfinite": "the parent's weights are not finite: they cannot be scored",
    "missing": "a stage that this one builds on lacks the file it needs",
    "data": "files of the data set are missing, unreadable or not what they were: certain to fail again",
    "disk": "the system refuses to read or write, as on a full disk: no fault of the stage, the run ends (never in the "
    "scheduler's log)",
    "device": "the process lost its device for good, as after any CUDA error",
    "exception": "any other exception",
    "lost": "the worker is gone, or said done and there is no result",
    "hung": "the worker gave no sign of progress for too long, and was killed",
}


class Start(LogRecord, tag="start"):
    """An attempt begins."""

    key: Key = ""
    step: Annotated[
        Steps, Meta(description="optimizer steps done: 0, or those of the checkpoint")
    ] = 0
    resumed: Annotated[
        bool, Meta(description="whether it goes on from an earlier attempt's checkpoint")
    ] = False
    device: Annotated[str, Meta(description="id of the device, such as cuda:0")] = ""
    device_name: Annotated[str, Meta(description="the device's model")] = ""
    host: Annotated[str, Meta(description="name of the machine")] = ""
    pid: Annotated[Small, Meta(description="the worker's process id")] = 0
    versions: Versions = {}
    lines_before: LinesBefore = None
    digest_before: DigestBefore = ""


class LayerCount(msgspec.Struct, frozen=True):
    """Weights of one layer."""

    name: Annotated[str, Meta(description="the layer's name")]
    total: Annotated[Count, Meta(description="weights of the layer in the dense network")]
    kept: Annotated[Count, Meta(description="weights of the layer that the mask keeps")]


class Pruned(Counts, tag="pruned"):
    """A new mask was scored; the scores are those of the parent's end weights under it."""

    loss_pruned: Annotated[Finite, Meta(description=measured("loss_pruned"))] = None
    score_pruned: Annotated[Finite, Meta(description=measured("score_pruned"))] = None
    layers: Annotated[
        tuple[LayerCount, ...], Meta(description="its prunable layers, in the network's order")
    ] = ()


class Begin(Measured, tag="begin"):
    """The first step is about to be done, after any rewinding."""

    loss_start: Annotated[Finite, Meta(description=measured("loss_start"))] = None
    score_start: Annotated[Finite, Meta(description=measured("score_start"))] = None


class Epoch(Measured, tag="epoch"):
    """An evaluation. Of epochs logged again after a crash the latest attempt's count."""

    epoch: Annotated[Small, Meta(description="number of the evaluation in its stage, from 1")] = 0
    step: Annotated[Steps, Meta(description="optimizer steps done in this stage")] = 0
    lr: Annotated[
        Finite, Meta(description="learning rate of the last step before the evaluation")
    ] = None
    rates: Annotated[
        tuple[tuple[Steps, Finite], ...],
        Meta(
            description="[first step from 0, learning rate] of each rate used since the last record"
        ),
    ] = ()
    train_loss: Annotated[Finite, Meta(description=measured("train_loss"))] = None
    loss: Annotated[Finite, Meta(description=measured("loss"))] = None
    validation_loss: Annotated[Finite, Meta(description=measured("validation_loss"))] = None
    train_score: Annotated[Finite, Meta(description=measured("train_score"))] = None
    score: Annotated[Finite, Meta(description=measured("score"))] = None
    validation_score: Annotated[Finite, Meta(description=measured("validation_score"))] = None
    seconds: Annotated[
        Amount | None,
        Meta(
            description="training time since the evaluation before by the wall clock, evaluations left out, s"
        ),
    ] = None
    skipped: Annotated[
        Count | None,
        Meta(
            description="steps since the evaluation before that changed nothing, because gradients had overflowed; "
            "of training in fp16 alone"
        ),
    ] = None


class Checkpoint(LogRecord, tag="checkpoint"):
    """The training state is being written."""

    step: Annotated[Steps, Meta(description="optimizer steps done")] = 0
    file: Annotated[str, Meta(description="its name in the stage's folder")] = ""
    lines_before: LinesBefore = None
    digest_before: DigestBefore = ""


class Note(LogRecord, tag="note"):
    """Something for people to read."""

    text: Annotated[str, Meta(description="what to read, a sentence")] = ""


class Interrupted(LogRecord, tag="interrupted"):
    """The attempt was asked to stop, and has left a checkpoint."""

    step: Annotated[Steps, Meta(description="optimizer steps done, those of the checkpoint")] = 0
    lines_before: LinesBefore = None
    digest_before: DigestBefore = ""


class Failed(LogRecord, tag="failed"):
    """The attempt ended in an error."""

    reason: Annotated[str, Meta(description="one of the reasons of failure")] = "exception"
    message: Annotated[str, Meta(description="the error in one line")] = ""
    traceback: Annotated[
        str, Meta(description="of the exception; of a worker that is gone its last lines")
    ] = ""
    step: Annotated[
        Count | None, Meta(description="optimizer steps done; null where nobody knows")
    ] = None
    missing: Annotated[str | None, Meta(description="key of the stage that lacks a file")] = None


Event = Start | Pruned | Begin | Epoch | Checkpoint | Note | Interrupted | Failed | Result

_DECODER = msgspec.json.Decoder(Event)


def read_events(path: Path, start: Position = START) -> Log[Event]:
    """Read a stage's log from a position on. That of another stage is bad from its beginning."""
    log = journal.read(path, _DECODER, start)
    for record in log.records:
        if isinstance(record, Start) and record.key not in ("", path.parent.name):
            log.bad[start.bytes] = f"is of stage {record.key[:12]}"
            break
    return log


E = TypeVar("E", bound=LogRecord)


def latest_epochs(records: Iterable[LogRecord]) -> list[Epoch]:
    """Return the epoch records that count, in order: of epochs logged again after a crash the latest attempt's."""
    # A later attempt's records come later in the log.
    found = {record.epoch: record for record in records if isinstance(record, Epoch)}
    return [found[epoch] for epoch in sorted(found)]


def impossible_step(records: Iterable[LogRecord], steps: int) -> str | None:
    """Say which record of a stage of so many steps is of a step that it cannot have; None where all can be.

    Evaluations that count come after one another: those of an attempt that was lost are out of the order.
    """
    records = list(records)
    for record in records:
        step = getattr(record, "step", None) or 0
        if step > steps:
            return f"record {record.seq} is of step {step}, and the stage has {steps}"
    before = 0
    for epoch in latest_epochs(records):
        if epoch.step <= before:
            return f"evaluation {epoch.epoch} is of step {epoch.step}, and the one before it of step {before}"
        before = epoch.step
    return None


def ends_with(log: Log[Event], result: Result) -> bool:
    """Return whether a log ends with its stage's result; also where the result is too old to vouch for its log."""
    return result.lines_before is None or last(log.records, Result) == result


def contradicts(log: Log[Event], result: Result) -> bool:
    """Return whether a log's own record of the end says something else than the result does."""
    end = last(log.records, Result)
    return end is not None and _of_all_versions(end) != _of_all_versions(result)


def _of_all_versions(result: Result) -> Result:
    """Return a result without what sealing adds, and what older versions wrote into the log alone."""
    return replace(result, lines_before=None, digest_before="", digests={}, seq=-1, time=0.0)


def last(records: Iterable[LogRecord], kind: type[E]) -> E | None:
    """Return the last record of a type, None where there is none."""
    found = None
    for record in records:
        if isinstance(record, kind):
            found = record
    return found

"""Messages between the scheduler and its workers: a JSON object a line, on the worker's stdin and stdout.

Beats come from a thread, also while data are loaded or a step is compiled. The end of its input means to a worker that
the scheduler is gone: it exits at once, and nothing is lost by it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.spec.ranges import Count, Small, Whole
from prunectl.store.records.base import NOT_DECODED, Finite, Key, Steps
from prunectl.store.records.base import Attempt as _Attempt
from prunectl.store.records.texts import LAST, measured

Attempt = Annotated[
    _Attempt, Meta(description="number of the attempt at the stage, counted by the scheduler")
]


class Command(msgspec.Struct, tag_field="do", omit_defaults=True, frozen=True):
    """To a worker."""


class RunStage(Command, tag="run", frozen=True):
    """Run a stage."""

    key: Key
    keep: Annotated[
        tuple[Steps, ...],
        Meta(description="steps before which the state is kept as a rewind checkpoint"),
    ] = ()
    attempt: Attempt = 0


class CancelStage(Command, tag="cancel", frozen=True):
    """Checkpoint at the end of the epoch, or after 30 s, and give the stage back."""

    key: Key


class StopWorker(Command, tag="stop", frozen=True):
    """The same with all its stages, then exit."""


class Message(msgspec.Struct, tag_field="is", omit_defaults=True):
    """From a worker."""


class StageMessage(Message):
    """Of one stage. What is said of an older attempt than the one that runs is dropped."""

    key: Key
    attempt: Attempt = 0


class Ready(Message, tag="ready"):
    """The worker takes commands."""

    device_name: Annotated[str, Meta(description="model of the worker's device")] = ""
    code: Annotated[
        str,
        Meta(description="version and content of the package that the worker has loaded"),
    ] = ""


class StageStarted(StageMessage, tag="started"):
    """The stage was taken up."""


class StageNoted(StageMessage, tag="noted"):
    """Something for people to read was written into its log."""

    text: Annotated[str, Meta(description="what to read, a sentence")] = ""


class StageDone(StageMessage, tag="done"):
    """Its result is written."""


class StageInterrupted(StageMessage, tag="interrupted"):
    """It has left a checkpoint, as it was asked to."""

    step: Annotated[
        Count | None, Meta(description="optimizer steps done, those of the checkpoint")
    ] = None


class StageFailed(StageMessage, tag="failed"):
    """It ended in an error; the fields are those of the log's record `failed`."""

    reason: Annotated[str, Meta(description="one of the reasons of failure")] = "exception"
    message: Annotated[str, Meta(description="the error in one line")] = ""
    traceback: Annotated[str, Meta(description="of the exception")] = ""
    step: Annotated[Count | None, Meta(description="optimizer steps done")] = None
    missing: Annotated[str | None, Meta(description="key of the stage that lacks a file")] = None


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a stage is; each is absent until it is known."""

    attempt: Attempt = 0
    step: Annotated[Count | None, Meta(description="optimizer steps done")] = None
    steps: Annotated[Count | None, Meta(description="optimizer steps of the whole stage")] = None
    loss: Annotated[Finite, Meta(description=measured("loss", LAST))] = None
    score: Annotated[Finite, Meta(description=measured("score", LAST))] = None


class Beat(Message, tag="beat"):
    """About once a second."""

    running: Annotated[dict[str, Progress], Meta(description="the worker's stages, by key")] = {}
    turns: Annotated[
        Count | None,
        Meta(
            description="grows with every few steps of any stage: where it stands still, and no stage is "
            "`preparing`, the worker hangs"
        ),
    ] = None
    preparing: Annotated[bool, Meta(description="a stage has yet to take its first steps")] = False
    memory: Annotated[
        Count | None,
        Meta(description="most bytes that the process has used since it last was without a stage"),
    ] = None
    lanes: Annotated[
        Small | None,
        Meta(
            description="trainers that share that memory; null where they are of several workloads"
        ),
    ] = None


class WorkerEnded(Message, tag="ended"):
    """Made by the scheduler itself, when a worker is gone."""

    code: Annotated[Whole, Meta(description="exit status of the process")] = 0
    how: Annotated[str, Meta(description="the exit status in words")] = ""
    log: Annotated[str, Meta(description="the last lines of the worker's log")] = ""
    certain: Annotated[
        bool, Meta(description="whether its end was seen; else it may still run, out of reach")
    ] = True


AnyCommand = RunStage | CancelStage | StopWorker
AnyMessage = (
    Ready | StageStarted | StageNoted | StageDone | StageInterrupted | StageFailed | Beat
    | WorkerEnded
)  # fmt: skip

_MESSAGES = msgspec.json.Decoder(AnyMessage)
_COMMANDS = msgspec.json.Decoder(AnyCommand)


def parse_message(line: bytes) -> AnyMessage | None:
    """Return a worker's message; None for a line that is none, such as what a library printed."""
    try:
        message: AnyMessage = _MESSAGES.decode(line)
        return message
    except NOT_DECODED:
        return None


def parse_command(line: bytes | str) -> AnyCommand:
    """Return a command. Raises msgspec.DecodeError for a line that is none."""
    command: AnyCommand = _COMMANDS.decode(line)
    return command

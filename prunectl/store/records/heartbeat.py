"""The heartbeat, `control/heartbeat.json`: what the scheduler is doing now, replaced every second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from prunectl.errors import StoreError
from prunectl.spec.ranges import Amount, Count, Moment, Small
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import Finite, Steps, Time, read_record
from prunectl.store.records.texts import LAST, measured


class DeviceBeat(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A device of the run; null where the system does not report it."""

    id: Annotated[str, Meta(description="id of the device, as `--devices` takes it")] = ""
    name: Annotated[str, Meta(description="the device's model")] = ""
    uuid: Annotated[str | None, Meta(description="UUID of the hardware")] = None
    kind: Annotated[str, Meta(description="cpu or cuda")] = ""
    slots: Annotated[Small, Meta(description="stages that it may run at a time")] = 0
    auto: Annotated[bool, Meta(description="its slots are found by measuring, and change")] = False
    state: Annotated[str, Meta(description="open, drained or leased (by another scheduler)")] = (
        "open"
    )
    reason: Annotated[
        str, Meta(description="why it is in that state, or has fewer slots, in words")
    ] = ""
    running: Annotated[tuple[str, ...], Meta(description="keys of the stages that it runs")] = ()
    utilisation: Annotated[Amount | None, Meta(description="how busy it is, percent")] = None
    memory_used: Annotated[Count | None, Meta(description="memory in use by everybody, bytes")] = (
        None
    )
    memory_total: Annotated[Count | None, Meta(description="memory it has, bytes")] = None
    temperature: Annotated[Finite, Meta(description="temperature, °C")] = None
    power: Annotated[Finite, Meta(description="power, W")] = None
    processes: Annotated[
        tuple[tuple[Small, Count | None], ...],
        Meta(description="[process id, bytes] of each that uses it"),
    ] = ()
    age: Annotated[
        Amount,
        Meta(
            description="how long ago these were read, at most, s; grows while NVML does not answer"
        ),
    ] = 0.0


class RunningBeat(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A stage that a worker has."""

    device: Annotated[str | None, Meta(description="id of the device")] = None
    worker: Annotated[Small | None, Meta(description="its number, by which its log is named")] = (
        None
    )
    pid: Annotated[Small | None, Meta(description="the worker's process id")] = None
    attempt: Annotated[Small | None, Meta(description="number of the attempt, from 1")] = None
    since: Annotated[Time, Meta(description="when the attempt began, Unix seconds")] = None
    step: Annotated[Steps, Meta(description="optimizer steps done")] = 0
    steps: Annotated[Steps, Meta(description="optimizer steps of the whole stage")] = 0
    loss: Annotated[Finite, Meta(description=measured("loss", LAST))] = None
    score: Annotated[Finite, Meta(description=measured("score", LAST))] = None
    eta: Annotated[Finite, Meta(description="seconds until it is done")] = None
    trials: Annotated[Count, Meta(description="trials that need it")] = 0


class QueueBeat(msgspec.Struct, omit_defaults=True):
    """The queue."""

    stages: Annotated[dict[str, Count], Meta(description="stages by state")] = {}
    next: Annotated[
        tuple[str, ...], Meta(description="keys of those that start next, in order")
    ] = ()
    reasons: Annotated[
        dict[str, str], Meta(description="why a stage does not run yet, by key")
    ] = {}


class EtaBeat(msgspec.Struct, omit_defaults=True):
    """When what will be done."""

    end: Annotated[
        Time,
        Meta(
            description="when the run will be done, Unix seconds; null before the first measurement"
        ),
    ] = None
    trials: Annotated[
        dict[str, Moment],
        Meta(description="when trials will be done, Unix seconds, by trial: the soonest ones"),
    ] = {}
    stages: Annotated[
        dict[str, Finite], Meta(description="seconds that the stages of `next` take, by key")
    ] = {}


class IngestionBeat(msgspec.Struct, omit_defaults=True):
    """How the database follows the run."""

    done: Annotated[Count, Meta(description="times that it was brought up to date")] = 0
    put_off: Annotated[
        Count, Meta(description="times that this was put off, as another program was writing to it")
    ] = 0
    longest: Annotated[
        Amount,
        Meta(description="the longest that anything has waited to come into the database, s"),
    ] = 0.0


class HeartbeatRecord(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a scheduler says of itself; all defaults where none has ever run."""

    run: Annotated[str | None, Meta(description="the run's id")] = None
    pid: Annotated[Small | None, Meta(description="the scheduler's process id")] = None
    host: Annotated[str | None, Meta(description="name of the machine it runs on")] = None
    time: Annotated[Time, Meta(description="when this was written, Unix seconds")] = None
    started: Annotated[Time, Meta(description="when the run began, Unix seconds")] = None
    version: Annotated[str, Meta(description="version of prunectl")] = ""
    plans: Annotated[tuple[str, ...], Meta(description="digests of what it runs")] = ()
    stopping: Annotated[
        Literal["soft", "now"] | None,
        Meta(description="whether it was asked to stop: soft is after checkpoints"),
    ] = None
    ended: Annotated[
        Time, Meta(description="when the run ended, Unix seconds; null while it runs")
    ] = None
    devices: Annotated[tuple[DeviceBeat, ...], Meta(description="the run's devices")] = ()
    running: Annotated[
        dict[str, RunningBeat], Meta(description="stages that workers have, by key")
    ] = {}
    queue: Annotated[QueueBeat, Meta(description="the stages that wait")] = msgspec.field(
        default_factory=QueueBeat
    )
    eta: Annotated[EtaBeat, Meta(description="when what will be done")] = msgspec.field(
        default_factory=EtaBeat
    )
    ingestion: Annotated[IngestionBeat, Meta(description="how the database follows")] = (
        msgspec.field(default_factory=IngestionBeat)
    )
    trouble: Annotated[
        str | None,
        Meta(
            description="what goes wrong without stopping the run, such as a database that somebody keeps open"
        ),
    ] = None


def read_heartbeat(
    paths: StorePaths, refused: Callable[[str], None] | None = None
) -> HeartbeatRecord:
    """Read the last heartbeat, also of a scheduler that is gone; an empty one where there is none that can be read.

    `refused` gets a sentence where it is malformed.
    """
    try:
        return read_record(paths.heartbeat, HeartbeatRecord)
    except OSError:
        pass
    except StoreError as error:
        if refused is not None:
            refused(str(error))
    return HeartbeatRecord()

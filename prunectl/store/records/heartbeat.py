"""The heartbeat, `control/heartbeat.json`: what the scheduler is doing now, replaced every second."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from prunectl.errors import StoreError
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import Amount, Count, Finite, Steps, read_record


class DeviceBeat(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A device of the run; null where the system does not report it."""

    id: Annotated[str, Meta(description="as `--devices` takes it")] = ""
    name: Annotated[str, Meta(description="its model")] = ""
    uuid: Annotated[str | None, Meta(description="of the hardware")] = None
    kind: Annotated[str, Meta(description="cpu or cuda")] = ""
    slots: Annotated[Count, Meta(description="stages that it may run at a time")] = 0
    auto: Annotated[bool, Meta(description="its slots are found by measuring, and change")] = False
    state: Annotated[str, Meta(description="open, drained or leased (by another scheduler)")] = (
        "open"
    )
    reason: Annotated[str, Meta(description="of its state")] = ""
    running: Annotated[tuple[str, ...], Meta(description="keys of its stages")] = ()
    utilisation: Annotated[Amount | None, Meta(description="percent")] = None
    memory_used: Annotated[Count | None, Meta(description="bytes, by everybody")] = None
    memory_total: Annotated[Count | None, Meta(description="bytes")] = None
    temperature: Annotated[Finite, Meta(description="°C")] = None
    power: Annotated[Finite, Meta(description="W")] = None
    processes: Annotated[
        tuple[tuple[int, int | None], ...],
        Meta(description="[process id, bytes] of each that uses it"),
    ] = ()


class RunningBeat(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A stage that a worker has."""

    device: Annotated[str | None, Meta(description="id")] = None
    worker: Annotated[int | None, Meta(description="its number, by which its log is named")] = None
    pid: Annotated[int | None, Meta(description="the worker's process id")] = None
    attempt: Annotated[int | None, Meta(description="1, 2 …")] = None
    since: Annotated[float | None, Meta(description="Unix seconds")] = None
    step: Annotated[Steps, Meta(description="optimizer steps done")] = 0
    steps: Annotated[Steps, Meta(description="of the whole stage")] = 0
    loss: Annotated[Finite, Meta(description="of the last evaluation, test set")] = None
    score: Annotated[
        Finite, Meta(description="the task's score of the last evaluation, test set")
    ] = None
    eta: Annotated[Finite, Meta(description="seconds until it is done")] = None
    trials: Annotated[Count, Meta(description="that need it")] = 0


class QueueBeat(msgspec.Struct, omit_defaults=True):
    """The queue."""

    stages: Annotated[dict[str, int], Meta(description="stages by state")] = {}
    next: Annotated[
        tuple[str, ...], Meta(description="keys of those that start next, in order")
    ] = ()
    reasons: Annotated[
        dict[str, str], Meta(description="why a stage does not run yet, by key")
    ] = {}


class EtaBeat(msgspec.Struct, omit_defaults=True):
    """When what will be done."""

    end: Annotated[
        Finite, Meta(description="of the run, Unix seconds; null before the first measurement")
    ] = None
    trials: Annotated[
        dict[str, float], Meta(description="Unix seconds, by trial: the soonest ones")
    ] = {}
    stages: Annotated[
        dict[str, Finite], Meta(description="seconds that the stages of `next` take, by key")
    ] = {}


class HeartbeatRecord(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a scheduler says of itself; all defaults where none has ever run."""

    run: Annotated[str | None, Meta(description="the run's id")] = None
    pid: Annotated[int | None, Meta(description="of the scheduler")] = None
    host: Annotated[str | None, Meta(description="where it runs")] = None
    time: Annotated[float | None, Meta(description="of this beat, Unix seconds")] = None
    started: Annotated[float | None, Meta(description="Unix seconds")] = None
    version: Annotated[str, Meta(description="of prunectl")] = ""
    plans: Annotated[tuple[str, ...], Meta(description="digests of what it runs")] = ()
    stopping: Annotated[
        Literal["soft", "now"] | None, Meta(description="soft: after checkpoints")
    ] = None
    ended: Annotated[float | None, Meta(description="Unix seconds; null while it runs")] = None
    devices: Annotated[tuple[DeviceBeat, ...], Meta(description="of the run")] = ()
    running: Annotated[
        dict[str, RunningBeat], Meta(description="stages that workers have, by key")
    ] = {}
    queue: QueueBeat = msgspec.field(default_factory=QueueBeat)
    eta: EtaBeat = msgspec.field(default_factory=EtaBeat)
    trouble: Annotated[
        str | None,
        Meta(
            description="what goes wrong without stopping the run, such as a database that somebody keeps open"
        ),
    ] = None


def read_heartbeat(paths: StorePaths) -> HeartbeatRecord:
    """Read the last heartbeat, also of a scheduler that is gone; an empty one where there is none that can be read."""
    try:
        return read_record(paths.heartbeat, HeartbeatRecord)
    except (OSError, StoreError):
        return HeartbeatRecord()

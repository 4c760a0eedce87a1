"""What a plan will cost, from what its kinds of stages took before in the same store."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from prunectl.errors import StoreError
from prunectl.scheduler.auto_slots import settled
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.eta import Kind, simulate
from prunectl.scheduler.graph import Node, StageGraph, kind_of
from prunectl.scheduler.queue import Queue
from prunectl.store.db import query
from prunectl.store.paths import StorePaths
from prunectl.store.records.scheduler_log import History

MEASURED = """
SELECT spec, steps, seconds, peak_memory, bytes FROM stages
WHERE done AND NOT replay AND flag IS NULL AND steps > 0 AND device LIKE $kind
ORDER BY ended DESC NULLS LAST LIMIT 2000
"""
"""The newest stages on devices of a kind; diverged ones ended early."""


@dataclass(frozen=True)
class Cost:
    """Of what is still to run; None where nothing of the kind was measured."""

    slots: int
    """Of the devices together."""
    unmeasured: tuple[str, ...]
    """Kinds of stages (network on data set) that have never been run here: the rest is without them."""
    wall_seconds: float | None
    """On all slots of the devices together, as the scheduler would go about it."""
    device_seconds: float | None
    """Added up over devices, each filled with as many stages as it has slots."""
    memory: int | None
    """The most that a worker will take, bytes."""
    disk: int | None
    """What the stages will leave in the store, bytes."""


@dataclass(frozen=True)
class _Measured:
    """Medians of a kind."""

    per_step: float
    memory: int | None
    dense_bytes: float | None
    pruned_bytes: float | None


def estimate(paths: StorePaths, graph: StageGraph, devices: Sequence[Device]) -> Cost | None:
    """What the stages of the graph that are not done will cost on these devices; None without any measurement."""
    known = _measurements(paths, devices[0].kind)
    nodes = [node for node in graph.nodes.values() if not graph.is_done(node.key)]
    counted = [node for node in nodes if node.kind in known]
    if nodes and not counted:
        return None
    unmeasured = {f"{node.kind[0]} on {node.kind[1]}" for node in nodes if node.kind not in known}
    seconds = {node.key: known[node.kind].per_step * node.steps for node in counted}
    slots = _slots(paths, devices, {node.kind for node in counted})
    memory = [known[node.kind].memory for node in counted]
    return Cost(
        slots=slots,
        unmeasured=tuple(sorted(unmeasured)),
        wall_seconds=_wall(graph, seconds, slots),
        device_seconds=sum(seconds.values()) * len(devices) / slots,
        memory=max((each for each in memory if each), default=None),
        disk=_disk(counted, known),
    )


def _slots(paths: StorePaths, devices: Sequence[Device], kinds: Set[Kind]) -> int:
    """Of all devices; where they are found by measuring, as many as were found for the kind that shares least, and
    one where that is yet to come."""
    total, history = 0, History()
    if any(device.auto for device in devices):
        history.catch_up(paths)
    for device in devices:
        if not device.auto or device.kind == "cpu":
            total += device.slots
            continue
        known = {each.kind: each.lanes for each in settled(history.settled.values(), device.name)}
        total += min((known.get(kind, 1) for kind in kinds), default=1)
    return total


def _measurements(paths: StorePaths, device: str) -> dict[Kind, _Measured]:
    try:
        rows = query.run(paths, MEASURED, {"kind": f"{device}%"}).rows
    except StoreError:  # no store yet, or nobody can read it now
        return {}
    found: dict[Kind, list[tuple[Any, ...]]] = defaultdict(list)
    for spec, *measured in rows:
        stage = json.loads(spec)["stage"]
        found[kind_of(stage)].append((*measured, "mask" in stage))
    return {kind: _medians(rows) for kind, rows in found.items() if any(row[1] for row in rows)}


def _medians(rows: list[tuple[Any, ...]]) -> _Measured:
    rates = [seconds / steps for steps, seconds, *_ in rows[:9] if seconds]
    memory = [row[2] for row in rows if row[2]]
    dense = [row[3] for row in rows if row[3] and not row[4]]
    pruned = [row[3] for row in rows if row[3] and row[4]]
    return _Measured(
        statistics.median(rates) if rates else 0.0,
        max(memory, default=None),
        statistics.median(dense) if dense else None,
        statistics.median(pruned) if pruned else None,
    )


def _wall(graph: StageGraph, seconds: dict[str, float], slots: int) -> float:
    """The plan played through on equal slots; stages that were never measured take no time."""
    queue = Queue()
    for key, node in graph.nodes.items():
        done = graph.is_done(key)
        queue.add(key, node.needs, graph.wanted_by[key] or {key}, seconds.get(key, 0.0), done)
    queue.next()  # without a device nothing is taken, but the order is worked out
    return simulate(queue, seconds, slots, {}).end


def _disk(nodes: Sequence[Node], known: dict[Kind, _Measured]) -> int | None:
    total = 0.0
    for node in nodes:
        measured = known[node.kind]
        size = measured.dense_bytes if node.dense else measured.pruned_bytes
        total += size or measured.dense_bytes or measured.pruned_bytes or 0.0
    return round(total) or None

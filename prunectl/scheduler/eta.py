"""How long it will take and what it will cost: times per step that were measured, and the queue played through."""

from __future__ import annotations

import heapq
import statistics
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import msgspec

from prunectl.errors import StoreError
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.graph import Node, StageGraph, workload_of
from prunectl.scheduler.items import Workload
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.slots import recorded_changes
from prunectl.spec.key import Spec
from prunectl.spec.state import State
from prunectl.store.paths import StorePaths
from prunectl.store.records.scheduler_log import History
from prunectl.store.records.stage import read_result

WINDOW = 9
"""The newest measurements of a workload that count."""
NEWS = 0.1
"""A change of speed by less than this changes no order worth having: with many thousands of stages sorting them
anew takes a tenth of a second."""


@dataclass
class Pace:
    """How far a stage that runs is, and how fast: its speed is measured from its worker's first beat on."""

    steps: int
    step: int = 0
    first: tuple[float, int] | None = None
    """(monotonic time, step) of the first beat."""

    def beat(self, now: float, step: int, steps: int) -> None:
        """Take in that the stage is at a step of so many at the monotonic time `now`."""
        self.step, self.steps = step, steps
        if self.first is None:
            self.first = now, step

    def per_step(self, now: float) -> float | None:
        """Return its own seconds per step; None before it has done some."""
        if self.first is None or self.step <= self.first[1]:
            return None
        return (now - self.first[0]) / (self.step - self.first[1])


class StepTimes:
    """Seconds per step of each workload: the median of the last nine that were measured."""

    def __init__(self) -> None:
        self._seen: dict[Workload, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._medians: dict[Workload, float | None] = {}
        self._reported: dict[Workload | None, float] = {}
        """Those of the last time that `changed` was true; at None that of workloads without a measurement."""

    def changed(self) -> bool:
        """Return whether some time differs by a tenth from that of the last time this was true."""
        everything = self._everything()
        if not everything:
            return False
        now: dict[Workload | None, float] = {None: statistics.median(everything)}
        now |= {workload: statistics.median(seen) for workload, seen in self._seen.items() if seen}
        before = self._reported
        if before and all(
            abs(time / before.get(workload, before[None]) - 1) <= NEWS
            for workload, time in now.items()
        ):
            return False
        self._reported = now
        return True

    def learn(self, workload: Workload, seconds: float | None, steps: int | None) -> None:
        """Add a stage that took so long for so many steps; nothing where one of them is unknown or 0."""
        if steps and seconds and steps > 0 and seconds > 0:
            self._seen[workload].append(seconds / steps)
            self._medians.clear()

    def learn_from(self, graph: StageGraph) -> None:
        """Read the results of stages that are done; of each workload no more than count, so that thousands cost
        nothing."""
        for node in graph.nodes.values():
            if len(self._seen[node.workload]) < WINDOW and graph.is_done(node.key):
                try:
                    result = read_result(graph.paths.stage(node.key))
                except (OSError, StoreError):
                    continue
                self.learn(node.workload, result.seconds, result.steps)

    def per_step(self, workload: Workload) -> float | None:
        """Return seconds per step; of all workloads together where this one was never measured; None before the
        first measurement."""
        if workload not in self._medians:
            seen = self._seen.get(workload) or self._everything()
            self._medians[workload] = statistics.median(seen) if seen else None
        return self._medians[workload]

    def seconds(self, node: Node) -> float | None:
        """Return the seconds that the whole stage takes."""
        per_step = self.per_step(node.workload)
        return None if per_step is None else per_step * node.steps

    def seconds_left(self, node: Node, pace: Pace, now: float) -> float | None:
        """Return the seconds left of a stage that runs, by its own speed once that is known."""
        per_step = pace.per_step(now) or self.per_step(node.workload)
        return None if per_step is None else per_step * max(0, pace.steps - pace.step)

    def _everything(self) -> list[float]:
        return [time for seen in self._seen.values() for time in seen]


@dataclass(frozen=True)
class Forecast:
    """Seconds from now."""

    end: float
    trials: Mapping[str, float]
    """Until the last stage of each trial that will end is done."""


def simulate(queue: Queue, seconds: Mapping[str, float], slots: int) -> Forecast:
    """Play the queue through as if nothing failed, on `slots` equal slots.

    `seconds` has what each stage takes, and of those that run what is left of it; a stage without takes none.
    """
    items = {item.key: item for item in queue.unfinished()}
    needs = {key: set(item.needs) for key, item in items.items()}
    children: dict[str, list[str]] = defaultdict(list)
    for key, needed in needs.items():
        for other in needed:
            children[other].append(key)
    running = [key for key, item in items.items() if item.state is State.RUNNING]
    active = [(seconds.get(key, 0.0), key) for key in running]
    ready = [(queue.rank(key), key) for key in items.keys() - running if not needs[key]]
    heapq.heapify(active)  # by the time of their end
    heapq.heapify(ready)  # by their rank
    now = 0.0
    trials: dict[str, float] = {}
    while active or ready:
        while ready and len(active) < max(1, slots):
            _, key = heapq.heappop(ready)
            heapq.heappush(active, (now + seconds.get(key, 0.0), key))
        now, key = heapq.heappop(active)
        trials |= dict.fromkeys(items[key].trials, now)  # `now` only grows: the last stage counts
        for child in children[key]:
            needs[child].discard(key)
            if not needs[child]:
                heapq.heappush(ready, (queue.rank(child), child))
    return Forecast(now, trials)


MEASURED = """
SELECT spec, steps, seconds, peak_memory, bytes FROM stages
WHERE done AND NOT replay AND flag IS NULL AND steps > 0 AND seconds > 0 AND device LIKE $kind
ORDER BY ended DESC NULLS LAST LIMIT 2000
"""
"""The newest stages on devices of a kind; diverged ones ended early."""


@dataclass(frozen=True)
class Cost:
    """Of what is still to run; None where nothing of the workload was measured."""

    slots: int
    """Of the devices together."""
    unmeasured: tuple[str, ...]
    """Workloads (network on data set) that were never run here: the rest is without them."""
    wall_seconds: float | None
    """On all slots of the devices together, in the scheduler's order."""
    device_seconds: float | None
    """Added up over devices, each filled with as many stages as it has slots."""
    memory: int | None
    """The most that a worker will take, bytes."""
    disk: int | None
    """What the stages will leave in the store, bytes."""


def estimate(paths: StorePaths, graph: StageGraph, devices: Sequence[Device]) -> Cost | None:
    """Return what the stages of the graph that are not done will cost on these devices; None without any
    measurement."""
    known = _measurements(paths, devices[0].kind)
    nodes = [node for node in graph.nodes.values() if not graph.is_done(node.key)]
    counted = [node for node in nodes if node.workload in known.sizes]
    if nodes and not counted:
        return None
    missing = {node.workload for node in nodes} - known.sizes.keys()
    seconds = {node.key: known.times.seconds(node) or 0.0 for node in counted}
    workloads = {node.workload for node in counted}
    slots = _slots(paths, devices, workloads)
    return Cost(
        slots=slots,
        unmeasured=tuple(sorted({f"{network} on {data}" for network, data, *_ in missing})),
        wall_seconds=_wall_seconds(graph, seconds, slots),
        device_seconds=sum(seconds.values()) * len(devices) / slots,
        memory=max((known.memory[workload] for workload in workloads), default=0) or None,
        disk=round(sum(known.disk(node) for node in counted)) or None,
    )


class _Measurements:
    """What stages in the database took, by workload."""

    def __init__(self) -> None:
        self.times = StepTimes()
        self.memory: dict[Workload, int] = defaultdict(int)
        self.sizes: dict[Workload, dict[bool, list[int]]] = defaultdict(
            lambda: {False: [], True: []}
        )
        """Bytes on disk, of stages without and with a mask."""

    def disk(self, node: Node) -> float:
        """Return the bytes that a stage leaves; of the other sort where none of its own was measured."""
        sizes = self.sizes[node.workload]
        seen = sizes[node.stage.mask is not None] or sizes[False] or sizes[True]
        return statistics.median(seen) if seen else 0.0


def _measurements(paths: StorePaths, kind: str) -> _Measurements:
    from prunectl.store.db import query  # DuckDB: 90 ms that the scheduler need not pay

    found = _Measurements()
    try:
        rows = query.run(paths, MEASURED, {"kind": f"{kind}%"}).rows
    except StoreError:  # no store yet, or nobody can read it now
        return found
    for spec, steps, seconds, memory, size in reversed(rows):  # the newest last: those count
        stage = msgspec.json.decode(spec, type=Spec).stage
        workload = workload_of(stage)
        found.times.learn(workload, seconds, steps)
        found.memory[workload] = max(found.memory[workload], memory or 0)
        found.sizes[workload][stage.mask is not None] += [size] if size else []
    return found


def _slots(paths: StorePaths, devices: Sequence[Device], workloads: Set[Workload]) -> int:
    """Return the slots of all devices; of `auto` CUDA devices those that were settled for the workload that shares
    least, and one where that is yet to come."""
    total, history = 0, History()
    if any(device.auto for device in devices):
        history.catch_up(paths)
    for device in devices:
        if not device.auto or device.kind == "cpu":
            total += device.slots
            continue
        changes = recorded_changes(history.settled.values(), device)
        known = {change.workload: change.slots for change in changes}
        total += min((known.get(workload, 1) for workload in workloads), default=1)
    return total


def _wall_seconds(graph: StageGraph, seconds: Mapping[str, float], slots: int) -> float:
    """Return the time until the plan's end on equal slots; stages that were never measured take none."""
    queue = Queue()
    for key, node in graph.nodes.items():
        # All for one trial: nobody asks for any of them by itself, and 50,000 trials would take 20 MB.
        queue.add(key, node.needs, ("all",), seconds.get(key, 0.0), graph.is_done(key))
    queue.next()  # without a device nothing is taken, but the order is worked out
    return simulate(queue, seconds, slots).end

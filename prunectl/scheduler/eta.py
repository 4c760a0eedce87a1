"""How long it will take: seconds per step from what was measured, and the queue played through in fast motion."""

from __future__ import annotations

import heapq
import statistics
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunectl.errors import StoreError
from prunectl.scheduler.graph import Node, StageGraph
from prunectl.scheduler.items import Item, State
from prunectl.scheduler.queue import Queue
from prunectl.store.files import read_json

Kind = tuple[str, str, int, str]
NEWS = 0.1
"""A change of speed by less than this changes no order worth having: with many thousands of stages sorting them
anew takes a tenth of a second."""


class Rates:
    """Seconds per step of each kind of stage: the median of the last nine that were measured."""

    def __init__(self) -> None:
        self._seen: dict[Kind, deque[float]] = defaultdict(lambda: deque(maxlen=9))
        self._medians: dict[Kind, float | None] = {}
        self._taken: dict[Kind | None, float] = {}
        """Those that `moved` has told of; at None that of kinds which had not been measured."""

    def moved(self) -> bool:
        """Whether some estimate differs by a tenth from that of the last time this was true."""
        everything = [rate for seen in self._seen.values() for rate in seen]
        if not everything:
            return False
        now: dict[Kind | None, float] = {None: statistics.median(everything)}
        now |= {kind: statistics.median(seen) for kind, seen in self._seen.items() if seen}
        before = self._taken
        if before and all(
            abs(rate / before.get(kind, before[None]) - 1) <= NEWS for kind, rate in now.items()
        ):
            return False
        self._taken = now
        return True

    def learn(self, node: Node, seconds: float, steps: int) -> None:
        """A stage of this kind took so long for so many steps."""
        if steps > 0 and seconds > 0:
            self._seen[node.kind].append(seconds / steps)
            self._medians.clear()

    def learn_from(self, graph: StageGraph, most: int = 9) -> None:
        """Read the results of stages that are done; at most `most` of a kind, so that thousands cost nothing."""
        for node in graph.nodes.values():
            if len(self._seen[node.kind]) < most and graph.is_done(node.key):
                try:
                    result: dict[str, Any] = read_json(graph.paths.stage(node.key).result)
                except (OSError, StoreError):
                    continue
                self.learn(node, result.get("seconds") or 0.0, result.get("steps") or 0)

    def per_step(self, node: Node) -> float | None:
        """Seconds per step; of all kinds together where this one has never been measured; None before the first
        measurement."""
        kind = node.kind
        if kind not in self._medians:
            rates = self._seen.get(kind) or [rate for seen in self._seen.values() for rate in seen]
            self._medians[kind] = statistics.median(rates) if rates else None
        return self._medians[kind]

    def seconds(self, node: Node) -> float | None:
        """Seconds the whole stage takes."""
        rate = self.per_step(node)
        return None if rate is None else rate * node.steps


@dataclass(frozen=True)
class Forecast:
    """Seconds from now."""

    end: float
    trials: Mapping[str, float]
    """Until the last stage of each trial that will end is done."""
    stages: Mapping[str, float]


def simulate(
    queue: Queue, seconds: Mapping[str, float], slots: int, running: Mapping[str, float]
) -> Forecast:
    """Play the queue through as if nothing failed, on `slots` equal slots.

    `seconds` has what each stage takes, `running` what is left of those that run.
    """
    items: dict[str, Item] = {}

    def found(item: Item) -> None:
        items[item.key] = item

    queue.visit(found)
    needs = {key: set(item.needs) for key, item in items.items()}
    children: dict[str, list[str]] = defaultdict(list)
    for key, needed in needs.items():
        for other in needed:
            children[other].append(key)
    active = [(running.get(key, 0.0), key) for key in items if items[key].state is State.RUNNING]
    ready = [
        (queue.rank(key), key)
        for key in items
        if not needs[key] and items[key].state is not State.RUNNING
    ]
    heapq.heapify(active)
    heapq.heapify(ready)
    now, ends = 0.0, {}
    while active or ready:
        while ready and len(active) < max(1, slots):
            _, key = heapq.heappop(ready)
            heapq.heappush(active, (now + seconds.get(key, 0.0), key))
        now, key = heapq.heappop(active)
        ends[key] = now
        for child in children[key]:
            needs[child].discard(key)
            if not needs[child]:
                heapq.heappush(ready, (queue.rank(child), child))
    trials: dict[str, float] = {}
    for key, end in ends.items():
        for trial in items[key].trials:
            trials[trial] = max(trials.get(trial, 0.0), end)
    return Forecast(now, trials, ends)

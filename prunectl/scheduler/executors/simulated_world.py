"""A world without real time, processes or disks: events in their order, and processes that may be killed at any write.

The code that runs in it is the real one: schedulers, records, the layout of a store. Only what `Executor` and
`store.files.Disk` stand for is made up.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from prunectl.store import files
from prunectl.store.simulated_files import SimulatedDisk, Storage

EPOCH = 1.8e9
"""Unix seconds at which every world begins."""

Action = Callable[[], object]


class Killed(BaseException):
    """The process whose code was running has been killed. Not an Exception: nothing may catch it and go on."""


class World:
    """Time, what is to happen, the disk, and the processes. It is the clock of its executors."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.storage = Storage(self.time)
        self.processes: list[Process] = []
        self.leases: dict[str, str] = {}
        """Who has each device that somebody has, by its id."""
        self.faults: Counter[str] = Counter()
        """Faults that have happened, by kind."""
        self.on_fault: Callable[[str], None] = lambda kind: None
        self.slow_fsync = 0.0
        """Seconds that an fsync may take."""
        self._events: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()
        self._pids = itertools.count(1000)

    def monotonic(self) -> float:
        """Return the seconds since the world began."""
        return self.now

    def time(self) -> float:
        """Return Unix seconds."""
        return EPOCH + self.now

    def fault(self, kind: str) -> None:
        """Count a fault."""
        self.faults[kind] += 1
        self.on_fault(kind)

    # events

    def after(self, seconds: float, action: Action) -> None:
        """Let something happen after some time."""
        heapq.heappush(self._events, (self.now + max(0.0, seconds), next(self._numbers), action))

    def next_time(self) -> float | None:
        """Return when the next event is due; None where nothing is to happen any more."""
        return self._events[0][0] if self._events else None

    def happen(self) -> None:
        """Let the next event happen."""
        when, _, action = heapq.heappop(self._events)
        self.now = max(self.now, when)
        action()

    def pass_time(self, until: float, enough: Callable[[], bool]) -> None:
        """Let events happen until a time, or until it is enough."""
        while not enough() and (when := self.next_time()) is not None and when <= until:
            self.happen()
        if not enough():
            self.now = max(self.now, until)

    # processes

    def process(self, name: str) -> Process:
        """Start a process."""
        made = Process(self, name, next(self._pids))
        self.processes.append(made)
        return made

    def power_cut(self) -> None:
        """Kill every process, and lose what was not synced."""
        self.fault("power cut")
        for process in self.processes[:]:
            process.kill()
        self.storage.power_cut(self.chance)
        self.leases.clear()


class Process:
    """A process of the world, and its view of the disk."""

    def __init__(self, world: World, name: str, pid: int) -> None:
        self.world, self.name, self.pid = world, name, pid
        self.alive = True
        self.disk = SimulatedDisk(world.storage, self._touch)
        self.dies_in: int | None = None
        """Operations on the disk until it is killed in the midst of one; None for none."""
        self.at_death: list[Action] = []
        self.guard: Callable[[str, Path], None] = lambda action, path: None
        """Called before each operation that changes anything on the disk."""

    def run(self, action: Action) -> None:
        """Run code as this process, unless it is dead; quietly where it is killed on the way."""
        if self.alive:
            with contextlib.suppress(Killed), self.inside():
                action()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let the stores of the block live on this process's disk."""
        before = files.use(self.disk)
        try:
            yield
        finally:
            files.use(before)

    def after(self, seconds: float, action: Action) -> None:
        """Let the process do something after some time, if it still lives."""
        self.world.after(seconds, lambda: self.run(action))

    def kill(self) -> None:
        """End it; what it has written stays, and its locks are free."""
        if not self.alive:
            return
        self.alive = False
        self.world.processes.remove(self)
        self.disk.release_locks()
        for action in self.at_death:
            action()

    def _touch(self, action: str, path: Path) -> float:
        if not self.alive:
            raise Killed
        if action == "torn":
            self.kill()
            raise Killed
        if action == "fsync" and self.world.slow_fsync:
            self.world.now += self.world.chance.uniform(0.0, self.world.slow_fsync)
        part = 1.0
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in <= 0:
                self.world.fault(f"{self.name} killed at {action}")
                if action != "write":
                    self.kill()
                    raise Killed
                part = self.world.chance.random()
        self.guard(action, path)
        return part

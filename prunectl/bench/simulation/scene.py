"""What a schedule is set in: a world and its machines, a store with plans, and how its workers behave."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from prunectl.bench.simulation.checks import Checker
from prunectl.bench.simulation.studies import study
from prunectl.errors import PrunectlError
from prunectl.scheduler.devices.base import Device, SlotsBy
from prunectl.scheduler.executors.simulated import Transport
from prunectl.scheduler.executors.simulated_behaviour import Behaviour, Fate
from prunectl.scheduler.executors.simulated_world import Process, World
from prunectl.scheduler.scheduler import Scheduler
from prunectl.spec.study import Study
from prunectl.store import requests
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.requests import (
    Request,
)

ROOT = StorePaths(Path("/store"))


class Trouble(Behaviour):
    """Workers that fail in all their ways, for as long as the troubles last."""

    def __init__(self, checker: Checker, chance: random.Random, remote: bool) -> None:
        self.checker = checker
        self.over = False
        self.hopeless: dict[str, Fate] = {}
        """Stages that fail whenever they are tried."""
        self.broken: set[str] = set()
        """Devices on which every worker is lost."""
        kinds: list[Fate] = [
            "exception", "oom", "device", "crash", "hang", "deaf", "liar", "nonfinite",
        ]  # fmt: skip
        if remote:
            kinds += ["ghost", "ghost"]
        self._kinds = chance.sample(kinds, chance.randint(0, 3))
        self._rate = chance.choice((0.05, 0.2, 0.4))
        self.echo = chance.choice((0.0, 0.5))
        self._launch_rate = chance.choice((0.0, 0.0, 0.1))
        self._stillborn_rate = chance.choice((0.0, 0.0, 0.1))
        self._death_rate = chance.choice((0.0, 0.0, 0.2))

    def launch_fails(self, world: World) -> bool:
        """Return whether no worker can be started now."""
        return not self.over and world.chance.random() < self._launch_rate

    def stillborn(self, world: World, device: Device) -> bool:
        """Return whether a worker ends before it is ready."""
        return not self.over and world.chance.random() < self._stillborn_rate

    def fate(self, world: World, key: str, attempt: int, device: Device) -> Fate:
        """Return what becomes of an attempt."""
        if key in self.hopeless:
            return self.hopeless[key]
        if self.over:
            return "normal"
        if device.id in self.broken:
            return "device"
        if self._kinds and world.chance.random() < self._rate:
            return world.chance.choice(self._kinds)
        return "normal"

    def began(self, process: Process, key: str, attempt: int) -> None:
        """Check it, and perhaps let the worker be killed at one of its next writes."""
        self.checker.began(process, key, attempt)
        chance = process.world.chance
        if not self.over and chance.random() < self._death_rate:
            process.dies_in = chance.randint(1, 40)

    def ended(self, process: Process, key: str, attempt: int) -> None:
        """Note it."""
        self.checker.ended(process, key, attempt)


class Scene:
    """A world with machines, plans and people, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        self.number = 0
        """Of the last run."""
        chance = self.world.chance
        self.studies = [
            study("first", range(chance.randint(1, 3)), chance),
            study("second", range(1, 1 + chance.randint(1, 2)), chance),
        ]
        self.checker = Checker(self.world, ROOT, self.studies)
        self.remote = chance.random() < 0.4
        """Workers are on other hosts."""
        self.trouble = Trouble(self.checker, chance, self.remote)
        self.transport = self._transport(chance)
        self.devices = self._devices(chance)
        self.sent: list[Request] = []
        self.on_record: Callable[[LogRecord], None] = lambda record: None
        """Gets the records of all schedulers, once they are checked."""
        if chance.random() < 0.15:
            fate: Fate = chance.choice(("exception", "nonfinite", "crash"))
            self.trouble.hopeless[chance.choice(list(self.checker.expected))] = fate
        self.horizon = chance.uniform(50.0, 500.0)

    @staticmethod
    def _devices(chance: random.Random) -> list[Device]:
        if chance.random() < 0.5:
            return [Device("cpu", "cpu", "made up", chance.randint(1, 4))]
        slots = chance.randint(1, 3)
        many = chance.randint(1, 3)
        by: SlotsBy = chance.choice(("streams", "streams", "processes"))
        return [
            Device(f"cuda:{i}", "cuda", "made up", slots, f"GPU-{i}", slots_by=by)
            for i in range(many)
        ]

    @staticmethod
    def _transport(chance: random.Random) -> Transport:
        if chance.random() < 0.5:
            return Transport()
        rates = (0.0, 0.0, 0.05, 0.3)
        return Transport(
            lost=chance.choice((0.0, 0.0, 0.01, 0.03)),
            late=chance.choice(rates),
            doubled=chance.choice(rates),
            late_seconds=chance.choice((5.0, 30.0, 100.0)),
        )

    def recorded(self, scheduler: Scheduler, record: LogRecord) -> None:
        """Check a record of a scheduler's log."""
        try:
            self.checker.recorded(scheduler, record)
        finally:
            self.on_record(record)

    def count(self, kind: str) -> None:
        self.world.fault(kind)

    def complete(self) -> bool:
        """Return whether all is done that can be, and that somebody wants."""
        hopeless = set(self.trouble.hopeless)
        apart = self.checker.cancelled | self.checker.held
        return all(
            set(trial.path) <= self.checker.done
            for each in self.studies
            for trial in each.trials
            if trial.id not in apart and not hopeless & set(trial.path)
        )

    def is_done(self, study: Study) -> bool:
        """Return whether all stages of a study are done."""
        return set(study.stages) <= self.checker.done

    def by_user(self, action: Callable[[], object]) -> None:
        """Do something as a process of its own that ends."""
        process = self.world.process("user")
        process.run(action)
        process.kill()

    def send(self, request: Request) -> None:
        """Leave a request in the store."""
        try:
            requests.send(ROOT, request)
        except PrunectlError:
            return  # the disk is full, and the user is told
        self.count("request")
        self.checker.obligations.asked_at[request.id] = self.world.now
        self.sent.append(request)

    def leave_request(self, request: Request) -> None:
        """Leave a request where a scheduler is there to carry it out."""
        if requests.alive(ROOT):
            self.send(request)

    def alive(self) -> bool:
        """Return whether a scheduler has the store."""
        with self.disk():
            return requests.alive(ROOT)

    def disk(self) -> AbstractContextManager[None]:
        """Let the stores of a block live on the world's disk, as nobody's process."""
        return self.world.process("observer").inside()

"""The executors, by the contract for all of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from prunectl.bench.simulation.studies import dense
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors.base import Executor
from prunectl.scheduler.executors.local import LocalExecutor
from prunectl.scheduler.executors.simulated import SimulatedExecutor
from prunectl.scheduler.executors.simulated_behaviour import Behaviour, Fate
from prunectl.scheduler.executors.simulated_world import World
from prunectl.spec.key import NUMERICS, Spec, spec_key
from prunectl.store.files import write_text
from prunectl.store.paths import StorePaths
from tests.scheduler.executor_contract import ExecutorContract, Lab
from tests.support.scheduler_lab import FAKE, FakeLayer, Store

DEVICES = [Device(f"cuda:{i}", "cuda", "made up", 2, uuid=f"GPU-{i}") for i in range(2)]


def describe(paths: StorePaths, seed: int) -> str:
    spec = Spec(NUMERICS, dense(seed, 2, "fp32"))
    key = spec_key(spec)
    write_text(paths.stage(key).spec, spec.to_json() + "\n")
    return key


class LocalLab:
    """Processes of this host, with the fake worker."""

    def __init__(self, store: Store) -> None:
        self.paths = store.paths
        self._store = store
        self._modes: dict[str, str] = {}
        self._store.fake(seconds=0.005, beat=0.02)

    def executor(self) -> Executor:
        return LocalExecutor(
            self.paths, DEVICES, command=[sys.executable, str(FAKE)], layer=FakeLayer(DEVICES)
        )

    def stage(self, seed: int, what: str = "normal") -> str:
        key = describe(self.paths, seed)
        self._modes[key] = what
        self._store.fake(seconds=0.005, beat=0.02, modes=self._modes)
        return key

    def stillborn(self) -> None:
        self._store.fake(stillborn=True)

    def inside(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()


class TestLocal(ExecutorContract):
    @pytest.fixture
    def lab(self, store: Store) -> Lab:
        return LocalLab(store)


class Fates(Behaviour):
    boot_seconds = 0.5
    epoch_seconds = 0.2
    beat_seconds = 0.1

    def __init__(self) -> None:
        self.fates: dict[str, Fate] = {}
        self.is_stillborn = False

    def fate(self, world: World, key: str, attempt: int, device: Device) -> Fate:
        return self.fates.get(key, "normal")

    def stillborn(self, world: World, device: Device) -> bool:
        return self.is_stillborn


class SimulatedLab:
    """A simulated world."""

    def __init__(self) -> None:
        self.paths = StorePaths(Path("/store"))
        self.world = World()
        self.fates = Fates()

    def executor(self) -> Executor:
        process = self.world.process("scheduler")
        return SimulatedExecutor(self.world, process, self.paths, DEVICES, self.fates)

    def stage(self, seed: int, what: str = "normal") -> str:
        key = describe(self.paths, seed)
        fate: dict[str, Fate] = {"crash": "crash", "exception": "exception"}
        self.fates.fates[key] = fate.get(what, "normal")
        self.fates.epoch_seconds = 100.0 if what == "slow" else 0.2
        return key

    def stillborn(self) -> None:
        self.fates.is_stillborn = True

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with self.world.process("test").inside():
            yield


class TestSimulated(ExecutorContract):
    @pytest.fixture
    def lab(self) -> Lab:
        return SimulatedLab()

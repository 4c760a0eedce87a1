"""NVML is asked by a child process: one that hangs, fails or dies never holds up who asks. With a made-up `pynvml` in
real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prunectl.scheduler.devices import nvml
from prunectl.scheduler.devices.base import Usage
from prunectl.scheduler.devices.cuda import CudaLayer
from prunectl.scheduler.devices.driver import Driver, ShownDevice
from prunectl.scheduler.devices.nvml import NvmlMonitor
from prunectl.scheduler.devices.nvml_child import NvmlReader
from tests.support.scheduler_lab import eventually, exists

PYNVML = """
import os, pathlib, time, types
HERE = pathlib.Path(__file__).parent
with (HERE / "pids").open("a") as file:
    file.write(f"{os.getpid()}\\n")
class NVMLError(Exception): pass
def mode():
    found = (HERE / "mode").read_text()
    while found == "hang":
        time.sleep(3600)
    if found == "lost":
        raise NVMLError("GPU is lost")
    return int(found)
def nvmlInit():
    if (HERE / "mode").read_text() == "missing":
        raise NVMLError("no library")
def nvmlDeviceGetHandleByUUID(uuid): return (mode(), uuid)
def nvmlDeviceGetMemoryInfo(handle): return types.SimpleNamespace(used=mode(), total=100)
def refuse(*arguments): raise NVMLError("Not Supported")
nvmlDeviceGetUtilizationRates = nvmlDeviceGetTemperature = refuse
nvmlDeviceGetPowerUsage = nvmlDeviceGetComputeRunningProcesses = refuse
"""
ROOT = Path(__file__).parents[2]


class Lab:
    """A made-up NVML, whose used memory is a number or whose trouble is a word."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pynvml.py").write_text(PYNVML)
        (folder / "pids").touch()
        self.set(1)

    def set(self, mode: int | str) -> None:
        (self.folder / "mode.new").write_text(str(mode))
        (self.folder / "mode.new").rename(self.folder / "mode")

    @property
    def pids(self) -> list[int]:
        """Of the children, in their order."""
        return [int(line) for line in (self.folder / "pids").read_text().split()]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def monitor(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[NvmlMonitor]:
    monkeypatch.setattr(nvml, "FIRST_SECONDS", 20.0)
    monkeypatch.setattr(nvml, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(nvml, "PAUSE_SECONDS", (0.1, 0.4))
    made = NvmlMonitor(lab.environment)
    yield made
    made.close()
    eventually(lambda: not any(map(exists, lab.pids)))


def test_the_first_look_at_each_device_has_an_answer(monitor: NvmlMonitor) -> None:
    for uuid in ("GPU-0", "GPU-1"):
        usage = monitor.usage(uuid)
        assert (usage.memory_used, usage.memory_total, usage.utilisation) == (1, 100, None)


def test_later_looks_get_what_is_so_now(
    lab: Lab, monitor: NvmlMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor.usage("GPU-0")
    lab.set(2)
    eventually(lambda: monitor.usage("GPU-0").memory_used == 2)
    monkeypatch.setattr(nvml, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(nvml, "BRIEF_SECONDS", 20.0)
    for used in range(3, 20):
        lab.set(used)
        assert monitor.usage("GPU-0").memory_used == used, "what is asked for now"
    assert len(lab.pids) == 1, "one child for all looks"


def test_a_hang_keeps_the_last_answer_and_costs_a_child(lab: Lab, monitor: NvmlMonitor) -> None:
    monitor.usage("GPU-0")
    lab.set("hang")
    ages: list[float] = []

    def replaced() -> bool:
        usage = monitor.usage("GPU-0")
        assert usage.memory_used == 1
        ages.append(usage.age)
        return len(lab.pids) > 1

    eventually(replaced)
    assert ages[-1] > nvml.ANSWER_SECONDS
    eventually(lambda: not exists(lab.pids[0]))
    lab.set(3)
    # The second child has hung as it began, for which there is more patience.
    os.kill(lab.pids[1], 9)
    eventually(lambda: monitor.usage("GPU-0").memory_used == 3)
    assert monitor.usage("GPU-0").age < ages[-1]


def test_one_that_hangs_from_the_start_delays_one_look(
    lab: Lab, monitor: NvmlMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "FIRST_SECONDS", 0.2)
    lab.set("hang")
    waits: list[float | None] = []
    real = nvml.select.select
    monkeypatch.setattr(
        nvml, "select", SimpleNamespace(select=lambda *a: (waits.append(a[3]), real(*a))[1])
    )
    for _ in range(10):
        for uuid in ("GPU-0", "GPU-1"):
            assert monitor.usage(uuid) == Usage()
    assert sum(wait or 0.0 for wait in waits) <= 0.2, "and no look after it"


@pytest.mark.parametrize("mode", ["lost", "missing"])
def test_a_lost_nvml_is_tried_anew_ever_more_rarely(
    lab: Lab, monitor: NvmlMonitor, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(nvml, "time", SimpleNamespace(monotonic=lambda: clock.now))
    # Each look sees the end of the child that it started, however busy the machine is.
    monkeypatch.setattr(nvml, "BRIEF_SECONDS", 20.0)
    lab.set(mode)
    starts = []
    for _ in range(60):
        clock.now += 0.05
        before = len(lab.pids)
        assert monitor.usage("GPU-0") == Usage()
        if len(lab.pids) > before:
            starts.append(clock.now)
    pauses = [after - before for before, after in pairwise(starts)]
    assert len(pauses) >= 4
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(0.4, abs=0.11)


def test_the_child_dies_with_its_scheduler(lab: Lab) -> None:
    lab.set("hang")
    code = (
        "import os, time; from prunectl.scheduler.devices import nvml\n"
        "nvml.FIRST_SECONDS = 0.1; m = nvml.NvmlMonitor(os.environ); m.usage('GPU-0'); time.sleep(60)"
    )
    scheduler = subprocess.Popen([sys.executable, "-c", code], env=lab.environment)
    eventually(lambda: lab.pids)
    assert exists(lab.pids[0])
    scheduler.kill()
    scheduler.wait()
    eventually(lambda: not exists(lab.pids[0]))


def test_what_nvml_does_not_tell_the_driver_did(lab: Lab, monitor: NvmlMonitor) -> None:
    lab.set("missing")
    shown = Driver((ShownDevice("00" * 16, "big", 77),))
    layer = CudaLayer(lab.environment, lambda environment: shown, monitor)
    assert layer.usage(layer.devices()[0]) == Usage(memory_total=77)


class FakeNvml:
    """Knows two boards, in another order than CUDA."""

    class NVMLError(Exception):
        pass

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        if name not in ("GPU-1", "GPU-2"):
            raise self.NVMLError
        return name

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(used=5, total=10)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return SimpleNamespace(gpu=42)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        raise self.NVMLError  # laptops do not tell

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=7, usedGpuMemory=None)]


def test_what_is_read_of_a_device() -> None:
    reader = NvmlReader(FakeNvml())
    usage = reader.read("GPU-1")
    assert (usage.utilisation, usage.temperature, usage.power) == (42, 61, None)
    assert (usage.memory_used, usage.memory_total, usage.processes) == (5, 10, ((7, 0),))
    assert reader.read("GPU-3") == Usage()

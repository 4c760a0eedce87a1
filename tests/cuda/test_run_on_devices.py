"""`prunectl run` on the fake CUDA runtime: real schedulers and real workers, and devices in trouble."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import fakecuda
from tests.support.records import scheduler_log

pytestmark = [pytest.mark.gpu, pytest.mark.fake]

ROOT = Path(__file__).parents[2]
SMALL = ("--set", "seeds=[0]", "--set", "pruning.schedule.until=0.7")
"""A trial of ten stages for each of three strategies."""


class Lab:
    """A store, devices of its own, and their locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def run(self, *options: str, **knobs: object) -> subprocess.CompletedProcess[str]:
        environment = fakecuda.environment(session=f"{os.getpid()}-{self.folder.name}", **knobs)
        places = {"PYTHONPATH": str(ROOT), "PRUNECTL_LEASES": str(self.folder / "leases")}
        command = [sys.executable, "-m", "prunectl.cli", "run", str(ROOT / "plans/quickstart.toml")]
        done = subprocess.run(
            [*command, "--plain", "--store", str(self.store), *options],
            env={**environment, **places},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done

    def log(self, kind: str) -> list[dict[str, Any]]:
        records = scheduler_log(self.store / "scheduler.jsonl")
        return [record for record in records if record["type"] == kind]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_mig_instance_is_trained_on_without_nvml(lab: Lab) -> None:
    lab.run(*SMALL, mig=1, nvml="missing")
    assert not lab.log("stage_failed")


def test_a_number_of_slots_that_memory_has_no_room_for_falls_once_for_all(lab: Lab) -> None:
    done = lab.run("--slots", "4", total_mb=700)
    falls = [record["lanes"] for record in lab.log("lanes")]
    assert falls
    assert falls == sorted(set(falls), reverse=True), "it only falls"
    failed = lab.log("stage_failed")
    assert len(failed) <= 3, "one for each slot that has no room"
    assert not any(record["final"] for record in failed)
    assert f"{falls[-1]} side by side of convnet on digits (out of memory" in done.stderr


def test_slots_by_processes_are_a_worker_each(lab: Lab) -> None:
    begin = ("--set", "seeds=[0,1,2,3]", "--set", "pruning.schedule.until=0.3")
    lab.run(*begin, "--slots", "2", "--slots-by", "processes", devices=2)
    started = [(record["device"], record["pid"]) for record in lab.log("worker_started")]
    assert sorted(device for device, _ in started) == ["cuda:0"] * 2 + ["cuda:1"] * 2
    assert len(set(started)) == 4
    assert not lab.log("stage_failed")

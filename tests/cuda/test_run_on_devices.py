"""`prunectl run` on the fake CUDA runtime: real schedulers and real workers, and devices in trouble."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record
from prunectl.store.records.events import read_events
from prunectl.store.records.result import Result
from tests.full import full
from tests.support import fakecuda
from tests.support.fakecuda import Totals
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

    def run(
        self, *options: str, code: int = 0, allocator: str = "", **knobs: object
    ) -> subprocess.CompletedProcess[str]:
        """Run the quickstart, in which no rule of CUDA's may be broken."""
        knobs = {"totals": self.folder / "totals-%p"} | knobs
        environment = fakecuda.environment(session=f"{os.getpid()}-{self.folder.name}", **knobs)
        environment |= {"PYTORCH_CUDA_ALLOC_CONF": allocator} if allocator else {}
        places = {"PYTHONPATH": str(ROOT), "PRUNECTL_LEASES": str(self.folder / "leases")}
        command = [sys.executable, "-m", "prunectl.cli", "run", str(ROOT / "plans/quickstart.toml")]
        done = subprocess.run(
            [*command, "--plain", "--store", str(self.store), *options],
            env={**environment, **places},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        assert self.total("notes") == 0
        return done

    def total(self, name: str) -> int:
        """Return what all processes together asked of CUDA."""
        read = map(Totals.read, self.folder.glob("totals-*"))
        return sum(getattr(totals, name) for totals in read)

    def log(self, kind: str) -> list[dict[str, Any]]:
        records = scheduler_log(self.store / "scheduler.jsonl")
        return [record for record in records if record["type"] == kind]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


ONE_SEED = ("--set", "seeds=[0]")
KERNELS_OF_ONE_SEED, KERNELS = 545_684, 1_637_052
"""Of all steps and evaluations of the quickstart."""
WAITS_EACH = 3
"""For each evaluation, one stage with another."""


def test_quickstart_on_one_card_of_four_slots(lab: Lab) -> None:
    """All its stages in one worker, a launch for each step."""
    lab.run(*(() if full() else ONE_SEED), "--slots", "4")
    assert not lab.log("stage_failed")
    assert len(lab.log("worker_started")) == 1
    steps, records = 0, Counter[str]()
    for done in lab.log("stage_done"):
        folder = StorePaths(lab.store).stage(done["key"])
        steps += read_record(folder.result, Result).steps
        records.update(type(record).__name__ for record in read_events(folder.events).records)
    evaluations = records["Epoch"] + records["Begin"] + records["Pruned"]
    assert lab.total("graphs") == steps + evaluations
    # For metrics, evaluations and rates of epochs and starts, for states that are kept, and in making four trainers.
    assert lab.total("waits") <= WAITS_EACH * evaluations
    kernels = lab.total("replayed")
    assert kernels == (KERNELS if full() else KERNELS_OF_ONE_SEED)


def test_a_card_that_is_dead_leaves_its_stages_to_the_other(lab: Lab) -> None:
    lab.run(*ONE_SEED, "--slots", "2", devices=2, fail_at=600, fail_device=0)
    (drained,) = lab.log("drained")
    assert drained["device"] == "cuda:0"
    assert "after 3 workers in a row were lost" in drained["reason"]
    assert not lab.log("stage_failed"), "no stage is to blame"
    assert {record["device"] for record in lab.log("worker_started")} == {"cuda:0", "cuda:1"}


def test_a_card_that_fails_once_is_used_again(lab: Lab) -> None:
    lab.run(*ONE_SEED, "--slots", "2", fail_at=900, fail_error=214, fail_once=lab.folder / "once")
    assert not lab.log("drained")
    assert not lab.log("stage_failed")
    assert len(lab.log("worker_started")) == 2


def test_a_run_whose_only_card_is_dead_ends_and_says_so(lab: Lab) -> None:
    done = lab.run(*ONE_SEED, code=1, fail_at=600, fail_error=214)
    assert len(lab.log("worker_started")) == 3
    assert "cuda:0 was given up after 3 workers in a row were lost" in done.stderr
    assert "ECC" in done.stderr
    assert "nothing is lost" in done.stderr


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


def test_an_nvml_that_hangs_holds_nothing_up(lab: Lab) -> None:
    lab.run(*SMALL, "--slots", "auto", nvml="hang")
    assert not lab.log("stage_failed")
    assert [record["reason"] for record in lab.log("run_ended")] == ["finished"]


@pytest.mark.skipif(not full(), reason="python -m tests.full cuda")
@pytest.mark.parametrize(
    ("slots", "knobs"),
    [
        ("4", {"mig": 1, "nvml": "missing"}),
        ("auto", {"nvml": "missing"}),
        ("auto", {"nvml": "lost"}),
        ("auto", {"nvml": "hang"}),
        ("4", {"total_mb": 560}),
        ("4", {"allocator": "expandable_segments:True"}),
        ("auto", {"devices": 4}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else value,
)
def test_the_whole_quickstart_in_trouble(lab: Lab, slots: str, knobs: dict[str, Any]) -> None:
    lab.run("--slots", slots, **knobs)
    assert len(lab.log("stage_done")) == 84
    assert not any(record["final"] for record in lab.log("stage_failed"))


@pytest.mark.skipif(not full(), reason="python -m tests.full cuda")
def test_nvml_that_hangs_in_the_middle_stops_nobody(lab: Lab) -> None:
    word = lab.folder / "nvml"
    word.write_text("")
    timer = threading.Timer(8, word.write_text, ["hang"])
    timer.start()
    try:
        lab.run("--slots", "auto", nvml=f"@{word}", kernel_us=20)
    finally:
        timer.cancel()
    assert len(lab.log("stage_done")) == 84

"""`prunectl run` on the fake CUDA runtime: real schedulers and real workers, and many kinds of devices."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record
from prunectl.store.records.events import read_events
from prunectl.store.records.result import Result
from tests.cuda.lab import ONE_SEED, Lab
from tests.full import full

pytestmark = [pytest.mark.gpu, pytest.mark.fake]

SMALL = ("--set", "seeds=[0]", "--set", "pruning.schedule.until=0.7")
"""A trial of ten stages for each of three strategies."""
KERNELS_OF_ONE_SEED, KERNELS = 546_662, 1_639_986
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

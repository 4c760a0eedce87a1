"""`auto`: how many stages share a device is found by measuring, never more than memory has room for."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from random import Random

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunectl.scheduler.devices.base import Device, most_slots, with_slots
from prunectl.scheduler.devices.cpu import CpuLayer
from prunectl.scheduler.items import Workload
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.slots import (
    USABLE_MEMORY,
    AutoSlots,
    FixedSlots,
    SlotChange,
    recorded_changes,
)
from tests.support.scheduler_lab import meminfo

GIB = 2**30
ENOUGH = 20.0
SMALL: Workload = ("resnet-20", "cifar10", 128, "tf32")
LARGE: Workload = ("wrn-28-10", "cifar10", 128, "tf32")
GPU = with_slots(Device("cuda:0", "cuda", "a GPU", 1, "GPU-0", 16 * GIB), "auto")
CPU = with_slots(Device("cpu", "cpu", "a CPU", 4, memory=16 * GIB), "auto")


def auto_slots(
    device: Device = GPU, used: int = 0, known: tuple[SlotChange, ...] = (), steps: int = 1
) -> AutoSlots:
    auto = AutoSlots(device.slots, device.kind == "cuda", ENOUGH, steps)
    assert device.memory is not None
    auto.start(device.memory - used, known)
    return auto


def train(
    subject: AutoSlots,
    workload: Workload,
    rate_of_one: float,
    speedup: dict[int, float],
    rounds: int = 12,
) -> list[SlotChange]:
    """Keep the device as full as it may be; what was said meanwhile."""
    said, now = [], 0.0
    subject.record_memory(workload, GIB // 8, 1)
    for number in range(rounds):
        slots = subject.slots_for(workload)
        each = rate_of_one * speedup[slots] / slots
        for second in range(int(ENOUGH) + 2):
            steps = {f"{number}-{slot}": int(second * each) for slot in range(slots)}
            change = subject.record_steps(now, steps, workload)
            now += 1.0
            if change is not None:
                said.append(change)
                break
    return said


def test_slots_are_doubled_while_that_pays_and_then_settle() -> None:
    subject = auto_slots()
    said = train(subject, SMALL, 1000, {1: 1.0, 2: 1.8, 4: 2.4, 8: 2.45})
    assert [(change.slots, change.settled) for change in said] == [
        (2, False),
        (4, False),
        (8, False),
        (4, True),
    ]
    assert "1.02× the steps/s of 4" in said[-1].reason
    assert subject.slots_for(SMALL) == 4


def test_what_gains_nothing_from_neighbours_has_none() -> None:
    subject = auto_slots()
    train(subject, LARGE, 100, {1: 1.0, 2: 1.03})
    assert subject.slots_for(LARGE) == 1
    queue = Queue()
    queue.add_device("cuda:0", GPU.slots, {LARGE: 1, SMALL: 8}.__getitem__)  # type: ignore[arg-type]
    queue.add("large", [], ["a"], 2.0, workload=LARGE)
    queue.add("small", [], ["b"], 1.0, workload=SMALL)
    assert queue.next().key == "large"  # type: ignore[union-attr]
    assert queue.next() is None
    queue.finish("large")
    assert queue.next().key == "small"  # type: ignore[union-attr]


@given(
    st.lists(
        st.tuples(st.sampled_from([SMALL, LARGE]), st.integers(1, 20 * GIB), st.integers(1, 8)),
        max_size=12,
    ),
    st.integers(0, 16 * GIB),
)
def test_never_more_than_memory_has_room_for(
    weighed: list[tuple[Workload, int, int]], used: int
) -> None:
    """Shares of a full device never need more than there is, whatever the mixture; one stage is always let in."""
    known = (SlotChange(SMALL, 8, True, None, ""), SlotChange(LARGE, 4, True, None, ""))
    subject = auto_slots(used=used, known=known)
    queue = Queue()
    queue.add_device("cuda:0", GPU.slots, subject.slots_for)  # type: ignore[arg-type]
    for workload, memory, sharing in weighed:
        subject.record_memory(workload, memory, sharing)
    each = {workload: subject._measured[workload].memory or 0 for workload in (SMALL, LARGE)}
    for number in range(20):
        queue.add(f"s{number}", [], ["t"], 1.0, workload=(SMALL, LARGE)[number % 2])
    started = []
    while (choice := queue.next()) is not None:
        started.append(queue.items[choice.key].workload)
    assert started
    assert len(started) == 1 or sum(each[workload] for workload in started) <= USABLE_MEMORY * (
        16 * GIB - used
    )  # type: ignore[index]


@given(st.lists(st.floats(0.1, 10), min_size=40, max_size=40))
def test_it_never_swings(rates: list[float]) -> None:
    """Up, then settled, then only down, whatever the device does."""
    subject = auto_slots()
    subject.record_memory(SMALL, 1, 1)
    next_rate = iter(rates)
    number = count()
    seen = [subject.slots_for(SMALL)]
    for rate in next_rate:
        slots = subject.slots_for(SMALL)
        key = next(number)
        for second in (0.0, ENOUGH):
            steps = {f"{key}-{slot}": int(second * 100 * rate) for slot in range(slots)}
            subject.record_steps(100.0 * key + second, steps, SMALL)
        seen.append(subject.slots_for(SMALL))
    top = seen.index(max(seen))
    assert seen[: top + 1] == sorted(seen[: top + 1])
    assert seen[top:] == sorted(seen[top:], reverse=True)
    assert len(set(seen[top:])) <= 2
    assert all(after <= 2 * before for before, after in pairwise(seen))


def test_memory_ends_the_doubling_and_running_out_of_it_halves() -> None:
    subject = auto_slots(used=6 * GIB)
    assert subject.record_memory(SMALL, 4 * GIB, 1) is None
    said = train(subject, SMALL, 1000, {1: 1.0, 2: 2.0})
    assert [(change.slots, change.settled) for change in said] == [(2, False), (2, True)]
    assert "no memory for 4" in said[-1].reason
    change = subject.record_overflow(SMALL, 2, 2)
    assert change is not None
    assert (change.slots, change.reason) == (1, "out of memory among 2")
    assert subject.record_overflow(SMALL, 1, 1) is None


def test_those_that_run_out_of_memory_together_cost_one_level() -> None:
    subject = auto_slots(known=(SlotChange(SMALL, 8, True, GIB, ""),))
    said = [subject.record_overflow(SMALL, sharing, sharing) for sharing in (8, 7, 6, 5)]
    assert [change and change.slots for change in said] == [4, None, None, None]
    change = subject.record_overflow(SMALL, 4, 4)
    assert change is not None
    assert change.slots == 2, "these were begun after the fall"
    among_others = subject.record_overflow(SMALL, 1, 3)
    assert among_others is not None
    assert among_others.slots == 1


@given(st.lists(st.tuples(st.sampled_from([SMALL, LARGE]), st.integers(1, 9)), max_size=40))
def test_a_fixed_number_only_falls_and_never_below_one(
    failures: list[tuple[Workload, int]],
) -> None:
    subject = FixedSlots(8)
    for workload, total in failures:
        before = {each: subject.slots_for(each) for each in (SMALL, LARGE)}
        change = subject.record_overflow(workload, total, total)
        after = {each: subject.slots_for(each) for each in (SMALL, LARGE)}
        fell = [each for each in before if after[each] < before[each]]
        assert fell == ([] if change is None else [workload])
        assert all(1 <= after[each] <= before[each] for each in after)
        if change is not None:
            assert (change.slots, change.settled) == (after[workload], False)
            assert change.slots < total, "those that failed together will not meet again"


def test_of_a_fixed_number_those_stay_that_had_room() -> None:
    subject = FixedSlots(4)
    queue = Queue()
    queue.add_device("cuda:0", 4)
    for number in range(8):
        queue.add(f"s{number}", [], ["t"], 1.0, workload=SMALL)
    running = [queue.next() for _ in range(4)]
    failed = running[1]
    assert failed is not None
    change = subject.record_overflow(SMALL, 4, 4)
    assert change is not None
    assert change.slots == 3
    queue.share_by("cuda:0", subject.slots_for)
    assert queue.fail(failed.key, "oom", sharing=4, learnt=True)
    assert queue.next() is None, "three still run"
    assert (failed.failures, failed.slot_limit) == (0, None), "any three of them have room"
    assert queue.slots("cuda:0") == 3


@pytest.mark.parametrize("busy_with", [1, 2])
def test_steps_that_are_told_16_at_a_time_do_not_decide(busy_with: int) -> None:
    """Four steps a second: twenty seconds of them are five or six beats that say something."""
    for seed in range(50):
        random = Random(seed)
        subject = auto_slots(steps=1000)
        subject.record_memory(SMALL, GIB, 1)
        said = None
        while said is None or not said.settled:
            slots, now, said = subject.slots_for(SMALL), 0.0, None
            begun = [random.uniform(0, 16) for _ in range(slots)]
            each = 4 * min(1, busy_with / slots)
            while said is None:
                steps = {f"{i}": int(begun[i] + now * each) // 16 * 16 for i in range(slots)}
                said = subject.record_steps(now, steps, SMALL)
                now += 1.0
            subject.record_steps(now, {}, None)
        assert said.slots == busy_with, said.reason


def test_nothing_is_doubled_before_its_memory_is_known() -> None:
    subject = auto_slots()
    for second in range(100):
        assert subject.record_steps(float(second), {"a": 10 * second}, SMALL) is None
    assert not subject.memory_known(SMALL)
    subject.record_memory(SMALL, GIB, 1)
    assert subject.memory_known(SMALL)
    assert subject.record_steps(100.0, {"a": 1000}, SMALL) is not None


def test_stages_that_come_and_go_or_prepare_or_are_of_two_workloads_teach_nothing() -> None:
    subject = auto_slots()
    for second in range(100):
        subject.record_steps(float(second), {f"{second}": 0}, SMALL)
        subject.record_steps(second + 0.5, {"a": second, "b": second}, None)
    assert subject.slots_for(SMALL) == 1


def test_what_was_settled_is_remembered_by_model_of_device() -> None:
    change = SlotChange(SMALL, 4, True, GIB, "4 do 2.0× …")
    record = change.to_record(GPU)
    assert recorded_changes([record], replace(GPU, id="cuda:1")) == [change]
    assert recorded_changes([record], replace(GPU, name="another")) == []
    assert recorded_changes([record], replace(GPU, slots_by="processes")) == []
    assert auto_slots(known=(change,)).slots_for(SMALL) == 4
    assert auto_slots(used=14 * GIB, known=(change,)).slots_for(SMALL) == 1


def test_the_cpu_has_a_stage_per_core_and_memory_for_each() -> None:
    subject = auto_slots(CPU)
    assert subject.slots_for(SMALL) == 4
    assert subject.record_memory(SMALL, 1 * GIB, 1) is None
    change = subject.record_memory(SMALL, 6 * GIB, 1)
    assert change is not None
    assert change.slots == 2
    assert subject.record_steps(0.0, {"a": 1}, SMALL) is None


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/job\n", "job", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/job\n",
            "memory/job",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_a_cgroup_limits_the_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    folder: str,
    names: tuple[str, str, str],
) -> None:
    most, current, inactive = names
    proc, group = tmp_path / "proc", tmp_path / "sys/fs/cgroup" / folder
    (proc / "self").mkdir(parents=True)
    group.mkdir(parents=True)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))
    (proc / "meminfo").write_text(meminfo(64_000_000, 32_000_000))
    (proc / "stat").write_text("cpu  100 0 100 800 0 0 0 0 0 0\n")
    (proc / "self/cgroup").write_text(line)
    layer = CpuLayer(proc, tmp_path / "sys")
    device = layer.devices()[0]
    assert (device.memory, layer.usage(device).memory_used) == (64_000_000 << 10, 32_000_000 << 10)
    (group / most).write_text(f"{8 * GIB}\n")
    (group / current).write_text(f"{3 * GIB}\n")
    (group / "memory.stat").write_text(f"anon 1\n{inactive} {2 * GIB}\n")
    usage = layer.usage(device)
    assert (usage.memory_used, usage.memory_total) == (GIB, 8 * GIB)


def test_plans_together_ask_for_the_most() -> None:
    assert most_slots([None, 2, 4]) == 4
    assert most_slots([2, "auto"]) == "auto"
    assert most_slots([None]) is None


@pytest.mark.parametrize("waiting", [10_000])
def test_a_decision_looks_at_few_stages_that_do_not_fit(waiting: int) -> None:
    looked = 0

    def slots_for(workload: object) -> int:
        nonlocal looked
        looked += 1
        return 1 if workload == LARGE else 4

    queue = Queue()
    queue.add_device("cuda:0", GPU.slots, slots_for)
    queue.add("first", [], ["t"], 10.0, workload=SMALL)
    for number in range(waiting):
        queue.add(f"s{number}", [], ["t"], 1.0, workload=LARGE)
    assert queue.next() is not None
    looked = 0
    assert queue.next() is None
    assert looked < 500


def test_the_number_shown_is_that_of_what_runs() -> None:
    queue = Queue()
    queue.add_device("cuda:0", 8, lambda workload: {SMALL: 4, LARGE: 1}.get(workload, 2))  # type: ignore[call-overload]
    queue.add_device("cpu", 2)
    queue.open_device("cpu", False)
    queue.add("s", [], ["t"], 1.0, workload=SMALL)
    assert queue.slots("cuda:0") == 4
    queue.next()
    assert (queue.slots("cuda:0"), queue.slots("cpu")) == (4, 2)
    queue.finish("s")
    assert queue.slots("cuda:0") == 2


def test_auto_keeps_what_the_device_is() -> None:
    assert replace(GPU, slots=1, auto=False) == Device(
        "cuda:0", "cuda", "a GPU", 1, "GPU-0", 16 * GIB
    )
    assert (GPU.slots, GPU.slots_per_worker, CPU.slots, CPU.slots_per_worker) == (8, 8, 4, 1)

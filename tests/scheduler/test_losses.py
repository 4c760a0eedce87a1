"""Where the loss of a worker belongs: the rules alone, then with processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from prunectl.bench.simulation.studies import study
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors.simulated import SimulatedExecutor
from prunectl.scheduler.executors.simulated_behaviour import Behaviour, Fate
from prunectl.scheduler.executors.simulated_world import World
from prunectl.scheduler.losses import MOST_FRESH, Losses
from prunectl.scheduler.scheduler import Scheduler
from prunectl.spec.key import stage_key
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.plan import write_study
from prunectl.store.records.scheduler_log import Dispatched, StageInterrupted
from tests.support.scheduler_lab import FakeLayer, Plan, Store, dense

RETRIES = 2


def test_a_broken_device_is_found_after_three_fresh_workers() -> None:
    losses = Losses(RETRIES)
    assert [losses.lost("cuda:0", key, fresh=True) for key in "abc"] == [
        "worker",
        "worker",
        "device",
    ]
    assert losses.lost("cuda:1", "a", fresh=True) == "worker", "another device is none of that"


def test_a_stage_is_to_blame_where_its_device_is_well_in_between() -> None:
    losses = Losses(RETRIES)
    found = []
    for _ in range(RETRIES + 1):
        found.append(losses.lost("cuda:0", "bad", fresh=True))
        losses.done("cuda:0")
    assert found == ["worker"] * RETRIES + ["stage"]
    assert losses.lost("cuda:0", "bad", fresh=True) == "worker", (
        "tried again by hand, it counts anew"
    )


def test_a_worker_that_did_stages_is_no_sign_of_a_broken_device() -> None:
    losses = Losses(RETRIES)
    for key in "abcdef":
        assert losses.lost("cuda:0", key, fresh=False) == "worker"


def test_workers_that_are_lost_together_count_as_one() -> None:
    losses = Losses(RETRIES)
    assert losses.lost("cuda:0", "a", fresh=True) == "worker"
    for key in "bcdefgh":
        assert losses.lost("cuda:0", key, fresh=True, together=True) == "worker"
    assert losses.lost("cuda:0", "a", fresh=True) == "worker"
    assert losses.lost("cuda:0", "a", fresh=True) == "device"


events = st.lists(
    st.one_of(
        st.tuples(st.just("done"), st.sampled_from("AB")),
        st.tuples(st.just("lost"), st.sampled_from("AB"), st.sampled_from("xyz"), st.booleans()),
    ),
    max_size=60,
)


@given(events)
def test_nobody_is_blamed_without_evidence(history: list[tuple[Any, ...]]) -> None:
    """A device is given up only after so many fresh losses in a row; a stage is blamed only where devices that it lost
    workers on did other stages afterwards, more often than it may fail."""
    losses = Losses(RETRIES)
    fresh: Counter[str] = Counter()
    cleared: Counter[str] = Counter()
    suspects: dict[str, set[str]] = {"A": set(), "B": set()}
    for event in history:
        if event[0] == "done":
            losses.done(event[1])
            fresh[event[1]] = 0
            cleared.update(suspects[event[1]])
            suspects[event[1]].clear()
            continue
        _, device, stage, is_fresh = event
        place = losses.lost(device, stage, fresh=is_fresh)
        if cleared[stage] >= RETRIES:
            assert place == "stage"
            cleared[stage] = 0
            continue
        fresh[device] = fresh[device] + 1 if is_fresh else 0
        suspects[device].add(stage)
        assert place == ("device" if fresh[device] >= MOST_FRESH else "worker")


# with processes


def cards(count: int, slots: int = 1) -> list[Device]:
    return [Device(f"cuda:{i}", "cuda", "fake", slots, uuid=f"GPU-{i}") for i in range(count)]


@pytest.fixture
def plan() -> Plan:
    plan = Plan()
    for seed in range(12):
        plan.trial(dense(seed))
    return plan


def run(store: Store, plan: Plan, devices: list[Device], **options: Any) -> Any:
    return store.run(store.save(plan), devices=devices, layer=FakeLayer(devices), **options)


def losses_told(store: Store) -> list[str]:
    reasons = (record["reason"] for record in store.log("worker_ended"))
    return [reason for reason in reasons if reason.startswith("lost its device")]


def test_one_broken_card_of_two_stops_nothing(store: Store, plan: Plan) -> None:
    store.fake(lost=["GPU-0"])
    beats: list[HeartbeatRecord] = []
    outcome = run(store, plan, cards(2), on_heartbeat=beats.append)
    assert outcome.ok
    assert outcome.ran == 12
    assert not store.log("stage_failed"), "no stage is to blame"
    assert len(losses_told(store)) == MOST_FRESH
    [drained] = store.log("drained")
    assert drained["device"] == "cuda:0"
    assert "unspecified launch failure" in drained["reason"]
    assert outcome.given_up == {"cuda:0": drained["reason"]}
    states = {device.id: (device.state, device.reason) for device in beats[-1].devices}
    assert states["cuda:0"] == ("drained", drained["reason"])
    assert states["cuda:1"][0] == "open"


def test_without_another_device_the_run_ends(store: Store, plan: Plan) -> None:
    store.fake(lost=["GPU"])
    outcome = run(store, plan, cards(1, slots=2))
    assert not outcome.ok
    assert not outcome.interrupted
    assert outcome.trials["waiting"] == 12
    assert outcome.failure is None
    assert list(outcome.given_up) == ["cuda:0"]
    assert store.log("run_ended")[-1]["reason"] == "devices"
    assert len(losses_told(store)) == MOST_FRESH
    store.fake()
    assert run(store, plan, cards(1)).ok, "a device that works again is used again"


def test_a_broken_card_with_a_process_for_each_slot_is_found_as_soon(store: Store) -> None:
    """One event that ends eight workers at once is no row of eight."""
    plan = Plan()
    for seed in range(24):
        plan.trial(dense(seed))
    store.fake(lost=["GPU"])
    [card] = cards(1, slots=4)
    outcome = run(store, plan, [replace(card, slots_by="processes")])
    assert list(outcome.given_up) == ["cuda:0"]
    assert not store.log("stage_failed")
    assert MOST_FRESH < len(losses_told(store)) <= 4 * MOST_FRESH


def test_a_lost_worker_takes_its_neighbours_along_and_they_pay_nothing(
    store: Store, plan: Plan
) -> None:
    bad = next(iter(plan.stages))
    store.fake(modes={bad: ["device", "normal"]})
    outcome = run(store, plan, cards(1, slots=3))
    assert outcome.ok
    assert not store.log("stage_failed")
    assert len(losses_told(store)) == 1
    lost = next(r for r in store.log("worker_ended") if r["reason"].startswith("lost its device"))
    [first, *_] = store.log("stage_interrupted")
    between = [r for r in store.log("dispatched") if first["seq"] < r["seq"] < lost["seq"]]
    assert all(r["worker"] != lost["worker"] for r in between), "a dying worker gets no stage"


def test_a_stage_that_loses_every_worker_is_given_up_and_its_device_is_not(
    store: Store, plan: Plan
) -> None:
    bad = stage_key(dense(0))
    store.fake(modes={bad: "device"})
    outcome = run(store, plan, cards(1, slots=1))
    assert not outcome.ok
    assert outcome.trials["done"] == 11
    assert outcome.trials["failed"] == 1
    assert not outcome.given_up
    [failed] = store.log("stage_failed")
    assert (failed["key"], failed["reason"], failed["final"]) == (bad, "device", True)


def test_workers_that_never_start_on_a_card_are_its_fault(store: Store, plan: Plan) -> None:
    store.fake(stillborn=True)
    outcome = run(store, plan, cards(1))
    assert list(outcome.given_up) == ["cuda:0"]
    assert "no torch here" in outcome.given_up["cuda:0"], "the cause, in the worker's own words"
    assert outcome.trials["waiting"] == 12


# with a host that is out of reach


class CutOff(Behaviour):
    """Each first attempt goes on where nobody hears of it, and ends before an epoch does."""

    epoch_seconds = 100.0

    def fate(self, world: World, key: str, attempt: int, device: Device) -> Fate:
        return "ghost" if attempt == 1 else "normal"


def test_the_next_scheduler_too_waits_for_a_worker_whose_end_nobody_saw() -> None:
    world = World(3)
    root = StorePaths(Path("/store"))
    plan = study("cut off", range(1), world.chance)
    records: list[LogRecord] = []

    def run(enough: Callable[[], bool]) -> Scheduler:
        """Be a scheduler until it is enough, and then killed."""
        process = world.process("scheduler")
        device = Device("cpu", "cpu", "made up", 1)
        executor = SimulatedExecutor(world, process, root, [device], CutOff())
        scheduler = Scheduler(
            root, executor, [plan.digest], code=CutOff.code, on_record=records.append
        )
        with process.inside():
            write_study(root, plan)
            scheduler.start()
            while not enough() and (until := scheduler.step()) is not None:
                scheduler.listen(until)
        process.kill()
        return scheduler

    def interrupted() -> list[StageInterrupted]:
        return [each for each in records if isinstance(each, StageInterrupted)]

    lease = run(lambda: bool(interrupted())).timeouts.lease
    [cut_off] = interrupted()
    assert cut_off.fenced_until == cut_off.time + lease

    def again() -> list[Dispatched]:
        given = (each for each in records if isinstance(each, Dispatched))
        return [each for each in given if each.key == cut_off.key and each.attempt == 2]

    run(lambda: bool(again()))
    assert cut_off.fenced_until <= again()[0].time <= cut_off.fenced_until + 5.0

"""Whole runs with real worker processes: what is run, in which order, and what becomes of failures."""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from prunectl.errors import StoreBusy, StoreError
from prunectl.scheduler.devices.base import CONTEXT_BYTES, Device, SlotsBy, Usage, with_slots
from prunectl.scheduler.devices.locks import DeviceLocks
from prunectl.scheduler.eta import StepTimes
from prunectl.scheduler.graph import StageGraph
from prunectl.scheduler.ingestion import Ingestion
from prunectl.scheduler.timeouts import Timeouts
from prunectl.scheduler.workers import Worker
from prunectl.spec.key import stage_key
from prunectl.spec.stage import replay_of
from prunectl.store import files
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import Note
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.journal import Journal
from prunectl.store.records.messages import Beat
from prunectl.store.records.plan import read_study
from prunectl.store.records.scheduler_log import Dispatched, StageFailed, kind
from tests.support.records import events as read
from tests.support.records import read_json, spec_json, write_json
from tests.support.scheduler_lab import FakeLayer, Plan, Store, dense, retrain


def test_every_stage_once_in_order(store: Store) -> None:
    plan = Plan()
    for seed in range(2):
        start = dense(seed)
        for density in ("0.5", "0.2"):
            first = retrain(start, density)
            plan.trial(start, first, retrain(first, "0.1", 2))
    outcome = store.run(store.save(plan))
    assert outcome.ok
    assert outcome.trials["done"] == 4
    assert outcome.ran == len(plan.stages) == 10
    started = [line["key"] for line in store.trace("start")]
    assert sorted(started) == sorted(plan.stages)
    lines = [(line["what"], line["key"]) for line in store.trace()]
    for row in plan.trials:
        for parent, child in zip(row["path"], row["path"][1:], strict=False):
            assert lines.index(("done", parent)) < lines.index(("start", child))
    assert store.run(plan.digest).ran == 0, "what is done is not done again"


def test_workers_stay_warm_and_number_no_more_than_slots(store: Store) -> None:
    plan = Plan()
    for seed in range(6):
        plan.trial(dense(seed))
    store.run(store.save(plan), slots=2)
    assert len({line["pid"] for line in store.trace()}) <= 2


def test_spec_is_written_before_the_worker_needs_it(store: Store) -> None:
    plan = Plan()
    start = dense()
    plan.trial(start)
    store.run(store.save(plan))
    key = stage_key(start)
    assert read_json(store.paths.stage(key).spec) == plan.stages[key]["spec"]


def test_a_crash_is_tried_again_and_recorded(store: Store) -> None:
    plan = Plan()
    start = dense()
    plan.trial(start, retrain(start, "0.5"))
    store.fake(modes={stage_key(start): ["crash", "normal"]})
    outcome = store.run(store.save(plan))
    assert outcome.ok
    (failure,) = store.log("stage_failed")
    assert failure["reason"] == "lost"
    assert "SIGSEGV" in failure["message"]
    assert not failure["final"]
    events = read(store.paths.stage(stage_key(start)).events)
    assert [(event["type"], event["attempt"]) for event in events] == [
        ("start", 1),
        ("failed", 1),
        ("start", 2),
        ("epoch", 2),
        ("done", 2),
    ]


def test_retries_end_and_dependants_are_blocked_while_others_go_on(store: Store) -> None:
    plan = Plan()
    bad, good = dense(0), dense(1)
    plan.trial(bad, retrain(bad, "0.5"))
    plan.trial(good, retrain(good, "0.5"))
    store.fake(modes={stage_key(bad): "exit"})
    outcome = store.run(store.save(plan))
    assert not outcome.ok
    assert (outcome.trials["failed"], outcome.trials["done"]) == (1, 1)
    assert (outcome.stages["failed"], outcome.stages["blocked"]) == (1, 1)
    assert outcome.failure
    assert outcome.failure.key == stage_key(bad)
    assert "exit status 3" in outcome.failure.message
    assert "the driver is gone" in outcome.failure.message, (
        "the end of the worker's log explains it"
    )
    assert [record["attempt"] for record in store.log("stage_failed")] == [1, 2, 3]
    (blocked,) = store.log("blocked")
    assert blocked["keys"] == plan.trials[0]["path"][1:]
    store.fake()
    assert store.run(plan.digest).ok, "running the plan again tries its failures again"


def test_a_hanging_worker_is_replaced(store: Store) -> None:
    plan = Plan()
    plan.trial(dense())
    store.fake(modes={stage_key(dense()): ["hang", "normal"]})
    assert store.run(store.save(plan)).ok
    (failure,) = store.log("stage_failed")
    assert failure["reason"] == "hung"
    assert len({line["pid"] for line in store.trace("start")}) == 2


def test_nonfinite_is_final_at_once(store: Store) -> None:
    plan = Plan()
    start = dense()
    first = retrain(start, "0.5")
    plan.trial(start, first, retrain(first, "0.2", 2))
    store.fake(modes={stage_key(first): "nonfinite"})
    outcome = store.run(store.save(plan))
    assert outcome.stages["blocked"] == 1
    assert [record["reason"] for record in store.log("stage_failed")] == ["nonfinite"]


def test_done_is_what_the_disk_says(store: Store) -> None:
    plan = Plan()
    plan.trial(dense())
    store.fake(modes={stage_key(dense()): ["liar", "normal"]})
    assert store.run(store.save(plan)).ok
    assert "no result" in store.log("stage_failed")[0]["message"]


def test_what_stages_say_for_people_is_logged_once(store: Store) -> None:
    plan = Plan()
    for seed in range(3):
        plan.trial(dense(seed))
    store.fake(modes={stage_key(dense(seed)): "noting" for seed in range(3)})
    assert store.run(store.save(plan)).ok
    assert [record["text"] for record in store.log("stage_noted")] == ["fp16 is emulated"]


def test_the_same_exception_three_times_stops_the_study_and_only_that(store: Store) -> None:
    bad, good = Plan("bad"), Plan("good")
    broken = [dense(seed) for seed in range(8)]
    for start in broken:
        bad.trial(start)
    fine = [dense(seed, steps=12) for seed in range(8)]
    for start in fine:
        good.trial(start)
    store.fake(modes={stage_key(start): "exception" for start in broken})
    outcome = store.run(store.save(bad), store.save(good), slots=1)
    assert outcome.trials == {**outcome.trials, "blocked": 8, "done": 8}
    assert "RuntimeError" in outcome.failure.traceback if outcome.failure else False
    assert "broken at step 5" in outcome.stopped["bad"]
    assert len(store.trace("failed")) <= 4
    store.fake()
    assert store.run(bad.digest).ok, "the next run begins anew"


def test_isolated_failures_stop_nothing(store: Store) -> None:
    plan = Plan()
    starts = [dense(seed) for seed in range(8)]
    for start in starts:
        plan.trial(start)
    store.fake(modes={stage_key(start): "exception" for start in starts[1:5]})
    outcome = store.run(store.save(plan), slots=1)
    assert (outcome.trials["done"], outcome.trials["failed"]) == (4, 4)
    assert not outcome.stopped


def test_a_worker_that_cannot_start_stops_the_study_with_its_words(store: Store) -> None:
    plan = Plan()
    for seed in range(6):
        plan.trial(dense(seed))
    store.fake(stillborn=True)
    outcome = store.run(store.save(plan), slots=1)
    assert "before it was ready: ImportError: no torch here" in outcome.stopped["study"]
    assert outcome.trials["blocked"] == 6
    missing = store.run(plan.digest, command=["/nowhere/python"])
    assert missing.trials["blocked"] == 6


def test_out_of_memory_is_tried_again_among_fewer(store: Store) -> None:
    device = Device("cuda:0", "cuda", "fake gpu", 4, uuid="GPU-a")
    plan = Plan()
    starts = [dense(seed) for seed in range(8)]
    for start in starts:
        plan.trial(start)
    store.fake(seconds=0.01, modes={stage_key(start): "oom-crowded" for start in starts[:2]})
    outcome = store.run(store.save(plan), devices=[device], layer=FakeLayer([device]))
    assert outcome.ok
    crowds: dict[str, list[int]] = {}
    for line in store.trace("start"):
        crowds.setdefault(line["key"], []).append(line["beside"])
    assert max(len(tries) for tries in crowds.values()) >= 2
    assert {record["reason"] for record in store.log("stage_failed")} == {"oom"}
    assert not any(record["final"] for record in store.log("stage_failed"))
    assert {line["cuda"] for line in store.trace()} == {"GPU-a"}
    assert len({line["pid"] for line in store.trace()}) >= 2, "the worker was replaced"


@pytest.mark.parametrize(("by", "workers"), [("streams", 1), ("processes", 4)])
def test_what_slots_are(store: Store, by: SlotsBy, workers: int) -> None:
    device = Device("cuda:0", "cuda", "fake gpu", 4, uuid="GPU-a", slots_by=by)
    plan = Plan()
    for seed in range(12):
        plan.trial(dense(seed))
    store.fake(seconds=0.01)
    assert store.run(store.save(plan), devices=[device], layer=FakeLayer([device])).ok
    starts = store.trace("start")
    assert len({line["pid"] for line in starts}) == workers
    assert max(line["beside"] for line in starts) == 4 // workers - 1
    assert {line["sharing"] for line in starts} == {str(workers)}


def test_auto_counts_the_memory_of_each_process_and_the_steps_of_all(store: Store) -> None:
    """3 GiB and a context each of 16 GiB, of which 0.9 are used, are room for three: so four are not tried."""
    gpu = Device("cuda:0", "cuda", "fake gpu", 1, "GPU-a", 16 << 30, slots_by="processes")
    device = with_slots(gpu, "auto")
    plan = Plan()
    for seed in range(24):
        plan.trial(dense(seed, steps=60))
    store.fake(seconds=0.01, beat=0.03, memory=3 << 30)
    outcome = store.run(store.save(plan), devices=[device], layer=FakeLayer([device]))
    assert outcome.ok
    said = store.log("lanes")
    assert [(record["lanes"], record["by"]) for record in said] == [(2, "processes")] * 2
    assert said[-1]["settled"]
    assert said[-1]["memory"] == (3 << 30) + CONTEXT_BYTES
    running = {line["pid"] for line in store.trace("start")}
    assert len(running) == 2, "two processes have a stage each"


def test_memory_that_runs_out_among_processes_costs_one_of_them(store: Store) -> None:
    device = Device("cuda:0", "cuda", "fake gpu", 4, uuid="GPU-a", slots_by="processes")
    plan = Plan()
    starts = [dense(seed) for seed in range(16)]
    for start in starts:
        plan.trial(start)
    store.fake(seconds=0.01, modes={stage_key(starts[0]): ["oom", "normal"]})
    outcome = store.run(store.save(plan), devices=[device], layer=FakeLayer([device]))
    assert outcome.ok
    assert [record["lanes"] for record in store.log("lanes")] == [3]
    ended = [record for record in store.log("worker_ended") if record["reason"] == "retired"]
    assert len(ended) == 1, "the one whose stage failed; three go on"
    assert len({line["pid"] for line in store.trace("start")}) == 4


@pytest.mark.parametrize("count", [1, 2])
def test_workers_without_a_stage_hold_memory_too(store: Store, count: int) -> None:
    """Four processes had room but one, however few of them had a stage just then."""
    device = Device("cuda:0", "cuda", "fake gpu", 4, uuid="GPU-a", slots_by="processes")
    plan = Plan()
    first = dense(0, steps=150)
    plan.trial(first)
    last = [retrain(first, density) for density in ("0.5", "0.25")[:count]]
    for stage in last:
        plan.trial(first, stage)
    for seed in range(1, 4):
        plan.trial(dense(seed, steps=100))
    store.fake(seconds=0.01, modes={stage_key(last[0]): ["oom", "normal"]})
    outcome = store.run(store.save(plan), devices=[device], layer=FakeLayer([device]))
    assert outcome.ok
    assert [record["reason"] for record in store.log("lanes")] == ["out of memory among 4"]
    assert [record["lanes"] for record in store.log("lanes")] == [3]


def test_a_fixed_number_falls_once_for_all_where_memory_is_short(store: Store) -> None:
    device = Device("cuda:0", "cuda", "fake gpu", 5, uuid="GPU-a")
    plan = Plan()
    for seed in range(30):
        plan.trial(dense(seed))
    store.fake(seconds=0.01, room=3)
    beats: list[HeartbeatRecord] = []
    digest = store.save(plan)
    options = {"devices": [device], "layer": FakeLayer([device])}
    outcome = store.run(digest, **options, on_heartbeat=beats.append)
    assert outcome.ok
    assert [record["lanes"] for record in store.log("lanes")] == [4, 3]
    assert len(store.log("stage_failed")) == 2
    late = beats[2 * len(beats) // 3 :]
    assert late[0].devices[0].reason == "3 at a time: out of memory among 4"
    assert max(len(beat.devices[0].running) for beat in late) == 3
    assert {5, 3} <= {beat.devices[0].slots for beat in beats}
    again = Plan("again")
    again.trial(dense(99))
    store.run(store.save(again), **options, on_heartbeat=beats.append)
    assert beats[-1].devices[0].slots == 5, "another run begins with what its user says"


def test_workers_know_how_many_share_the_cores_with_them(store: Store) -> None:
    devices = [Device(f"cuda:{i}", "cuda", "fake gpu", 2, uuid=f"GPU-{i}") for i in range(3)]
    plan = Plan()
    plan.trial(dense())
    assert store.run(store.save(plan), devices=devices, layer=FakeLayer(devices)).ok
    assert {line["sharing"] for line in store.trace()} == {"3"}, "each sees one device"


@pytest.mark.parametrize(
    ("settings", "found", "why"),
    [
        ({"saturates": 2, "memory": 1 << 28}, 2, "the steps/s of 2"),
        ({"memory": 3 << 30}, 4, "no memory for 8"),
    ],
)
def test_auto_finds_how_many_stages_share_a_device(
    store: Store, settings: dict[str, Any], found: int, why: str
) -> None:
    """From what workers report while they train: until twice as many do no more, or memory has no room."""
    gpu = Device("cuda:0", "cuda", "fake gpu", 1, uuid="GPU-a", memory=16 << 30)
    device = with_slots(gpu, "auto")
    plan = Plan()
    for seed in range(24):
        plan.trial(dense(seed, steps=60))
    store.fake(seconds=0.01, beat=0.03, **settings)
    beats: list[HeartbeatRecord] = []
    outcome = store.run(
        store.save(plan), devices=[device], layer=FakeLayer([device]), on_heartbeat=beats.append
    )
    assert outcome.ok
    said = store.log("lanes")
    assert said[-1]["settled"]
    assert said[-1]["lanes"] == found
    assert why in said[-1]["reason"]
    climbed = [record["lanes"] for record in said]
    assert climbed[: climbed.index(max(climbed))] == [2, 4, 8][: climbed.index(max(climbed))]
    beside = [line["beside"] for line in store.trace("start")]
    assert max(beside) <= max(climbed)
    assert all(tick.devices[0].auto for tick in beats)
    widths = {tick.devices[0].slots for tick in beats}
    assert {1, 2, found} <= widths
    store.fake(seconds=0.001)
    again = Plan("again")
    again.trial(dense(99))
    beats.clear()
    store.run(
        store.save(again), devices=[device], layer=FakeLayer([device]), on_heartbeat=beats.append
    )
    assert beats[1].devices[0].slots == found, "the next run begins with what was found"


def test_stages_with_other_flags_share_no_worker(store: Store) -> None:
    plan = Plan()
    precise = [dense(seed) for seed in range(2)]
    quick = [replace(spec, train=replace(spec.train, precision="tf32")) for spec in precise]
    for start in precise + quick:
        plan.trial(start)
    device = Device("cuda:0", "cuda", "fake gpu", 4, uuid="GPU-a")
    for devices in ([Device("cpu", "cpu", "fake", 1)], [device]):
        (store.paths.root / "trace.jsonl").unlink(missing_ok=True)
        for key in plan.stages:
            store.paths.stage(key).result.unlink(missing_ok=True)
        assert store.run(store.save(plan), devices=devices).ok
        pids = {
            spec.train.precision: {
                line["pid"] for line in store.trace("start") if line["key"] == stage_key(spec)
            }
            for spec in (precise[0], quick[0])
        }
        assert not pids["fp32"] & pids["tf32"]


def test_a_checkpoint_that_was_not_kept_is_replayed(store: Store) -> None:
    plan = Plan()
    start = dense()
    key = stage_key(start)
    for density in ("0.5", "0.2"):
        plan.trial(start, retrain(start, density, rewind=(key, 3)))
    store.fake(modes={key: "forgetful"})
    outcome = store.run(store.save(plan))
    assert outcome.ok
    replay = stage_key(replay_of(start, key, 3))
    lines = [(line["what"], line["key"]) for line in store.trace()]
    assert lines.count(("start", replay)) == 1
    for row in plan.trials:
        assert lines.index(("done", replay)) < lines.index(("start", row["path"][1]))
    more = Plan(digest="second")
    more.trial(start, retrain(start, "0.5", rewind=(key, 3)))
    more.trial(start, retrain(start, "0.5", rewind=(key, 7)))
    assert store.run(store.save(more)).ok
    starts = [line["key"] for line in store.trace("start")]
    assert starts.count(replay) == 1, "a replay is kept like any stage"
    assert stage_key(replay_of(start, key, 7)) in starts


def test_ingest_gets_every_stage_and_its_troubles_stop_nothing(store: Store) -> None:
    plan = Plan()
    for seed in range(3):
        plan.trial(dense(seed))
    seen: set[str] = set()
    threads = set()
    calls = 0

    def ingest(paths: StorePaths, keys: set[str]) -> object:
        nonlocal calls
        calls += 1
        threads.add(threading.current_thread())
        if calls == 1:
            raise StoreBusy("somebody has the database open")
        if calls == 2:
            raise ZeroDivisionError("a bug")
        if calls == 3:
            return SimpleNamespace(busy=True, notes=[])
        seen.update(keys)
        return None

    store.fake(seconds=0.01)
    assert store.run(store.save(plan), ingest=ingest).ok
    assert seen == set(plan.stages)
    assert threading.main_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_ticks_and_events_tell_the_story(store: Store) -> None:
    plan = Plan()
    start = dense()
    plan.trial(start, retrain(start, "0.5"))
    store.fake(seconds=0.03)
    ticks: list[HeartbeatRecord] = []
    events: list[LogRecord] = []
    store.run(store.save(plan), on_heartbeat=ticks.append, on_record=events.append)
    kinds = [kind(event) for event in events]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_ended"
    assert kinds.count("stage_done") == 2
    assert [record["type"] for record in store.log()] == kinds
    busy = [tick.running[stage_key(start)] for tick in ticks if stage_key(start) in tick.running]
    assert any(row.step > 0 and row.loss == 1.0 for row in busy)
    assert ticks[-1].queue.stages["done"] == 2
    assert ticks[-1].ended
    assert read_json(store.paths.heartbeat)["time"] == ticks[-1].time
    assert any(tick.eta.end for tick in ticks), "after the first stage the end is known"


def test_a_live_scheduler_keeps_others_out_and_a_dead_one_does_not(store: Store) -> None:
    plan = Plan()
    plan.trial(dense())
    store.save(plan)
    with Lock(store.paths.scheduler_lock), pytest.raises(StoreBusy):
        store.run(plan.digest)
    assert store.run(plan.digest).ok
    with pytest.raises(StoreError, match="no plan"):
        store.run("nothing")
    assert store.log("run_ended")[-1]["reason"] == "error"


def test_a_stage_that_another_process_holds_is_left_until_it_is_free(store: Store) -> None:
    plan = Plan()
    plan.trial(dense())
    lock = Lock(store.paths.stage(stage_key(dense())).lock)
    lock.acquire()
    timer = threading.Timer(0.3, lock.release)
    timer.start()
    assert store.run(store.save(plan)).ok
    timer.join()
    assert len(store.trace("start")) == 1
    assert not store.log("stage_failed")


def test_a_locked_device_is_waited_for(store: Store, tmp_path: Path) -> None:
    device = Device("cuda:0", "cuda", "fake gpu", 1, uuid="GPU-a")
    plan = Plan()
    plan.trial(dense())
    store.save(plan)
    other = DeviceLocks(tmp_path / "leases", note="another study")
    assert other.acquire(device) is None
    ticks: list[HeartbeatRecord] = []
    timer = threading.Timer(0.4, other.release_all)
    timer.start()
    assert store.run(plan.digest, devices=[device], on_heartbeat=ticks.append).ok
    timer.join()
    assert (ticks[0].devices[0].state, ticks[-1].devices[0].state) == ("leased", "open")
    assert "another study" in ticks[0].devices[0].reason
    assert "another study" in store.log("leased")[0]["reason"]


def test_sharing_skips_locks(store: Store, tmp_path: Path) -> None:
    device = Device("cuda:0", "cuda", "fake gpu", 1, uuid="GPU-a")
    plan = Plan()
    plan.trial(dense())
    other = DeviceLocks(tmp_path / "leases")
    other.acquire(device)
    assert store.run(store.save(plan), devices=[device], share=True).ok
    other.release_all()


def test_a_checkpoint_that_vanished_is_made_again(store: Store) -> None:
    plan = Plan()
    start = dense()
    key = stage_key(start)
    child = retrain(start, "0.5", rewind=(key, 3))
    plan.trial(start, child)
    store.fake(modes={stage_key(child): ["missing", "normal"]})

    def vanish(event: LogRecord) -> None:
        if isinstance(event, Dispatched) and event.key == stage_key(child):
            store.paths.stage(key).rewind(3).unlink(missing_ok=True)

    assert store.run(store.save(plan), on_record=vanish).ok
    lines = [line["key"] for line in store.trace("done")]
    assert lines == [key, stage_key(replay_of(start, key, 3)), stage_key(child)]


def test_a_full_disk_ends_the_run_and_the_next_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only tells of the run may fail; a stage that cannot be written ends it, and is not to blame."""
    plan = Plan()
    plan.trial(dense(), retrain(dense(), "0.5"))
    store.save(plan)
    store.fake(seconds=0.02)
    left = {"spec.json": 1, "heartbeat.json": 2}

    class Full(files.Disk):
        def before(self, action: str, path: Path) -> None:
            if left.get(path.name):
                left[path.name] -= 1
                raise OSError(28, "No space left on device")

    ticks: list[HeartbeatRecord] = []
    monkeypatch.setattr(files, "disk", Full())
    outcome = store.run(plan.digest, on_heartbeat=ticks.append)
    assert not outcome.ok
    assert not outcome.interrupted
    assert "spec.json: No space left" in (outcome.broken or "")
    assert store.log("run_ended")[-1]["reason"] == "disk"
    outcome = store.run(plan.digest, on_heartbeat=ticks.append)
    assert outcome.ok
    assert any("No space left" in (tick.trouble or "") for tick in ticks)
    assert not store.log("stage_failed")


def test_ingestion_waits_its_turn_and_comes_to_an_end(store: Store) -> None:
    calls: list[set[str]] = []
    ingestion = Ingestion(store.paths, lambda _, keys: calls.append(keys), every=0.2)
    for index in range(50):
        ingestion.changed([str(index)])
        ingestion.poll()
        time.sleep(0.005)
    ingestion.close()
    assert len(calls) <= 4
    assert set().union(*calls) == {str(index) for index in range(50)}


def test_the_first_of_a_workload_is_measured_in_a_worker_of_its_own(store: Store) -> None:
    """What another workload left warm in a worker would be counted with it, or hide what it takes."""
    gpu = Device("cuda:0", "cuda", "fake gpu", 1, uuid="GPU-a", memory=16 << 30)
    device = with_slots(gpu, "auto")
    names = {}
    plan = Plan()
    for seed in range(6):
        spec = dense(seed, steps=30, name="one" if seed % 2 else "two")
        names[stage_key(spec)] = spec.network.name
        plan.trial(spec)
    store.fake(seconds=0.01, beat=0.03, memory=1 << 30)
    layer = FakeLayer([device])
    assert store.run(store.save(plan), devices=[device], layer=layer).ok
    first: dict[str, Any] = {}
    for line in store.trace("start"):
        first.setdefault(names[line["key"]], line)
    assert {line["beside"] for line in first.values()} == {0}
    assert len({line["pid"] for line in first.values()}) == 2


def test_cpu_workers_count_with_all_that_they_keep(store: Store) -> None:
    device = with_slots(Device("cpu", "cpu", "fake cpu", 4, memory=16 << 30), "auto")
    plan = Plan()
    for seed in range(12):
        plan.trial(dense(seed, steps=30))
    store.fake(seconds=0.01, beat=0.03, memory=6 << 30, mixed=True)
    beats: list[HeartbeatRecord] = []
    layer = FakeLayer([device])
    assert store.run(store.save(plan), devices=[device], layer=layer, on_heartbeat=beats.append).ok
    assert store.log("lanes")[-1]["lanes"] == 2
    decided = store.log("lanes")[-1]["time"]
    after = [len(beat.devices[0].running) for beat in beats if (beat.time or 0) > decided]
    assert max(itertools.dropwhile(lambda count: count > 2, after)) == 2


def test_ingestion_that_costs_much_is_done_more_rarely(store: Store) -> None:
    calls: list[set[str]] = []

    def costly(_: StorePaths, keys: set[str]) -> None:
        calls.append(keys)
        until = time.thread_time() + 0.1  # of CPU: the one after the next is 3 s later
        while time.thread_time() < until:
            pass

    ingestion = Ingestion(store.paths, costly, every=0.01)
    for index in range(50):
        ingestion.changed([str(index)])
        ingestion.poll()
        time.sleep(0.01)
    ingestion.close()
    assert len(calls) <= 3
    assert set().union(*calls) == {str(index) for index in range(50)}


def test_step_times_are_medians_of_a_workload(store: Store) -> None:
    plan = Plan()
    specs = [dense(seed) for seed in range(3)] + [dense(0, name="other-net")]
    for spec in specs:
        plan.trial(spec)
    graph = StageGraph(store.paths)
    graph.add(read_study(store.paths, store.save(plan)))
    first, *_, other = (graph.nodes[stage_key(spec)] for spec in specs)
    times = StepTimes()
    assert times.seconds(first) is None
    for spec, seconds in zip(specs[:3], (1.0, 2.0, 30.0), strict=True):
        write_json(
            store.paths.stage(stage_key(spec)).result,
            {"key": stage_key(spec), "seconds": seconds, "steps": 10},
        )
    times.learn_from(graph)
    assert times.seconds(first) == 2.0
    assert times.seconds(other) == 2.0, "never measured: like all others"
    times.learn(other.workload, 7.0, 10)
    assert times.seconds(other) == 7.0


def test_a_parent_that_lost_its_end_is_computed_again(store: Store) -> None:
    parent, child = dense(), retrain(dense(), "0.5")
    first, second = Plan(), Plan(digest="study-2")
    first.trial(parent)
    second.trial(parent, child)
    second.created += 1
    assert store.run(store.save(first)).ok
    files_of_parent = store.paths.stage(stage_key(parent))
    files_of_parent.final.unlink()
    assert store.run(store.save(second)).ok
    assert store.done(parent)
    assert store.done(child)
    assert [record["key"] for record in store.log("reopened")] == [stage_key(parent)]
    assert list(files_of_parent.folder.glob("result.json.damaged-*")), "set aside, not lost"


def test_a_description_that_cannot_be_read_is_written_again(store: Store) -> None:
    plan = Plan()
    plan.trial(dense())
    spec = store.paths.stage(stage_key(dense())).spec
    spec.parent.mkdir(parents=True)
    spec.write_text("{")
    assert store.run(store.save(plan)).ok
    assert json.loads(spec.read_text()) == spec_json(dense())


def test_a_failure_tells_what_its_worker_said_and_how_full_the_device_was(store: Store) -> None:
    class Full(FakeLayer):
        def usage(self, device: Device) -> Usage:
            return Usage(memory_used=3 << 30, memory_total=4 << 30)

    plan = Plan()
    plan.trial(dense())
    store.fake(modes={stage_key(dense()): "exit"})
    outcome = store.run(store.save(plan), layer=Full([]))
    assert outcome.failure is not None
    assert "the driver is gone" in outcome.failure.log
    assert outcome.failure.memory == "3.0 of 4.0 GiB of cpu were in use"
    assert store.log("stage_failed")[-1]["memory"] == outcome.failure.memory


def beat(turns: int, preparing: bool = False) -> dict[str, Any]:
    return Beat(turns=turns, preparing=preparing)


def test_beats_count_only_with_progress_or_while_data_are_loaded(store: Store) -> None:
    timeouts = Timeouts(hang=5, start=5, prepare=20)
    device = Device("cpu", "cpu", "fake cpu", 1)
    worker = Worker(None, device, 0.0, running={"key"}, ready=True)  # type: ignore[arg-type]

    def hangs() -> bool:
        return worker.is_silent(now, timeouts)

    now = 4.0
    worker.hear(beat(0, preparing=True), now)
    now = 8.0
    worker.hear(beat(0, preparing=True), now)
    assert not hangs(), "it loads its data"
    now = 12.0
    worker.hear(beat(1), now)
    now = 16.0
    worker.hear(beat(1), now)
    assert not hangs()
    now = 18.0
    worker.hear(beat(1), now)
    assert hangs(), "it beats, and gets nowhere"
    for second in range(18, 33):
        worker.hear(beat(1, preparing=True), float(second))
    now = 33.0
    assert hangs(), "nothing takes so long to load"


def test_attempts_are_counted_over_all_runs_and_before_the_worker_is_told(store: Store) -> None:
    plan = Plan()
    start = dense()
    plan.trial(start)
    key = stage_key(start)
    store.fake(modes={key: ["crash", "crash", "crash", "normal"]})
    assert not store.run(store.save(plan)).ok
    with Lock(store.paths.stage(key).lock):
        # An attempt of which only the stage's own log tells.
        Journal(store.paths.stage(key).events, attempt=7).append(Note(text="moved here"))
    assert store.run(plan.digest).ok
    records = [each for each in store.log() if each["type"] in ("dispatched", "stage_failed")]
    told = [each["attempt"] for each in records if each["type"] == "dispatched"]
    assert told == [1, 2, 3, 8]
    assert [each["attempt"] for each in records if each["type"] == "stage_failed"] == [1, 2, 3]
    started = [
        each["attempt"] for each in read(store.paths.stage(key).events) if each["type"] == "start"
    ]
    assert started == told


def test_what_an_older_attempt_says_is_dropped(store: Store) -> None:
    plan = Plan()
    start = dense()
    plan.trial(start)
    store.fake(modes={stage_key(start): "stale"})
    beats: list[HeartbeatRecord] = []
    outcome = store.run(store.save(plan), on_heartbeat=beats.append)
    assert outcome.ok
    assert outcome.ran == 1
    assert not store.log("stage_failed")
    assert len(store.log("dispatched")) == 1
    assert all(stage.step < 10**6 for beat in beats for stage in beat.running.values())


def test_an_older_attempt_writes_nothing_into_a_log(store: Store) -> None:
    path = store.paths.stage("a").events
    Journal(path, attempt=3).append(Note(text="the third"))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="attempt 3's by now, not attempt 2's"):
        Journal(path, attempt=2)
    assert path.read_bytes() == before


def test_a_worker_with_other_code_starts_nothing_and_what_runs_is_finished(store: Store) -> None:
    plan = Plan()
    for seed in range(6):
        plan.trial(dense(seed))
    settings: dict[str, Any] = {
        "modes": {stage_key(dense(0)): ["crash", "normal"]},
        "seconds": 0.05,
    }
    store.fake(**settings)

    def upgrade(record: LogRecord) -> None:
        if isinstance(record, StageFailed):
            store.fake(**settings, code="prunectl 9.9")

    outcome = store.run(store.save(plan), slots=2, on_record=upgrade)
    assert not outcome.ok
    assert outcome.outdated is not None
    assert "a new worker has prunectl 9.9, the scheduler prunectl 0.1.0 (" in outcome.outdated
    assert store.done(dense(1)), "what ran was finished"
    [other] = [each for each in store.log("worker_ended") if "9.9" in each["reason"]]
    assert other["pid"] not in {line["pid"] for line in store.trace()}
    told = [each["seq"] for each in store.log("dispatched")]
    [*_, left] = [each["seq"] for each in store.log("stage_interrupted")]
    assert max(told) < left, "nothing is given out any more"
    assert len(store.log("stage_failed")) == 1, "of the crash: other code is no stage's failure"
    assert store.log("run_ended")[-1]["reason"] == "outdated"
    store.fake()
    assert store.run(plan.digest).ok

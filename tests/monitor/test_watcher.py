"""The watcher: states computed from files and locks, and nothing built that has not changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from prunectl.errors import StoreError
from prunectl.monitor import state
from prunectl.monitor.snapshot import Snapshot, TrialView
from prunectl.monitor.state import RESCAN_SECONDS
from prunectl.monitor.watcher import Watcher
from prunectl.spec.key import stage_key
from prunectl.spec.stage import replay_of
from prunectl.spec.state import State
from prunectl.store import requests
from prunectl.store.locks import Lock
from prunectl.store.records.events import Epoch, Start
from prunectl.store.records.journal import Journal
from prunectl.store.records.plan import read_outline, read_study
from prunectl.store.records.scheduler_log import Dispatched, StageDone
from tests.support.fake_run import FakeRun
from tests.support.fake_store import FakeStore
from tests.support.records import read_json, spec_json, write_json
from tests.support.scheduler_lab import Plan, Store, dense, eventually, retrain


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def plan(store: Store) -> Plan:
    """Two seeds, each a dense stage with two trials: one prunes once, one twice."""
    plan = Plan()
    for seed in range(2):
        start = dense(seed)
        first = retrain(start, "0.5")
        plan.trial(start, first, strategy="once")
        plan.trial(start, first, retrain(first, "0.2", 2), strategy="twice")
    store.save(plan)
    return plan


def trial(snapshot: Snapshot, number: int) -> TrialView:
    return snapshot.trials[number]


def finish(store: Store, key: str) -> None:
    write_json(store.paths.stage(key).result, {"key": key})


def test_an_empty_store(store: Store) -> None:
    snapshot = Watcher(store.paths).snapshot()
    assert (snapshot.trials, snapshot.plans, snapshot.counts) == ((), (), {})
    assert not snapshot.scheduler.alive
    assert snapshot.scheduler.age is None


def test_states_follow_files_and_locks(store: Store, plan: Plan) -> None:
    clock = Clock()
    watcher = Watcher(store.paths, clock)
    snapshot = watcher.snapshot()
    assert [view.state for view in snapshot.trials] == ["waiting"] * 4
    assert trial(snapshot, 0).reason == "no scheduler is running"
    assert snapshot.counts == {"waiting": 4}
    assert watcher.poll() is None

    shared, first = plan.trials[1]["path"][:2]
    files = store.paths.stage(shared)
    lock = Lock(files.lock)
    lock.acquire()
    journal = Journal(files.events)
    journal.append(Epoch(epoch=1, step=4, score=50.0, loss=1.0))
    clock.now += RESCAN_SECONDS + 1
    snapshot = watcher.snapshot()
    assert [view.state for view in snapshot.trials] == ["running"] * 2 + ["waiting"] * 2
    (running,) = snapshot.running
    assert (running.key, running.step, running.steps) == (shared, 4, 10)
    assert running.trials == (plan.trials[0]["trial"], plan.trials[1]["trial"])
    assert running.labels["seed"] == "0"
    journal.append(Epoch(epoch=2, step=8, score=60.0, loss=0.5))
    later = watcher.poll()
    assert later
    assert later.running[0].scores == (50.0, 60.0)
    assert later.running[0].epoch
    assert later.running[0].epoch.epoch == 2

    lock.release()
    snapshot = watcher.snapshot()
    assert [view.state for view in snapshot.trials][:2] == ["interrupted"] * 2
    assert snapshot.running == ()

    for key in (shared, first):
        finish(store, key)
    clock.now += RESCAN_SECONDS + 1
    snapshot = watcher.snapshot()
    assert [view.state for view in snapshot.trials] == ["done", "waiting", "waiting", "waiting"]
    assert trial(snapshot, 1).iteration == 2
    assert (trial(snapshot, 1).steps_done, trial(snapshot, 1).steps) == (15, 20)
    assert snapshot.plans[0].stages_done == 2
    assert (snapshot.plans[0].steps_done, snapshot.plans[0].steps) == (15, 40)
    files.result.unlink()
    clock.now += RESCAN_SECONDS + 1
    assert trial(watcher.snapshot(), 0).state == "interrupted", "nothing is believed for ever"
    assert set(snapshot.counts) <= set(State)


def test_coverage_counts_seeds(store: Store, plan: Plan) -> None:
    watcher = Watcher(store.paths)
    rows = {(row.labels["strategy"], row.sparsity): row for row in watcher.snapshot().coverage}
    assert set(rows) == {("once", "0.2"), ("twice", "0.2"), ("twice", "0.4")}
    assert {(row.done, row.total) for row in rows.values()} == {(0, 2)}
    store.run(plan.digest)
    rows = {(row.labels["strategy"], row.sparsity): row for row in watcher.snapshot().coverage}
    assert {(row.done, row.total) for row in rows.values()} == {(2, 2)}


def test_a_live_run_from_start_to_end(store: Store, plan: Plan) -> None:
    store.fake(seconds=0.02)
    watcher = Watcher(store.paths)
    seen: list[Snapshot] = []
    store.run(plan.digest, on_heartbeat=lambda tick: seen.append(watcher.snapshot()))
    live = [snapshot for snapshot in seen if snapshot.running]
    assert live
    view = live[-1]
    assert view.scheduler.alive
    assert view.scheduler.run
    assert view.plans[0].active
    assert view.devices[0].id == "cpu"
    assert view.devices[0].utilisation == 50.0
    assert all(row.device == "cpu" and row.worker for row in view.running)
    assert any(row.eta is not None for snapshot in live for row in snapshot.running)
    assert any(snapshot.scheduler.eta for snapshot in live)
    for snapshot in seen:
        states = Counter(view.state for view in snapshot.trials)
        assert snapshot.counts == dict(states)
        assert sum(states.values()) == 4
    last = watcher.snapshot()
    assert last.counts == {"done": 4}
    assert not last.scheduler.alive
    assert last.scheduler.ended
    assert not last.running
    texts = [event.text for event in last.events]
    assert texts[0].startswith("run ")
    assert "study queued: 0 of 6 stages done" in texts
    assert "done, 90.00 %" in texts
    assert texts[-1].endswith("finished")


def test_a_killed_scheduler_leaves_nothing_running(
    store: Store, plan: Plan, processes: list[subprocess.Popen[str]]
) -> None:
    store.fake(modes={stage_key(dense(seed)): "slow" for seed in range(2)})
    process = store.process(plan.digest)
    processes.append(process)
    watcher = Watcher(store.paths)
    eventually(lambda: len(watcher.snapshot().running) == 2)
    assert watcher.snapshot().scheduler.pid == process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not watcher.snapshot().running)
    snapshot = watcher.snapshot()
    assert not snapshot.scheduler.alive
    assert snapshot.scheduler.ended is None
    assert snapshot.counts == {"interrupted": 4}


def test_what_people_asked_for_shows_with_its_reason(store: Store, plan: Plan) -> None:
    names = [row["trial"] for row in plan.trials]
    watcher = Watcher(store.paths)
    watcher.snapshot()
    requests.change_trials(store.paths, "cancel", [names[0]])
    requests.change_trials(store.paths, "hold", [names[1]])
    requests.change_trials(store.paths, "priority", [names[3]], value=2)
    snapshot = watcher.snapshot()
    assert [view.state for view in snapshot.trials] == ["cancelled", "held", "waiting", "waiting"]
    assert [view.trial for view in snapshot.queue] == [names[3], names[2], names[1]]
    assert snapshot.queue[-1].reason == "held"
    assert trial(snapshot, 3).priority == 2
    assert [event.text for event in snapshot.events] == [
        "cancelled 1 trial",
        "held 1 trial",
        "priority of 1 trial set",
    ]


def test_failures_and_stopped_studies(store: Store, plan: Plan) -> None:
    watcher = Watcher(store.paths)
    store.fake(modes={stage_key(dense(0)): "nonfinite"})
    store.run(plan.digest)
    snapshot = watcher.snapshot()
    assert [view.state for view in snapshot.trials] == ["failed", "failed", "done", "done"]
    assert trial(snapshot, 0).reason == "nonfinite: weights are not finite"
    (failure,) = snapshot.failures
    assert failure.key == stage_key(dense(0))
    assert failure.trials == (plan.trials[0]["trial"], plan.trials[1]["trial"])
    assert "FloatingPointError" in failure.traceback
    assert {row.failed for row in snapshot.coverage} == {1}
    other = Plan("other")
    for seed in range(4):
        other.trial(dense(seed + 5))
    store.fake(modes={key: "exception" for key in other.stages})
    store.run(store.save(other), slots=1)
    snapshot = watcher.snapshot()
    assert snapshot.plans[0].stopped
    assert {view.state for view in snapshot.trials if view.trial.plan == "other"} == {"blocked"}


def test_replays_are_shown_with_the_trials_that_wait_for_them(store: Store) -> None:
    plan = Plan()
    start = dense()
    key = stage_key(start)
    plan.trial(start, retrain(start, "0.5", rewind=(key, 3)))
    store.save(plan)
    finish(store, key)
    spec = replay_of(start, key, 3)
    files = store.paths.stage(stage_key(spec))
    write_json(files.spec, spec_json(spec))
    Journal(files.events).append(Start(step=0))
    Journal(store.paths.scheduler_log).append(
        Dispatched(key=stage_key(spec), device="cpu", worker=1, attempt=1)
    )
    with Lock(files.lock), Lock(store.paths.scheduler_lock):
        write_json(store.paths.heartbeat, {"time": 1.0, "plans": [plan.digest]})
        snapshot = Watcher(store.paths).snapshot()
    (running,) = snapshot.running
    assert running.replay
    assert running.trials == (plan.trials[0]["trial"],)
    assert snapshot.trials[0].reason == f"replay of {key[:8]} to step 3"


def test_unchanged_trials_are_not_built_anew(store: Store) -> None:
    plan = Plan()
    for seed in range(50):
        plan.trial(dense(seed))
    watcher = Watcher(store.paths)
    store.save(plan)
    before = watcher.snapshot()
    key = stage_key(dense(3))
    finish(store, key)
    Journal(store.paths.scheduler_log).append(StageDone(key=key))
    after = watcher.poll()
    assert after
    fresh = [new for old, new in zip(before.trials, after.trials, strict=True) if new is not old]
    assert [view.trial.path for view in fresh] == [(key,)]
    assert fresh[0].state == "done"


@pytest.mark.parametrize("made_by", ["this version", "one that wrote the time last", "hand"])
def test_a_first_outline_of_long_plans_knows_the_trials_and_the_second_snapshot_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_by: str
) -> None:
    monkeypatch.setattr(state, "OUTLINE_BYTES", 1)
    maker = FakeStore(tmp_path)
    digest = maker.plan(seeds=2)
    for key in next(iter(maker.trials.values())):
        maker.finish(key)
    if made_by != "this version":
        record = read_json(maker.paths.plan(digest))
        record = record | {"created": record.pop("created")}
        text = json.dumps(record, indent=1 if made_by == "hand" else None)
        maker.paths.plan(digest).write_text(text)
    watcher = Watcher(maker.paths, clock=Clock(), outline_first=True)
    first, second = watcher.poll(), watcher.poll()
    whole = Watcher(maker.paths, clock=Clock()).snapshot()
    assert first
    assert [(v.trial, v.state) for v in first.trials] == [(v.trial, v.state) for v in whole.trials]
    assert first.counts == whole.counts == {"done": 1, "waiting": 3}
    assert first.coverage == whole.coverage
    assert second == whole
    assert watcher.poll() is None
    assert {plan.steps for plan in first.plans} == {0}


def test_only_long_plans_are_looked_at_twice(store: Store, plan: Plan) -> None:
    watcher = Watcher(store.paths, outline_first=True)
    assert watcher.snapshot().plans[0].steps
    assert watcher.poll() is None


def test_a_run_is_seen_in_an_outline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "OUTLINE_BYTES", 1)
    maker = FakeStore(tmp_path)
    maker.plan(seeds=2)
    with FakeRun(maker, 3, hertz=50.0) as run:
        watcher = Watcher(maker.paths, outline_first=True)
        for _ in range(2):
            snapshot = watcher.snapshot()
            assert len(snapshot.running) == 3
            assert all(view.trials and not view.replay for view in snapshot.running)
        eventually(lambda: watcher.snapshot().counts.get("done", 0) > 0)
        assert watcher.snapshot().scheduler.alive
    assert not run.running
    assert not watcher.snapshot().scheduler.alive


def test_watching_imports_nothing_heavy() -> None:
    code = (
        "import sys, prunectl.monitor.watcher, prunectl.store.requests\n"
        "heavy = {'torch', 'duckdb', 'textual', 'numpy', 'pydantic', 'pynvml'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("damage", [{"path": []}, {"sparsities": ["0"]}, {"path": ["a"] * 9}])
def test_a_plan_whose_trials_do_not_fit_together_is_named_and_left_out(
    store: Store, plan: Plan, damage: dict[str, list[str]]
) -> None:
    file = store.paths.plan(plan.digest)
    record = read_json(file)
    record["trials"][0] |= damage
    write_json(file, record)
    store.save(Plan("other"))
    assert [each.name for each in Watcher(store.paths).snapshot().plans] == ["other"]
    for read in (read_study, read_outline):
        with pytest.raises(StoreError, match=rf"{plan.digest}.*{record['trials'][0]['trial']}"):
            read(store.paths, plan.digest)


def test_a_plan_that_was_renamed_by_hand_is_watched(store: Store, plan: Plan) -> None:
    file = store.paths.plan(plan.digest)
    write_json(file, read_json(file) | {"name": "renamed"})
    [found] = Watcher(store.paths).snapshot().plans
    assert (found.name, sum(found.counts.values())) == ("renamed", len(plan.trials))

"""Requests: carried out and logged by a live scheduler, recorded for the next one where there is none."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from prunectl.errors import ControlError
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.outcome import Outcome
from prunectl.scheduler.scheduler import Scheduler
from prunectl.spec.key import stage_key
from prunectl.store import requests
from prunectl.store.files import write_text
from prunectl.store.records.requests import AddPlan, Cancel, Drain, Priority, Stop, Undrain
from prunectl.store.records.scheduler_log import Answered, History
from prunectl.store.select import find_trials
from tests.support.records import read_json, write_json
from tests.support.scheduler_lab import QUICK, FakeLayer, Plan, Store, dense, eventually, retrain


class Live:
    """A scheduler in a thread of this process."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.outcome: Outcome | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.outcome = self.scheduler.run()

    def join(self) -> Outcome:
        self.thread.join(10)
        assert self.outcome is not None
        return self.outcome


@contextmanager
def live(store: Store, *plans: str, **options: Any) -> Iterator[Live]:
    """Run plans beside the test; stopped at the end if they are not done by then."""
    runner = Live(store.scheduler(*plans, **options))
    eventually(lambda: requests.alive(store.paths))
    try:
        yield runner
    finally:
        if runner.thread.is_alive() and requests.alive(store.paths):
            requests.send(store.paths, Stop(now=True))
        runner.thread.join(10)


@pytest.fixture
def plan(store: Store) -> Plan:
    """Two trials that share a dense stage, which stands still half-way, and one on its own."""
    plan = Plan()
    shared, alone = dense(0), dense(1)
    plan.trial(shared, retrain(shared, "0.5"), strategy="fine-tune")
    plan.trial(shared, retrain(shared, "0.2"), strategy="lr-rewind")
    plan.trial(alone, strategy="lr-rewind")
    store.save(plan)
    store.fake(modes={stage_key(spec): "slow" for spec in (shared, alone)})
    return plan


def started(store: Store, count: int) -> None:
    eventually(lambda: len(store.trace("start")) >= count)


def names(plan: Plan) -> list[str]:
    return [row["trial"] for row in plan.trials]


def test_a_shared_stage_survives_one_cancel_and_not_two(store: Store, plan: Plan) -> None:
    a, b, c = names(plan)
    with live(store, plan.digest) as runner:
        started(store, 2)
        answer = requests.change_trials(store.paths, "cancel", [a])
        assert (answer.ok, answer.by, answer.text) == (True, "scheduler", "cancelled 1 trial")
        time.sleep(0.1)
        assert store.trace("interrupted") == []
        requests.change_trials(store.paths, "cancel", [b[:6], c])
        outcome = runner.join()
    assert len(store.trace("interrupted")) == 2
    assert outcome.trials["cancelled"] == 3
    assert outcome.ok
    assert not outcome.interrupted
    assert [record["trials"] for record in store.log("cancelled")] == [[a], [b, c]]
    assert not list(store.paths.requests.iterdir())
    store.fake()
    again = store.run(plan.digest)
    assert again.ran == 0, "a cancel persists"
    assert requests.change_trials(store.paths, "retry", [a]).by == "store"
    again = store.run(plan.digest)
    assert (again.trials["done"], again.trials["cancelled"]) == (1, 2)


def test_holding_checkpoints_and_frees_the_slot_until_release(store: Store, plan: Plan) -> None:
    with live(store, plan.digest) as runner:
        started(store, 2)
        requests.change_trials(store.paths, "hold", ["all"])
        eventually(lambda: len(store.trace("interrupted")) == 2)
        store.fake()
        time.sleep(0.3)
        assert runner.thread.is_alive(), "held in this run: it waits"
        key = stage_key(dense(0))
        for pid in {line["pid"] for line in store.trace("start")}:
            os.kill(pid, 9)  # fakes read their modes when they start
        requests.change_trials(store.paths, "release", ["all"])
        outcome = runner.join()
    assert outcome.ok
    assert outcome.trials["done"] == 3
    assert [line["what"] for line in store.trace() if line["key"] == key] == [
        "start",
        "interrupted",
        "start",
        "done",
    ]


def test_holds_of_an_earlier_run_do_not_keep_a_run_waiting(store: Store, plan: Plan) -> None:
    store.fake()
    a, *_ = names(plan)
    answer = requests.change_trials(store.paths, "hold", [a])
    assert "the next run carries it out" in answer.text
    outcome = store.run(plan.digest)
    assert (outcome.trials["held"], outcome.trials["done"]) == (1, 2)
    assert outcome.ok


def test_priorities_are_set_changed_and_remembered(store: Store, plan: Plan) -> None:
    a, _, c = names(plan)
    requests.change_trials(store.paths, "priority", [c], value=5)
    requests.change_trials(store.paths, "priority", [a, c], change=-2)
    history = History()
    history.catch_up(store.paths)
    assert history.priority == {a: -2, c: 3}
    store.fake()
    store.run(plan.digest, slots=1)
    assert store.trace("start")[0]["key"] == stage_key(dense(1))
    with pytest.raises(ControlError, match="either"):
        requests.change_trials(store.paths, "priority", [c])


def test_failed_trials_are_tried_again_on_request(store: Store, plan: Plan) -> None:
    held = stage_key(dense(0))
    store.fake(modes={stage_key(dense(1)): "nonfinite", held: "slow"})
    with live(store, plan.digest):
        eventually(lambda: store.log("stage_failed"))
        assert [trial.id for trial in find_trials(store.paths, ["state=failed"])] == [
            names(plan)[2]
        ]
        answer = requests.change_trials(store.paths, "retry", ["state=failed"])
        assert answer.trials == (names(plan)[2],)
        eventually(lambda: len(store.log("stage_failed")) == 2)
    assert store.log("retried")[0]["keys"] == [stage_key(dense(1))]


def test_a_plan_is_added_to_a_live_scheduler(store: Store, plan: Plan) -> None:
    more = Plan("more")
    more.trial(dense(2))
    with live(store, plan.digest):
        started(store, 2)
        answer = requests.request(store.paths, AddPlan(plan=store.save(more)))
        assert answer.ok
        assert answer.text == "more: 1 trials, 1 stages, 0 of them done"
        for name in ("nothing", "no\0name", "n" * 300):
            assert not requests.request(store.paths, AddPlan(plan=name)).ok
        requests.change_trials(store.paths, "cancel", ["plan=study"])
        eventually(lambda: store.done(dense(2)))


def test_a_plan_that_is_added_twice_is_run_once(store: Store, plan: Plan) -> None:
    more = Plan("more")
    more.trial(dense(2), retrain(dense(2), "0.5"))
    digest = store.save(more)
    with live(store, plan.digest):
        started(store, 2)
        for _ in range(3):
            assert requests.request(store.paths, AddPlan(plan=digest)).ok
        requests.change_trials(store.paths, "cancel", [names(plan)[2]])
        eventually(lambda: store.done(retrain(dense(2), "0.5")))
        assert requests.request(store.paths, AddPlan(plan=digest)).text.endswith("2 of them done")
    begun = [line["key"] for line in store.trace("start")]
    assert len(begun) == len(set(begun)) == 4


def test_a_plan_that_was_handed_over_is_run_by_the_next_scheduler(store: Store, plan: Plan) -> None:
    """With its own, and queued once, however often it was asked for."""
    store.fake()
    more = Plan("more")
    more.trial(dense(2))
    store.save(more)
    for _ in range(3):
        requests.send(store.paths, AddPlan(plan=more.digest))
    outcome = store.run(plan.digest)
    assert outcome.trials["done"] == 4
    assert [record["name"] for record in store.log("queued")] == ["study", "more"]
    assert not requests.pending(store.paths)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_plan_that_was_accepted_outlives_a_kill_and_no_stop(
    store: Store, plan: Plan, processes: list[subprocess.Popen[str]], end: str
) -> None:
    """But not one whose trials have all ended, if in failure."""
    lost, failed = Plan("lost"), Plan("failed")
    lost.trial(dense(2), retrain(dense(2), "0.5"))
    failed.trial(dense(3))
    slow = {stage_key(spec): "slow" for spec in (dense(0), dense(1), dense(2))}
    store.fake(modes={**slow, stage_key(dense(3)): "nonfinite"})
    process = store.process(store.save(plan), slots=4)
    processes.append(process)
    eventually(lambda: requests.alive(store.paths))
    for each in (failed, lost):
        assert requests.request(store.paths, AddPlan(plan=store.save(each))).ok
    started(store, 4)
    eventually(lambda: store.log("stage_failed"))
    if end == "kill":
        process.kill()
    else:
        requests.request(store.paths, Stop())
    process.wait()
    store.fake()
    for _ in range(2):
        store.run(plan.digest)
    assert store.done(retrain(dense(2), "0.5")) == (end == "kill")
    assert not store.done(dense(3))
    queued = [record["name"] for record in store.log("queued")]
    assert queued.count("lost") == (2 if end == "kill" else 1)
    assert queued.count("failed") == 1


def test_a_stopping_scheduler_leaves_a_plan_to_the_next(store: Store, plan: Plan) -> None:
    """It says so once; a plan that it refuses for what it is does not stay."""
    store.fake(modes={stage_key(dense(0)): "deaf"})
    more = Plan("more")
    more.trial(dense(2))
    store.save(more)
    with live(store, plan.digest, timeouts=replace(QUICK, stop=60.0)) as runner:
        started(store, 2)  # both, for the other one ends
        assert not requests.request(store.paths, AddPlan(plan="nothing")).ok
        eventually(lambda: not requests.pending(store.paths))  # withdrawn after its answer
        requests.request(store.paths, Stop())
        asked = requests.add_plan(store.paths, more.digest)
        answer = requests.answer_to(store.paths, asked)
        assert isinstance(answer, Answered)
        assert (answer.ok, answer.later) == (False, True)
        assert requests.request(store.paths, Stop(now=True)).ok
        runner.join()
    assert len(store.log("request")) == 4
    assert [request.id for request in requests.pending(store.paths)] == [asked]
    store.fake()
    assert store.run(plan.digest).trials["done"] == 4
    assert store.log("request")[-1]["ok"]
    assert not requests.pending(store.paths)


def test_stop_is_carried_out_and_asks_for_a_scheduler(store: Store, plan: Plan) -> None:
    with live(store, plan.digest) as runner:
        started(store, 2)
        assert requests.request(store.paths, Stop()).ok
        assert runner.join().interrupted
    assert len(store.trace("interrupted")) == 2
    with pytest.raises(ControlError, match="no scheduler"):
        requests.request(store.paths, Stop())


def test_what_was_asked_of_a_dead_scheduler(store: Store, plan: Plan) -> None:
    """Its cancel is carried out by the next one; its stop is not."""
    store.fake()
    requests.send(store.paths, Cancel(trials=tuple(names(plan)[:1])))
    requests.send(store.paths, Stop(now=True))
    write_text(store.paths.requests / "stray.json", "{")
    outcome = store.run(plan.digest)
    assert outcome.trials["cancelled"] == 1
    assert outcome.trials["done"] == 2
    assert not list(store.paths.requests.iterdir())


def test_a_request_that_was_logged_is_not_carried_out_twice(store: Store, plan: Plan) -> None:
    store.fake()
    name = requests.send(store.paths, Priority(trials=tuple(names(plan)[:1]), change=1))
    file = store.paths.requests / f"{name}.json"
    request = read_json(file)
    store.run(plan.digest)
    write_json(file, request)
    store.run(plan.digest)
    assert len(store.log("priority")) == 1
    assert not requests.pending(store.paths)


def test_nonsense_is_named_and_removed(store: Store, plan: Plan) -> None:
    files = {
        "1": {"id": "1", "do": "dance"},
        "2": {"id": "2", "do": "cancel", "trials": 3},
        "3": {"id": "3", "do": "add-plan"},
        "4": {"id": "other", "do": "stop"},
        "5": ["stop"],
    }
    for name, content in files.items():
        write_json(store.paths.requests / f"{name}.json", content)
    (store.paths.requests / "6.json").write_text('{"do":"stop","id":"6","more":' + "[" * 100_000)
    refused: list[str] = []
    assert requests.pending(store.paths, refused.append) == []
    assert [text.partition(" ")[0] for text in refused] == [
        *(f"{name}.json" for name in files), "6.json"
    ]  # fmt: skip
    assert not list(store.paths.requests.iterdir())
    for name, content in files.items():
        write_json(store.paths.requests / f"{name}.json", content)
    with live(store, plan.digest):
        eventually(lambda: not list(store.paths.requests.iterdir()))
        answer = requests.request(store.paths, Drain(device="cuda:9"))
        assert not answer.ok
        assert "cuda:9" in answer.text


def test_no_answer_takes_the_request_back(store: Store) -> None:
    from prunectl.store.locks import Lock

    with Lock(store.paths.scheduler_lock):
        answer = requests.request(store.paths, Stop(), timeout=0.1)
    assert (answer.ok, answer.by) == (False, "nobody")
    assert not requests.pending(store.paths)


def test_a_drained_device_is_left_at_once_and_used_again(store: Store, plan: Plan) -> None:
    devices = [
        Device(f"cuda:{index}", "cuda", "fake gpu", 1, uuid=f"GPU-{index}") for index in range(2)
    ]
    lease = os.environ["PRUNECTL_LEASES"]
    with live(store, plan.digest, devices=devices, layer=FakeLayer(devices)) as runner:
        started(store, 2)
        assert requests.request(store.paths, Drain(device="cuda:1")).ok
        eventually(lambda: len(store.trace("interrupted")) == 1)
        eventually(lambda: not held(f"{lease}/GPU-1.lock"))
        assert held(f"{lease}/GPU-0.lock")
        time.sleep(0.2)
        assert len(runner.scheduler.dispatcher.running) == 1
        assert (
            requests.request(store.paths, Undrain(device="cuda:1")).text == "cuda:1 is used again"
        )
        started(store, 3)
        assert store.trace("start")[-1]["cuda"] == "GPU-1"


def held(path: str) -> bool:
    from pathlib import Path

    from prunectl.store.locks import is_held

    return is_held(Path(path))


def test_selectors(store: Store, plan: Plan) -> None:
    def chosen(*selectors: str) -> list[int]:
        found = [trial.id for trial in find_trials(store.paths, selectors)]
        return [names(plan).index(name) for name in found]

    a, b, _ = names(plan)
    assert chosen(a) == chosen(a[:5]) == chosen(a.upper()) == [0]
    assert chosen(b, a) == [0, 1]
    assert chosen("all") == [0, 1, 2]
    assert chosen("strategy=lr-rewind") == [1, 2]
    assert chosen("strategy=lr-rewind,seed=1") == [2]
    for wrong, words in (
        ("0", "begins 3 trials"),
        ("ff", "no trial"),
        ("", "begins 3"),
        ("strategy=magic", "no trial"),
        ("colour=red", "no label"),
        ("state=odd", "state=odd"),
    ):
        with pytest.raises(ControlError, match=words):
            chosen(wrong)


# conditions in SQL


def test_trials_are_chosen_by_a_condition_on_trials_or_on_iterations(store: Store) -> None:
    plan = Plan()
    first = plan.trial(dense(0), retrain(dense(0), "0.5"), strategy="fine-tune")
    second = plan.trial(dense(1), retrain(dense(1), "0.5"), strategy="lr-rewind")
    store.run(store.save(plan))

    def found(where: str, *selectors: str) -> list[str]:
        return [trial.id for trial in find_trials(store.paths, selectors, where)]

    assert found("strategy = 'fine-tune'") == [first]
    assert found("seed >= 0 -- all of them") == [first, second]
    assert found("seed >= 0", second) == [second]
    assert found("iteration = 1 AND accuracy > 89") == [first, second]
    with pytest.raises(ControlError, match="is true of no trial"):
        found("seed = 7")
    with pytest.raises(ControlError, match='column "strateg" not found'):
        found("strateg = 'fine-tune'")
    with pytest.raises(ControlError, match="--where"):
        found("seed =")
    with pytest.raises(ControlError):
        found("1 = 1); DELETE FROM trials; SELECT (1 = 1")
    answer = requests.change_trials(store.paths, "hold", [], where="strategy = 'lr-rewind'")
    assert answer.trials == (second,)


def test_a_stop_counts_although_the_clock_was_set_back(store: Store) -> None:
    """Only what was asked for before the scheduler started is not meant for it."""
    plan = Plan()
    plan.trial(dense())
    store.fake(modes={stage_key(dense()): "slow"})
    asked: list[str] = []

    def ask(tick: dict[str, Any]) -> None:
        if store.trace("start") and not asked:
            name = requests.send(store.paths, Stop())
            asked.append(name)
            path = store.paths.requests / f"{name}.json"
            write_json(path, read_json(path) | {"time": time.time() - 3600})

    outcome = store.run(store.save(plan), on_heartbeat=ask)
    assert outcome.interrupted
    assert store.log("request")[-1]["answer"] == "stopping after a checkpoint"

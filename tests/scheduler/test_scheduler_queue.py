"""The queue as a pure state machine: no process is started and no clock is read."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.scheduler.eta import Pace, StepTimes, simulate
from prunectl.scheduler.graph import Node
from prunectl.scheduler.items import Workload
from prunectl.scheduler.queue import Queue
from prunectl.spec.key import NUMERICS, Spec
from prunectl.spec.state import State
from tests.support.fake_plan import dense


def chain(queue: Queue, trial: str, *keys: str, cost: float = 1.0) -> None:
    """A trial that is a path of stages."""
    for parent, key in itertools.pairwise(("", *keys)):
        queue.add(key, [parent] if parent else [], [trial], cost)


def queue_with(slots: int = 1, retries: int = 2, *, each: str = "", **paths: str) -> Queue:
    """Trials by name as strings of one-letter stage keys, on one device; `each` has trials of one stage."""
    queue = Queue(retries)
    for name in each:
        chain(queue, name, name)
    for trial, path in paths.items():
        chain(queue, trial, *path)
    queue.add_device("cpu", slots)
    return queue


def drain(queue: Queue) -> list[str]:
    """Run everything to its end, one stage after the other; the order."""
    order = []
    while choice := queue.next():
        order.append(choice.key)
        queue.finish(choice.key)
    return order


def test_longest_chain_first_then_order_of_adding() -> None:
    assert drain(queue_with(a="a", b="bcd", c="e")) == ["b", "c", "a", "d", "e"]


def test_costs_decide_chains() -> None:
    queue = queue_with(a="a", b="bc")
    queue.set_costs({"a": 10.0})
    assert drain(queue) == ["a", "b", "c"]


def test_a_replay_for_a_stage_that_runs_is_worth_nothing_when_that_is_done() -> None:
    queue = queue_with(t="a", u="d")
    queue.set_costs({"a": 5.0, "d": 3.0})
    assert (queue.next() or queue).key == "a"  # type: ignore[union-attr]
    queue.add("r", [], ["t"], 0.0, replay=True)
    queue.add("a", ["r"], ["t"], 5.0)
    queue.add("c", ["r"], ["t"], 2.0)
    assert queue.next() is None, "its slot is taken; the order is made while a runs"
    queue.finish("a")
    assert drain(queue) == ["d", "r", "c"]


def test_priority_goes_before_chains_and_reaches_shared_stages() -> None:
    queue = queue_with(a="ab", b="cdef")
    queue.prioritise({"a": 1})
    assert drain(queue) == ["a", "b", "c", "d", "e", "f"]
    queue = queue_with(a="ax", b="ay", c="cde")
    queue.prioritise({"b": 1})
    assert drain(queue)[:2] == ["a", "y"]


def test_slots_are_filled_and_never_overfilled() -> None:
    queue = queue_with(slots=2, a="a", b="b", c="c")
    queue.add_device("cuda:0", 1)
    first = [queue.next() for _ in range(4)]
    assert [choice and choice.device for choice in first] == ["cpu", "cuda:0", "cpu", None]
    queue = queue_with(slots=2, a="a", b="b", c="c")
    assert queue.next()
    assert queue.next()
    assert queue.next() is None
    queue.finish("a")
    assert (queue.next() or queue).key == "c"  # type: ignore[union-attr]


def test_closed_devices_take_nothing() -> None:
    queue = queue_with(a="a")
    queue.open_device("cpu", False)
    assert queue.next() is None
    assert not queue.exhausted
    queue.open_device("cpu")
    assert queue.next() is not None


def test_retry_is_bounded_and_lets_others_go_first() -> None:
    queue = queue_with(a="ax", b="b")
    order = []
    while choice := queue.next():
        order.append((choice.key, choice.failures + 1))
        if choice.key == "a":
            queue.fail("a", "exception", "boom")
        else:
            queue.finish(choice.key)
    assert order == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]
    assert queue.state("a") is State.FAILED
    assert queue.state("x") is State.BLOCKED
    assert queue.reason("x") == "needs a, which failed (exception: boom)"
    assert queue.trial_state("a") is State.FAILED
    assert queue.trial_state("b") is State.DONE
    assert queue.exhausted


@pytest.mark.parametrize("reason", ["nonfinite", "data"])
def test_what_is_certain_to_fail_again_is_not_tried_again(reason: str) -> None:
    queue = queue_with(a="ab")
    assert queue.next()
    assert not queue.fail("a", reason)
    assert queue.exhausted


def test_retry_by_request_starts_afresh_and_unblocks() -> None:
    queue = queue_with(retries=0, a="ab", b="cd")
    for _ in range(2):
        choice = queue.next()
        assert choice
        queue.fail(choice.key, "exception")
    assert queue.exhausted
    assert queue.retry(["a"]) == ["a"]
    assert drain(queue) == ["a", "b"]
    assert queue.state("d") is State.BLOCKED


def test_out_of_memory_means_fewer_neighbours_and_costs_no_attempt() -> None:
    queue = queue_with(slots=4, retries=0, each="abcdefgh")
    running = [queue.next() for _ in range(4)]
    assert all(running)
    assert queue.fail("a", "oom", sharing=4)
    assert queue.items["a"].slot_limit == 2
    for _ in range(4):  # every slot that comes free is taken by another first
        assert (queue.next() or queue).key != "a"  # type: ignore[union-attr]
        queue.finish(next(iter(queue.running)))
    sizes = []
    while queue.running or queue.next():
        while queue.next():
            pass
        if "a" in queue.running:
            sizes.append(len(queue.running))
            if len(sizes) == 1:
                assert queue.fail("a", "oom", sharing=2)
                assert queue.items["a"].slot_limit == 1
                continue
            assert not queue.fail("a", "oom", sharing=1)  # alone: now it counts
            continue
        queue.finish(next(iter(queue.running)))
    assert sizes[0] <= 2
    assert sizes[1] == 1
    assert queue.state("a") is State.FAILED


def test_a_device_is_left_to_empty_for_a_stage_that_must_run_alone() -> None:
    queue = queue_with(slots=2, each="a01234567")
    assert [queue.next() is not None for _ in range(2)] == [True, True]
    queue.fail("a", "oom", sharing=2)
    seen = []
    while not queue.exhausted:
        while choice := queue.next():
            seen.append((choice.key, len(queue.running)))
        queue.finish(next(iter(queue.running)))
    assert ("a", 1) in seen
    assert seen.index(("a", 1)) < len(seen) - 2, "it must not wait until all others are done"


def test_lost_among_neighbours_accuses_nobody() -> None:
    queue = queue_with(slots=2, retries=0, a="a", b="b")
    assert queue.next()
    assert queue.next()
    assert queue.fail("a", "lost", sharing=2)
    assert queue.fail("b", "lost", sharing=2)
    assert queue.items["a"].failures == 0


def test_shared_stage_runs_while_any_trial_wants_it() -> None:
    queue = queue_with(a="dx", b="dy")
    queue.cancel(["a"])
    assert queue.next()
    assert queue.to_recall() == []
    queue.cancel(["b"])
    assert queue.to_recall() == ["d"]
    queue.interrupted("d")
    assert queue.next() is None
    assert {queue.state(key) for key in "dxy"} == {State.CANCELLED}
    queue.retry(["b"])
    assert drain(queue) == ["d", "y"]
    assert queue.state("x") is State.CANCELLED


def test_hold_and_release() -> None:
    queue = queue_with(a="dx", b="dy")
    queue.hold(["a"])
    assert drain(queue) == ["d", "y"]
    assert queue.state("x") is State.HELD
    assert queue.trial_state("a") is State.HELD
    assert queue.exhausted
    queue.release(["a"])
    assert drain(queue) == ["x"]


def test_stopped_studies_are_blocked_with_the_reason() -> None:
    queue = queue_with(a="a", b="b")
    queue.stop_trials(["a"], "stopped: all alike")
    assert drain(queue) == ["b"]
    assert queue.state("a") is State.BLOCKED
    assert queue.reason("a") == "stopped: all alike"


def test_postponed_stages_stay_out_of_the_way() -> None:
    queue = queue_with(a="a", b="b")
    assert (queue.next() or queue).key == "a"  # type: ignore[union-attr]
    queue.postpone("a")
    assert (queue.next() or queue).key == "b"  # type: ignore[union-attr]
    queue.finish("b")
    assert queue.next() is None
    assert not queue.exhausted
    queue.resume_postponed()
    assert drain(queue) == ["a"]


def test_more_needs_and_trials_can_be_added_later() -> None:
    queue = queue_with(a="dx")
    queue.add("r", ["d"], ["a"], 1)
    queue.add("x", ["r"], ["b"], 1)
    assert drain(queue) == ["d", "r", "x"]
    assert queue.trial_state("b") is State.DONE


def test_simulation_of_two_slots() -> None:
    queue = queue_with(slots=2, a="abc", b="d", c="e")
    seconds = dict.fromkeys("abcde", 10.0)
    forecast = simulate(queue, seconds, 2)
    assert forecast.end == 30
    assert forecast.trials == {"a": 30, "b": 10, "c": 20}
    queue.next()
    assert simulate(queue, {**seconds, "a": 4.0}, 2).end == 24


ACTIONS = ["done", "done", "done", "oom", "exception", "cut", "cancel", "hold", "release", "retry"]
dags = st.lists(
    st.tuples(st.sets(st.integers(0, 30), max_size=3), st.integers(0, 4), st.booleans()),
    min_size=1,
    max_size=24,
)


@settings(deadline=None, max_examples=100)
@given(dags, st.integers(1, 4), st.data())
def test_whatever_happens_the_rules_hold(
    dag: list[tuple[set[int], int, bool]], slots: int, data: st.DataObject
) -> None:
    queue = Queue(retries=1)
    needs: dict[str, set[str]] = {}
    for index, (parents, trial, _) in enumerate(dag):
        key = f"s{index}"
        needs[key] = {f"s{parent % index}" for parent in parents} if index else set()
        queue.add(key, needs[key], [f"t{trial}"], 1.0)
    # A trial needs its stages with all that these need, as plans make them.
    for key in reversed(list(needs)):
        for parent in needs[key]:
            queue.add(parent, [], queue.items[key].trials, 1.0)
    queue.add_device("x", slots)
    queue.add_device("y", 1)
    done: set[str] = set()
    for _ in range(80):
        choice = queue.next()
        states = [queue.state(key) for key in queue.items]
        assert queue.counts() == {state.value: states.count(state) for state in State}
        assert all(len(slots.running) <= slots.most for slots in queue.devices.values())
        if choice is not None:
            assert needs[choice.key] <= done
            assert choice.key not in done
            assert any(
                trial not in queue.cancelled | queue.held
                for trial in queue.items[choice.key].trials
            )
            continue
        if queue.exhausted:
            break
        action = data.draw(st.sampled_from(ACTIONS))
        name = f"t{data.draw(st.integers(0, 4))}"
        running = sorted(queue.running)
        if action in ("cancel", "hold", "release", "retry"):
            getattr(queue, action)([name])
        elif running:
            key = data.draw(st.sampled_from(running))
            if action == "done":
                queue.finish(key)
                done.add(key)
            elif action == "cut":
                queue.interrupted(key)
            else:
                queue.fail(key, action, sharing=len(queue.devices[queue.running[key]].running))
    # Holds, retries and cuts may go on for ever, but nothing may be stuck.
    queue.release([f"t{i}" for i in range(5)])
    queue.retry([f"t{i}" for i in range(5)])
    for _ in range(3 * len(dag)):
        while queue.next():
            pass
        for key in list(queue.running):
            queue.finish(key)
    assert all(queue.state(key) is State.DONE for key in needs)


def test_a_stage_that_moves_is_counted_without_looking_at_the_others() -> None:
    queue = Queue()
    for seed in range(500):
        chain(queue, f"t{seed}", *(f"{seed}-{i}" for i in range(20)))
    queue.add_device("cpu", 8)
    while queue.next():
        pass
    assert queue.counts()["running"] == 8
    looked = []
    state = queue.state
    queue.state = lambda key: (looked.append(key), state(key))[1]  # type: ignore[method-assign]
    queue.finish(next(iter(queue.running)))
    queue.next()
    counts = queue.counts()
    assert (counts["running"], counts["done"], counts["waiting"]) == (8, 1, 9_991)
    assert len(looked) < 10


def test_only_a_speed_that_changed_by_a_tenth_is_news() -> None:
    def workload(network: str) -> Workload:
        return network, "d", 128, "fp32"

    times = StepTimes()
    assert not times.changed()
    times.learn(workload("a"), 10.0, 10)
    assert times.changed()
    for _ in range(9):
        times.learn(workload("a"), 10.9, 10)
    assert not times.changed()
    for _ in range(9):
        times.learn(workload("a"), 11.2, 10)
    assert times.changed()
    assert not times.changed()
    times.learn(workload("b"), 11.2, 10)
    assert not times.changed(), "that is what it was taken for"
    times.learn(workload("c"), 15.0, 10)
    assert times.changed()


def test_a_stage_is_estimated_by_its_workload_until_its_own_speed_is_known() -> None:
    node = Node("key", Spec(NUMERICS, dense()), 100)
    times, pace = StepTimes(), Pace(100)
    assert times.seconds_left(node, pace, 0.0) is None
    times.learn(("other", "d", 128, "fp32"), 20.0, 10)
    assert times.seconds(node) == times.seconds_left(node, pace, 0.0) == 200.0
    times.learn(node.workload, 10.0, 10)
    assert times.seconds(node) == times.seconds_left(node, pace, 0.0) == 100.0
    pace.beat(50.0, 40, 100)
    assert times.seconds_left(node, pace, 55.0) == 60.0, "one beat is no speed"
    pace.beat(60.0, 60, 100)
    assert times.seconds_left(node, pace, 60.0) == 20.0
    assert times.seconds_left(node, pace, 70.0) == 40.0, "it has done nothing since"
    pace.beat(70.0, 100, 100)
    assert times.seconds_left(node, pace, 80.0) == 0.0


def test_ten_thousand_stages_are_decided_without_looking_at_each() -> None:
    queue = Queue()
    for seed in range(500):
        chain(queue, f"t{seed}", *(f"{seed}-{i}" for i in range(20)))
    queue.add_device("cpu", 8)
    looks = 0
    eligible = queue._eligible

    def counting(item):  # type: ignore[no-untyped-def]
        nonlocal looks
        looks += 1
        return eligible(item)

    for _ in range(8):
        assert queue.next()
    queue._eligible = counting  # type: ignore[method-assign]
    for _ in range(1000):
        queue.finish(next(iter(queue.running)))
        assert queue.next()
    assert looks < 10_000

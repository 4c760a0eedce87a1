"""How plans stand for the command that asked for them: their own trials alone, and when nothing more is to come."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from prunectl.monitor.plan_status import UNFINISHED, PlanStatus
from prunectl.spec.key import stage_key
from prunectl.spec.stage import replay_of
from prunectl.spec.state import State
from prunectl.spec.study import Study
from prunectl.store import requests
from prunectl.store.records.base import LogRecord
from prunectl.store.records.plan import read_study
from prunectl.store.records.requests import AddPlan, Cancel, Stop
from prunectl.store.records.scheduler_log import (
    Answered,
    Dispatched,
    StageDone,
    StageFailed,
    StudyStopped,
    read_scheduler_log,
)
from tests.support.scheduler_lab import Plan, Store, dense, retrain


def saved(store: Store, plan: Plan) -> Study:
    return read_study(store.paths, store.save(plan))


def logged(store: Store) -> Sequence[LogRecord]:
    return read_scheduler_log(store.paths.scheduler_log).records


@pytest.fixture
def study(store: Store) -> Study:
    """Two trials that share a dense stage."""
    plan = Plan()
    for density in ("0.5", "0.2"):
        plan.trial(dense(), retrain(dense(), density))
    return saved(store, plan)


def test_another_plan_and_another_version_are_nothing_to_it(store: Store, study: Study) -> None:
    other = Plan("other")
    other.trial(dense(1))
    newer = Plan(digest="study-2", created=2000.0)
    newer.trial(dense(2))
    store.fake(modes={stage_key(dense(seed)): "nonfinite" for seed in (1, 2)})
    store.run(study.digest, saved(store, other).digest, saved(store, newer).digest)
    status = PlanStatus(store.paths, [study])
    assert (status.counts[State.DONE], status.ok, status.failure) == (2, True, None)
    assert len(status.done) == 3
    assert status.settled(())
    told = [record for record in logged(store) if status.concerns(record)]
    assert {record.key for record in told if isinstance(record, StageDone)} == status.done
    assert not any(isinstance(record, StageFailed) for record in told)
    failed = PlanStatus(store.paths, [saved(store, other), saved(store, newer)])
    assert (failed.counts[State.FAILED], failed.ok) == (2, False)
    assert failed.failure is not None
    # Both run at once; the first to fail is told.
    first = next(record for record in logged(store) if isinstance(record, StageFailed))
    assert failed.failure.key == first.key


def test_what_is_asked_of_others_does_not_concern_it(store: Store, study: Study) -> None:
    status = PlanStatus(store.paths, [study])
    own = study.trials[0].id
    assert status.concerns(Answered(request=AddPlan(plan=study.digest)))
    assert not status.concerns(Answered(request=AddPlan(plan="other")))
    assert status.concerns(Answered(request=Cancel(trials=("other", own))))
    assert not status.concerns(Answered(request=Cancel(trials=("other",))))
    assert status.concerns(Answered(request=Stop()))
    assert not status.concerns(StudyStopped(plan="other"))


def test_a_hold_is_waited_for_if_it_is_new(store: Store, study: Study) -> None:
    first = study.trials[0].id
    requests.change_trials(store.paths, "hold", [first])
    store.run(study.digest)
    status = PlanStatus(store.paths, [study])
    assert (status.unfinished, status.ok) == (False, True)
    assert status.settled([first])
    assert not status.settled(())


def test_a_plan_that_was_stopped_early_says_why_and_how_it_began(store: Store) -> None:
    plan = Plan()
    for seed in range(4):
        plan.trial(dense(seed))
    store.fake(modes={stage_key(dense(seed)): "exception" for seed in range(4)})
    study = saved(store, plan)
    store.run(study.digest, slots=1)
    status = PlanStatus(store.paths, [study])
    assert status.settled(())
    assert not status.ok
    assert "the first 3 stages failed alike" in status.stops[0]
    assert status.failure is not None
    assert "broken at step" in status.failure.message


def test_a_replay_that_fails_is_its_failure_until_the_plan_is_run_again(store: Store) -> None:
    """It is on nobody's path."""
    plan = Plan()
    key, replay = stage_key(dense()), stage_key(replay_of(dense(), stage_key(dense()), 3))
    plan.trial(dense(), retrain(dense(), "0.5", rewind=(key, 3)))
    store.fake(modes={key: "forgetful", replay: "nonfinite"})
    study = saved(store, plan)
    store.run(study.digest)
    status = PlanStatus(store.paths, [study])
    assert status.counts[State.FAILED] == 1
    assert status.failure is not None
    assert status.failure.key == replay
    assert status.needs(replay)
    assert not status.needs("f" * 64)
    store.fake()
    again: list[State] = []

    def look(record: LogRecord) -> None:
        if isinstance(record, Dispatched):
            status.update()
            again.append(status.trials[0].state)

    assert store.run(study.digest, on_record=look).ok
    assert again[0] in UNFINISHED, "as soon as it is queued, not when the replay is done"

"""The scheduler's queue and a viewer, which has only the log and the files, come to the same states."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.monitor.state import Change, LogTail, StoreState
from prunectl.monitor.trials import TrialViews
from prunectl.scheduler.queue import Queue
from prunectl.spec.key import NUMERICS, Spec
from prunectl.spec.state import State
from prunectl.spec.study import PlannedStage, Study
from prunectl.spec.trial import Trial
from prunectl.store.paths import StorePaths
from prunectl.store.records import scheduler_log as logged
from prunectl.store.records.base import LogRecord
from prunectl.store.records.heartbeat import HeartbeatRecord
from tests.support.fake_plan import dense

REPLAY = "replay"
"""Of the dense stage, needed by the first stage after it: on nobody's path."""


class World:
    """Four trials with stages in common; whatever is done to the queue is written where a viewer looks."""

    def __init__(self) -> None:
        # A dense stage, a stage that two trials share, ends of their own; and one trial by itself.
        paths = {"t0": "dae", "t1": "dab", "t2": "dc", "t3": "x"}
        needs = {"d": [], "a": ["d"], "e": ["a"], "b": ["a"], "c": ["d"], "x": []}
        trials = tuple(
            Trial(name, name, 0, tuple(path), tuple("0" for _ in path), "study")
            for name, path in paths.items()
        )
        stages = {key: PlannedStage(Spec(NUMERICS, dense()), 10, 5) for key in needs}
        self.study = Study(digest="digest", name="study", trials=trials, stages=stages)
        self.queue = Queue(retries=1)
        for key, needed in needs.items():
            users = [name for name, path in paths.items() if key in path]
            self.queue.add(key, needed, users, 1.0)
        self.queue.add(REPLAY, ["d"], ["t0", "t1"], 1.0, replay=True)
        self.queue.add("a", [REPLAY], [], 1.0)
        self.queue.add_device("cpu", 3)
        self.store = StoreState(StorePaths(Path("/nowhere")))
        self.store.studies = [self.study]
        for trial in trials:
            for key in trial.path:
                self.store.trials_of.setdefault(key, []).append(trial)
        self.store.alive = True
        self.store.heartbeat = HeartbeatRecord(plans=("digest",))
        self.store.trial_ids = lambda key: (  # type: ignore[method-assign]
            tuple(sorted(self.queue.items[key].trials))
        )
        self.store.replay_of = lambda key: None  # type: ignore[method-assign]

    def log(self, record: LogRecord) -> None:
        self.store.history.feed([record])

    def found(self, key: str, state: State) -> None:
        """Let the stage's files say so."""
        self.store.tails.pop(key, None)
        if state is State.RUNNING:
            self.store.tails[key] = LogTail()
        self.store.states[key] = state

    def step(self, action: str, trial: str, pick: int) -> None:
        running = sorted(self.queue.running)
        key = running[pick % len(running)] if running else ""
        match action:
            case "start":
                if item := self.queue.next():
                    self.found(item.key, State.RUNNING)
                    self.log(logged.Dispatched(key=item.key))
            case "done" if key:
                self.queue.finish(key)
                self.found(key, State.DONE)
                self.log(logged.StageDone(key=key))
            case "cut" if key:
                self.queue.interrupted(key)
                self.found(key, State.INTERRUPTED)
                self.log(logged.StageInterrupted(key=key))
            case "fail" | "nonfinite" if key:
                again = self.queue.fail(key, action, "boom")
                self.found(key, State.INTERRUPTED)
                self.log(
                    logged.StageFailed(key=key, reason=action, message="boom", final=not again)
                )
            case "cancel" | "hold" | "release" as do:
                getattr(self.queue, do)([trial])
                past = {"cancel": logged.Cancelled, "hold": logged.Held, "release": logged.Released}
                self.log(past[do](trials=(trial,)))
            case "retry":
                keys = tuple(self.queue.retry([trial]))
                self.log(logged.Retried(trials=(trial,), keys=keys))
            case "stop":
                self.queue.stop_trials([trial.id for trial in self.study.trials], "stopped")
                self.log(logged.StudyStopped(plan="digest", reason="stopped"))
            case "again":
                keys = self.queue.forgive(trial.id for trial in self.study.trials)
                self.log(logged.Queued(plan="digest"))
                self.log(logged.Retried(keys=tuple(keys)))

    def states(self) -> tuple[dict[str, State], dict[str, State]]:
        """What the queue says and what a viewer says."""
        views = TrialViews(self.store).update(Change(everything=True))
        seen = {view.trial.id: view.state for view in views}
        return {name: self.queue.trial_state(name) for name in seen}, seen


WEIGHTS = {"start": 4, "done": 3, "fail": 2} | dict.fromkeys(
    ("cut", "nonfinite", "cancel", "hold", "release", "retry", "stop", "again"), 1
)
ACTIONS = st.sampled_from([action for action, weight in WEIGHTS.items() for _ in range(weight)])
STEPS = st.tuples(ACTIONS, st.sampled_from(["t0", "t1", "t2", "t3"]), st.integers(0, 5))


@settings(deadline=None, max_examples=200)
@given(st.lists(STEPS, max_size=60))
def test_queue_and_viewer_agree_on_every_trial(steps: list[tuple[str, str, int]]) -> None:
    world = World()
    for step in steps:
        world.step(*step)
        queue, viewer = world.states()
        assert queue == viewer, step


def test_a_trial_with_a_stage_that_runs_is_running_also_where_it_is_held_or_stopped() -> None:
    for action in ("hold", "stop"):
        world = World()
        world.step("start", "", 0)
        world.step(action, "t0", 0)
        queue, viewer = world.states()
        assert queue == viewer
        assert queue["t0"] is State.RUNNING


def test_a_failed_replay_fails_the_trials_that_need_it() -> None:
    world = World()
    world.queue.finish("d")
    world.found("d", State.DONE)
    world.queue.items[REPLAY].failures = 1
    while world.queue.next():
        pass
    world.queue.fail(REPLAY, "exception", "boom")
    world.log(logged.StageFailed(key=REPLAY, message="boom", final=True))
    views = TrialViews(world.store).update(Change(everything=True))
    assert [(view.state, view.reason) for view in views[:2]] == [
        (State.FAILED, "exception: boom")
    ] * 2
    assert world.queue.trial_state("t0") is State.FAILED

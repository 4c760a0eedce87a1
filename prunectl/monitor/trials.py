"""Compute the state of every trial, and why it is in it; only what changed is computed again."""

from __future__ import annotations

from collections.abc import Iterable

from prunectl.monitor.snapshot import TrialView
from prunectl.monitor.state import Change, StoreState
from prunectl.spec.state import State, asked_of, trial_state
from prunectl.spec.study import Study
from prunectl.spec.trial import Trial
from prunectl.store.narration import failure
from prunectl.store.records.scheduler_log import StageFailed


class TrialViews:
    """The trials of a store's current plans."""

    def __init__(self, store: StoreState) -> None:
        self._store = store
        self._views: dict[tuple[str, str], TrialView] = {}
        """By plan and trial."""
        self._in_heartbeat: set[str] = set()
        """Trials that the last heartbeat had an estimate or a place in the queue for."""
        self._failed_replays: dict[str, StageFailed] = {}
        """By trial, the failure of a replay that it needs; its path has only the plan's own stages."""

    def update(self, change: Change) -> tuple[TrialView, ...]:
        """Compute anew what the change concerns. Returns all trials of the current plans."""
        store, beat = self._store, self._store.beat
        touched = {trial for key in change.stages for trial in store.trial_ids(key)}
        in_heartbeat = set(beat.eta.trials)
        for key in (*beat.queue.next, *store.running):
            in_heartbeat.update(store.trial_ids(key))
        # Those of the heartbeat before as well: an estimate or a reason that it no longer has must go.
        touched |= in_heartbeat | self._in_heartbeat
        self._in_heartbeat = in_heartbeat
        if change.everything:
            self._views.clear()
            self._failed_replays = {
                trial: record
                for key, record in store.history.failures.items()
                if key not in store.trials_of
                for trial in store.trial_ids(key)
            }
        views: dict[tuple[str, str], TrialView] = {}
        for study in store.studies:
            for trial in study.trials:
                name = study.name, trial.id
                known = None if trial.id in touched else self._views.get(name)
                views[name] = known or self._trial(study, trial)
        self._views = views
        return tuple(views.values())

    def _trial(self, study: Study, trial: Trial) -> TrialView:
        store, beat, path = self._store, self._store.beat, trial.path
        done = [store.states.get(key) is State.DONE for key in path]
        iteration = done.index(False) if not all(done) else len(path)
        complete = iteration == len(path)
        state = State.DONE if complete else self._state(study, trial, path[iteration:])
        steps = sum(
            store.steps.get(key, 0) for key, is_done in zip(path, done, strict=True) if is_done
        )
        if not complete and path[iteration] in store.running:
            running = beat.running.get(path[iteration])
            steps += 0 if running is None else running.step
        return TrialView(
            trial=trial,
            state=state,
            iteration=min(iteration, len(path) - 1),
            steps=sum(store.steps.get(key, 0) for key in path),
            steps_done=steps,
            priority=store.history.priority.get(trial.id, 0),
            reason=self._reason(state, study, trial, iteration),
            eta=None if complete else beat.eta.trials.get(trial.id),
        )

    def _state(self, study: Study, trial: Trial, rest: Iterable[str]) -> State:
        """Return the state of a trial that is not done; `rest` begins with the first stage that is not."""
        history = self._store.history
        path = {self._own_state(key) for key in rest}
        if trial.id in self._failed_replays:
            path.add(State.FAILED)
        asked = asked_of(
            cancelled=trial.id in history.cancelled,
            stopped=history.is_stopped(study.digest, trial.id),
            held=trial.id in history.held,
        )
        return trial_state(path, asked)

    def _own_state(self, key: str) -> State:
        """Return the stage's state by its files and the scheduler's log, whatever is asked of its trials."""
        store = self._store
        state = store.states.get(key, State.WAITING)
        if state in (State.DONE, State.RUNNING):
            return state
        if key in store.history.failures:
            return State.FAILED
        return (
            State.WAITING if store.alive else state
        )  # a live scheduler goes on with what was begun

    def _reason(self, state: State, study: Study, trial: Trial, iteration: int) -> str:
        """Describe in words why the trial is in the state; "" where that says it."""
        store, history = self._store, self._store.history
        match state:
            case State.DONE | State.RUNNING:
                return ""
            case State.FAILED:
                failures = [history.failures[key] for key in trial.path if key in history.failures]
                record = (failures or [self._failed_replays[trial.id]])[0]
                return failure(record.reason, record.message)
            case State.BLOCKED:
                return history.stopped[study.digest]
            case State.WAITING if store.alive and study.digest in store.beat.plans:
                return self._waits_for(trial.path[iteration], study)
            case State.WAITING | State.INTERRUPTED:
                return "not queued" if store.alive else "no scheduler is running"
        return state.value

    def _waits_for(self, key: str, study: Study) -> str:
        store = self._store
        setback = store.history.setbacks.get(key)
        if setback is not None:
            return f"to be tried again ({setback.reason})"
        stage = study.stages.get(key)
        source = stage.stage.checkpoint if stage else None
        if source is not None:
            for other in store.running:
                if other not in store.trials_of and store.replay_of(other) == source:
                    return f"replay of {source[0][:8]} to step {source[1]}"
        return store.beat.queue.reasons.get(key, "")

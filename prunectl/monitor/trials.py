"""Compute the state of every trial, and why it is in it; only what changed is computed again."""

from __future__ import annotations

from prunectl.monitor.snapshot import TrialView
from prunectl.monitor.state import Change, StoreState
from prunectl.spec.study import Study
from prunectl.spec.trial import Trial


class TrialViews:
    """The trials of a store's current plans."""

    def __init__(self, store: StoreState) -> None:
        self._store = store
        self._views: dict[tuple[str, str], TrialView] = {}
        """By plan and trial."""
        self._in_heartbeat: set[str] = set()
        """Trials that the last heartbeat had an estimate or a place in the queue for."""

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
        done = [store.states.get(key) == "done" for key in path]
        iteration = done.index(False) if not all(done) else len(path)
        complete = iteration == len(path)
        state, reason = ("done", "") if complete else self._state(study, trial, iteration)
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
            reason=reason,
            eta=None if complete else beat.eta.trials.get(trial.id),
        )

    def _state(self, study: Study, trial: Trial, iteration: int) -> tuple[str, str]:
        """Compute the state of a trial that is not done; also the reason, in words."""
        store, history = self._store, self._store.history
        rest = trial.path[iteration:]
        if trial.id in history.cancelled:
            return "cancelled", "cancelled"
        # Before running: a path with a failed stage will not end, whatever of it still runs.
        for key in rest:
            if key in history.failures:
                record = history.failures[key]
                return "failed", f"{record.reason}: {record.message}".rstrip(": ")
        if any(key in store.running for key in rest):
            return "running", ""
        if study.digest in history.stopped:
            return "blocked", history.stopped[study.digest]
        if trial.id in history.held:
            return "held", "held"
        if not store.alive:
            begun = any(store.states.get(key) == "begun" for key in rest)
            return ("interrupted" if begun else "waiting"), "no scheduler is running"
        if study.digest not in store.beat.plans:
            return "waiting", "not queued"
        return "waiting", self._waits_for(rest[0], study)

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

"""Watch a store: take frozen snapshots of its state without ever touching a run.

What did not change since the last snapshot is not built anew, so that a store with ten thousand trials can be
watched four times a second. No DuckDB, no torch, no Textual: `status`, plain progress and the terminal UI share it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from prunectl.gc_pause import without_collector
from prunectl.monitor.snapshot import (
    CoverageView,
    DeviceView,
    EventView,
    FailureView,
    PlanView,
    QueuedView,
    RunningView,
    SchedulerView,
    Snapshot,
    TrialView,
)
from prunectl.monitor.state import Change, LogTail, StoreState
from prunectl.store.journal import Record
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import Study, Trial
from prunectl.store.records.scheduler_log import QUIET, describe

QUEUE = 500
"""Trials of the queue that a snapshot lists."""

Group = tuple[str, tuple[tuple[str, str], ...], str]
"""Plan, labels, sparsity: coverage counts the seeds of each."""


class Watcher:
    """Makes snapshots of a store. Not safe between threads: give each its own."""

    def __init__(
        self,
        paths: StorePaths,
        clock: Callable[[], float] = time.time,
        *,
        outline_first: bool = False,
    ) -> None:
        """`outline_first`: the first snapshot of a large store lacks steps, which take longer to read than all the
        rest.
        """
        self.store = StoreState(paths, outline_first=outline_first)
        self._clock = clock
        self._last: Snapshot | None = None
        self._trials: dict[tuple[str, str], TrialView] = {}
        """By plan and trial."""
        self._in_heartbeat: set[str] = set()
        """Trials that the last heartbeat had estimates or queue places of."""
        self._groups: dict[Group, list[tuple[Trial, int]]] = {}
        self._groups_of: dict[str, list[Group]] = {}
        self._coverage: dict[Group, CoverageView] = {}

    def snapshot(self) -> Snapshot:
        """Return the state of the store now."""
        now = self._clock()
        new = self._renewed(now)
        if new is None:
            last = self._last
            assert last is not None
            new = replace(last, time=now, scheduler=replace(last.scheduler, age=self._age(now)))
            self._last = new
        return new

    def poll(self) -> Snapshot | None:
        """Return a new snapshot, or None where nothing has changed since the last."""
        return self._renewed(self._clock())

    def _renewed(self, now: float) -> Snapshot | None:
        with without_collector(keep=not self.store.complete):
            change = self.store.update(now)
            if self._last is not None and not change:
                return None
            self._last = self._build(now, change)
        return self._last

    # the whole

    def _build(self, now: float, change: Change) -> Snapshot:
        store = self.store
        beat = store.heartbeat if store.alive else {}
        first = self._last is None
        trials = self._trial_views(beat, change, first)
        by_plan: dict[str, Counter[str]] = {study.name: Counter() for study in store.studies}
        for view in trials:
            by_plan[view.plan][view.state] += 1
        plans = tuple(self._plan(study, by_plan[study.name], beat) for study in store.studies)
        active = {plan.name for plan in plans if plan.active} or set(by_plan)
        return Snapshot(
            time=now,
            store=str(store.paths.root),
            scheduler=self._scheduler(now),
            plans=plans,
            counts=dict(sum((by_plan[name] for name in active), Counter())),
            devices=tuple(_device(row) for row in beat.get("devices", ())),
            running=self._running(beat),
            queue=_queue(trials, beat),
            trials=trials,
            failures=self._failures(),
            events=tuple(
                self._event(record) for record in store.events if record["type"] not in QUIET
            ),
            coverage=self._cover(change, first),
        )

    def _age(self, now: float) -> float | None:
        beat = self.store.heartbeat.get("time")
        return None if beat is None else max(0.0, now - beat)

    def _scheduler(self, now: float) -> SchedulerView:
        beat, alive = self.store.heartbeat, self.store.alive
        return SchedulerView(
            alive=alive,
            age=self._age(now),
            run=beat.get("run"),
            pid=beat.get("pid"),
            host=beat.get("host"),
            started=beat.get("started"),
            stopping=beat.get("stopping") if alive else None,
            ended=None if alive else beat.get("ended"),
            trouble=beat.get("trouble") if alive else None,
            eta=beat.get("eta", {}).get("end") if alive else None,
        )

    def _plan(self, study: Study, counts: Counter[str], beat: dict[str, Any]) -> PlanView:
        store = self.store
        done = [key for key in study.stages if store.states.get(key) == "done"]
        running = beat.get("running", {})
        partly = sum(
            running.get(key, {}).get("step", 0) for key in store.running if key in study.stages
        )
        return PlanView(
            name=study.name,
            digest=study.digest,
            active=study.digest in beat.get("plans", ()),
            counts=dict(counts),
            stages=len(study.stages),
            stages_done=len(done),
            steps=study.steps,
            steps_done=partly + sum(study.stages[key].steps for key in done),
            stopped=store.history.stopped.get(study.digest, ""),
        )

    # trials

    def _trial_views(
        self, beat: dict[str, Any], change: Change, first: bool
    ) -> tuple[TrialView, ...]:
        store = self.store
        everything = first or change.everything
        touched = {trial.trial for key in change.stages for trial in store.trials_for(key)}
        volatile = set(beat.get("eta", {}).get("trials", {}))
        for key in (*beat.get("queue", {}).get("next", ()), *store.running):
            volatile.update(trial.trial for trial in store.trials_for(key))
        touched |= volatile | self._in_heartbeat
        self._in_heartbeat = volatile
        views: dict[tuple[str, str], TrialView] = {}
        for study in store.studies:
            for trial in study.trials:
                name = study.name, trial.trial
                known = None if everything or trial.trial in touched else self._trials.get(name)
                views[name] = known or self._trial(study, trial, beat)
        self._trials = views
        return tuple(views.values())

    def _trial(self, study: Study, trial: Trial, beat: dict[str, Any]) -> TrialView:
        store = self.store
        path = trial.path
        iteration = next(
            (i for i, key in enumerate(path) if store.states.get(key) != "done"), len(path)
        )
        complete = iteration == len(path)
        state, reason = ("done", "") if complete else self._state(study, trial, iteration, beat)
        done = sum(store.steps.get(key, 0) for key in path if store.states.get(key) == "done")
        if not complete and path[iteration] in store.running:
            done += beat.get("running", {}).get(path[iteration], {}).get("step", 0)
        return TrialView(
            trial=trial.trial,
            plan=study.name,
            cell=trial.cell,
            seed=trial.seed,
            labels=trial.labels,
            path=path,
            sparsities=trial.sparsities,
            state=state,
            iteration=min(iteration, len(path) - 1),
            steps=sum(store.steps.get(key, 0) for key in path),
            steps_done=done,
            priority=store.history.priority.get(trial.trial, 0),
            reason=reason,
            eta=None if complete else beat.get("eta", {}).get("trials", {}).get(trial.trial),
        )

    def _state(
        self, study: Study, trial: Trial, iteration: int, beat: dict[str, Any]
    ) -> tuple[str, str]:
        """The state of a trial that is not done, and why it is in it."""
        store, history = self.store, self.store.history
        rest = trial.path[iteration:]
        if trial.trial in history.cancelled:
            return "cancelled", "cancelled"
        for key in rest:
            if key in history.failures:
                record = history.failures[key]
                return "failed", f"{record['reason']}: {record.get('message') or ''}".rstrip(": ")
        if any(key in store.running for key in rest):
            return "running", ""
        if study.digest in history.stopped:
            return "blocked", history.stopped[study.digest]
        if trial.trial in history.held:
            return "held", "held"
        if not store.alive:
            begun = any(store.states.get(key) == "begun" for key in rest)
            return ("interrupted" if begun else "waiting"), "no scheduler is running"
        if study.digest not in beat.get("plans", ()):
            return "waiting", "not queued"
        return "waiting", self._waits_for(rest[0], study, beat)

    def _waits_for(self, key: str, study: Study, beat: dict[str, Any]) -> str:
        store = self.store
        setback = store.history.setbacks.get(key)
        if setback is not None:
            return f"to be tried again ({setback['reason']})"
        stage = study.stages.get(key)
        source = stage.weights if stage else (None, None)
        if source[0] is not None and source[1] is not None:
            for other in store.running:
                if other not in store.trials_of and store.replay_of(other) == source:
                    return f"replay of {source[0][:8]} to step {source[1]}"
        reason: str = beat.get("queue", {}).get("reasons", {}).get(key, "")
        return reason

    # stages

    def _running(self, beat: dict[str, Any]) -> tuple[RunningView, ...]:
        rows = beat.get("running", {})
        views = [self._running_view(key, rows.get(key, {})) for key in self.store.running]
        return tuple(sorted(views, key=lambda view: (view.since or 0.0, view.key)))

    def _running_view(self, key: str, row: dict[str, Any]) -> RunningView:
        store = self.store
        trials = store.trials_for(key)
        first = trials[0] if trials else None
        iteration = first.path.index(key) if first and key in first.path else 0
        tail = store.tails.get(key) or LogTail()
        return RunningView(
            key=key,
            trials=tuple(trial.trial for trial in trials),
            labels={**first.labels, "seed": str(first.seed)} if first else {},
            iteration=iteration,
            iterations=len(first.path) - 1 if first else 0,
            sparsity=first.sparsities[iteration] if first else "0",
            replay=key not in store.trials_of,
            step=max(row.get("step", 0), tail.epoch["step"] if tail.epoch else 0),
            steps=row.get("steps") or store.steps.get(key, 0),
            device=row.get("device"),
            worker=row.get("worker"),
            attempt=row.get("attempt"),
            since=row.get("since"),
            loss=row.get("loss"),
            accuracy=row.get("accuracy"),
            eta=row.get("eta"),
            epoch=tail.epoch,
            accuracies=tuple(tail.accuracies),
        )

    def _failures(self) -> tuple[FailureView, ...]:
        return tuple(
            FailureView(
                key=key,
                trials=tuple(trial.trial for trial in self.store.trials_for(key)),
                reason=record["reason"],
                message=record.get("message") or "",
                traceback=record.get("traceback") or "",
                log=record.get("log") or "",
                attempt=record.get("attempt") or 1,
                time=record["time"],
            )
            for key, record in self.store.history.failures.items()
            if self.store.states.get(key) != "done"
        )

    def _event(self, record: Record) -> EventView:
        key = record.get("key")
        listed = record.get("trials")
        if isinstance(listed, list):
            trials = tuple(listed)
        else:
            of = self.store.trials_for(key) if isinstance(key, str) else []
            trials = tuple(trial.trial for trial in of)
        return EventView(record["time"], record["type"], describe(record), key, trials)

    # coverage

    def _cover(self, change: Change, first: bool) -> tuple[CoverageView, ...]:
        if first or change.everything:
            self._regroup()
            stale: Iterable[Group] = self._groups
        else:
            stale = {group for key in change.stages for group in self._groups_of.get(key, ())}
        for group in stale:
            self._coverage[group] = self._count(group)
        return tuple(self._coverage.values())

    def _regroup(self) -> None:
        self._groups, self._groups_of, self._coverage = {}, {}, {}
        for study in self.store.studies:
            for trial in study.trials:
                labels = tuple(sorted(trial.labels.items()))
                for iteration in range(1, len(trial.path)):
                    group = study.name, labels, trial.sparsities[iteration]
                    self._groups.setdefault(group, []).append((trial, iteration))
                    self._groups_of.setdefault(trial.path[iteration], []).append(group)

    def _count(self, group: Group) -> CoverageView:
        store = self.store
        members = self._groups[group]
        keys = [trial.path[iteration] for trial, iteration in members]
        failures = store.history.failures
        failed = 0
        if failures:
            failed = sum(
                any(key in failures for key in trial.path[: iteration + 1])
                for trial, iteration in members
            )
        return CoverageView(
            plan=group[0],
            labels=dict(group[1]),
            sparsity=group[2],
            done=sum(store.states.get(key) == "done" for key in keys),
            total=len(keys),
            running=sum(key in store.running for key in keys),
            failed=failed,
        )


def _device(row: dict[str, Any]) -> DeviceView:
    fields = {name: row[name] for name in DeviceView.__dataclass_fields__ if name in row}
    fields["running"] = tuple(row.get("running", ()))
    fields["processes"] = tuple((pid, used) for pid, used in row.get("processes", ()))
    return DeviceView(**fields)


def _queue(trials: Iterable[TrialView], beat: dict[str, Any]) -> tuple[QueuedView, ...]:
    order = {key: place for place, key in enumerate(beat.get("queue", {}).get("next", ()))}
    seconds = beat.get("eta", {}).get("stages", {})
    waiting = [view for view in trials if view.state in ("waiting", "held", "interrupted")]
    last = len(order)
    waiting.sort(
        key=lambda view: (
            view.state == "held",
            order.get(view.path[view.iteration], last),
            -view.priority,
        )
    )
    return tuple(
        QueuedView(
            trial=view.trial,
            key=view.path[view.iteration],
            iteration=view.iteration,
            seconds=seconds.get(view.path[view.iteration]),
            reason=view.reason,
        )
        for view in waiting[:QUEUE]
    )

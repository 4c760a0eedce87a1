"""Watch a store: take frozen snapshots of its state without ever touching a run.

What did not change since the last snapshot is not built anew, so that a store with ten thousand trials can be
watched four times a second. No DuckDB, no torch, no Textual: `status`, plain progress and the terminal UI share it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from prunectl.gc_pause import without_collector
from prunectl.monitor.coverage import Coverage
from prunectl.monitor.snapshot import (
    EventView,
    FailureView,
    PlanView,
    QueuedView,
    RunningView,
    SchedulerView,
    Snapshot,
    TrialView,
    VersionView,
)
from prunectl.monitor.state import Change, LogTail, StoreState
from prunectl.monitor.trials import TrialViews
from prunectl.spec.state import State
from prunectl.spec.study import Study
from prunectl.spec.task import CLASSIFICATION
from prunectl.store.narration import QUIET, describe
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.heartbeat import HeartbeatRecord, RunningBeat
from prunectl.store.records.plan import Versions
from prunectl.store.records.scheduler_log import kind

QUEUE = 500
"""Trials of the queue that a snapshot lists."""


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
        self._coverage = Coverage(self.store)
        self._trials = TrialViews(self.store)
        self._done: dict[str, tuple[int, int]] = {}
        """By digest of a plan: how many of its stages are done, and their steps."""

    def snapshot(self) -> Snapshot:
        """Return the state of the store now."""
        new = self.poll()
        if new is None:
            last, now = self._last, self._clock()
            assert last is not None
            new = replace(last, time=now, scheduler=replace(last.scheduler, age=self._age(now)))
            self._last = new
        return new

    def poll(self) -> Snapshot | None:
        """Return a new snapshot, or None where nothing has changed since the last."""
        now = self._clock()
        with without_collector(keep=not self.store.complete):
            change = self.store.update(now)
            change.everything |= self._last is None
            if not change:
                return None
            self._last = self._build(now, change)
        return self._last

    # the whole

    def _build(self, now: float, change: Change) -> Snapshot:
        store = self.store
        trials = self._trials.update(change)
        by_plan: dict[str, Counter[State]] = {study.name: Counter() for study in store.studies}
        for view in trials:
            by_plan[view.trial.plan][view.state] += 1
        if change.everything:
            self._done.clear()
        plans = tuple(self._plan(study, by_plan[study.name], change) for study in store.studies)
        active = {plan.name for plan in plans if plan.active} or set(by_plan)
        return Snapshot(
            time=now,
            store=str(store.paths.root),
            scheduler=self._scheduler(now),
            plans=plans,
            unreadable=tuple(store.unreadable),
            counts=dict(sum((by_plan[name] for name in active), Counter())),
            devices=store.beat.devices,
            running=self._running(),
            queue=_queue(trials, store.beat),
            trials=trials,
            failures=self._failures(),
            events=tuple(
                self._event(record) for record in store.events if not isinstance(record, QUIET)
            ),
            coverage=self._coverage.update(change),
        )

    def _age(self, now: float) -> float | None:
        beat = self.store.heartbeat.time
        return None if beat is None else max(0.0, now - beat)

    def _scheduler(self, now: float) -> SchedulerView:
        beat, alive = self.store.heartbeat, self.store.alive
        return SchedulerView(
            alive=alive,
            age=self._age(now),
            run=beat.run,
            pid=beat.pid,
            host=beat.host,
            started=beat.started,
            stopping=beat.stopping if alive else None,
            ended=None if alive else beat.ended,
            trouble=beat.trouble if alive else None,
            eta=beat.eta.end if alive else None,
        )

    def _plan(self, study: Study, counts: Counter[State], change: Change) -> PlanView:
        store = self.store
        # Counted anew only where a stage changed: over 50,000 stages it takes 20 ms, twice a second.
        if study.digest not in self._done or not study.stages.keys().isdisjoint(change.stages):
            done = [
                stage.steps
                for key, stage in study.stages.items()
                if store.states.get(key) is State.DONE
            ]
            self._done[study.digest] = len(done), sum(done)
        stages_done, steps_done = self._done[study.digest]
        running = store.beat.running
        partly = sum(
            running[key].step for key in store.running if key in study.stages and key in running
        )
        return PlanView(
            name=study.name,
            digest=study.digest,
            active=study.digest in store.beat.plans,
            counts=dict(counts),
            stages=len(study.stages),
            stages_done=stages_done,
            steps=study.steps,
            steps_done=partly + steps_done,
            stopped=store.history.stopped.get(study.digest, ""),
            version=store.versions[study.name].number(study.digest),
            versions=_version_views(store.versions[study.name]),
        )

    # stages

    def _running(self) -> tuple[RunningView, ...]:
        rows = self.store.beat.running
        views = [
            self._running_view(key, tail, rows.get(key, RunningBeat()))
            for key, tail in self.store.tails.items()
        ]
        return tuple(sorted(views, key=lambda view: (view.since or 0.0, view.key)))

    def _running_view(self, key: str, tail: LogTail, row: RunningBeat) -> RunningView:
        store = self.store
        trials = store.trials_for(key)
        first = trials[0] if trials else None
        iteration = first.path.index(key) if first and key in first.path else 0
        return RunningView(
            key=key,
            trials=store.trial_ids(key),
            labels={**first.labels, "seed": str(first.seeds)} if first else {},
            iteration=iteration,
            iterations=len(first.path) - 1 if first else 0,
            sparsity=first.sparsities[iteration] if first else "0",
            replay=key not in store.trials_of,
            step=max(row.step, tail.epoch.step if tail.epoch else 0),
            steps=row.steps or store.steps.get(key, 0),
            device=row.device,
            worker=row.worker,
            attempt=row.attempt,
            since=row.since,
            loss=row.loss,
            score=row.score,
            eta=row.eta,
            epoch=tail.epoch,
            scores=tuple(tail.scores),
            metric=CLASSIFICATION.score if first is None else store.score_of(first),
        )

    def _failures(self) -> tuple[FailureView, ...]:
        history, states = self.store.history, self.store.states
        failed = {
            key: record
            for key, record in history.failures.items()
            if states.get(key) is not State.DONE
        }
        return tuple(
            FailureView(
                key=key,
                trials=trials,
                reason=record.reason,
                message=record.message,
                traceback=record.traceback,
                log=record.log,
                attempt=record.attempt or 1,
                time=record.time,
            )
            for key, record in failed.items()
            if (trials := self.store.trial_ids(key))
        )

    def _event(self, record: LogRecord) -> EventView:
        key = getattr(record, "key", None)
        trials = getattr(record, "trials", None)  # of some records a count
        if not isinstance(trials, tuple):
            trials = () if key is None else self.store.trial_ids(key)
        return EventView(record.time, kind(record), describe(record), key, trials)


def _version_views(versions: Versions) -> tuple[VersionView, ...]:
    """Describe the versions of a plan; nothing where there is only one."""
    if len(versions.studies) == 1:
        return ()
    return tuple(
        VersionView(
            number=number,
            digest=study.digest,
            file=study.file,
            trials=len(study.trials),
            used=study.created,
            current=study is versions.current,
        )
        for number, study in enumerate(versions.studies, 1)
    )


def _queue(trials: Iterable[TrialView], beat: HeartbeatRecord) -> tuple[QueuedView, ...]:
    order = {key: place for place, key in enumerate(beat.queue.next)}
    seconds = beat.eta.stages
    waiting = [
        view for view in trials if view.state in (State.WAITING, State.HELD, State.INTERRUPTED)
    ]
    last = len(order)
    waiting.sort(
        key=lambda view: (
            view.state is State.HELD,
            order.get(view.trial.path[view.iteration], last),
            -view.priority,
        )
    )
    return tuple(
        QueuedView(
            trial=view.trial.id,
            key=view.trial.path[view.iteration],
            iteration=view.iteration,
            seconds=seconds.get(view.trial.path[view.iteration]),
            reason=view.reason,
        )
        for view in waiting[:QUEUE]
    )

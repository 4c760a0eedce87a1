"""The plans of a run: their stages in the graph and in the queue, with replays and costs up to date."""

from __future__ import annotations

from collections.abc import Iterable

from prunectl.errors import StoreError
from prunectl.scheduler.eta import StepTimes
from prunectl.scheduler.executors.base import Clock
from prunectl.scheduler.graph import StageGraph
from prunectl.scheduler.log import SchedulerLog
from prunectl.scheduler.queue import Queue
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import read_study
from prunectl.store.records.scheduler_log import Queued, Reopened, Retried


class Plans:
    """Puts the stages of plans, and the replays they need, into the queue."""

    def __init__(self, paths: StorePaths, queue: Queue, log: SchedulerLog, clock: Clock) -> None:
        self.graph = StageGraph(paths)
        self.step_times = StepTimes()
        self._queue = queue
        self._log = log
        self._clock = clock
        self._measured = False
        """A stage was measured since costs were looked at."""

    def add(self, digest: str) -> str:
        """Queue a plan of the store. Returns what that adds, in words.

        Running a plan again asks for its failures to be tried again.

        Raises:
            StoreError: where the store has no such plan.
        """
        study = read_study(self.graph.paths, digest)
        order = [*self.graph.add(study), *study.stages]
        self.step_times.learn_from(self.graph)
        for key in dict.fromkeys(order):
            self._enqueue(key)
        for key in study.stages:
            self.insert_replays(key)
        self._update_costs()
        done = sum(self.graph.is_done(key) for key in study.stages)
        total, trials = len(study.stages), [trial.id for trial in study.trials]
        self._log.append(
            Queued(plan=digest, name=study.name, trials=len(trials), stages=total, done=done)
        )
        # Of the replays too, which are in no plan: they may have failed in an earlier run.
        failed = self._log.history.failures.keys() & self.graph.nodes.keys()
        failed = {key for key in failed if self.graph.wanted_by[key] & set(trials)}
        if keys := sorted({*failed, *self._queue.forgive(trials)}):
            self._log.append(Retried(keys=tuple(keys)))
        return f"{study.name}: {len(trials)} trials, {total} stages, {done} of them done"

    def _enqueue(self, key: str) -> None:
        node, trials = self.graph.nodes[key], self.graph.wanted_by[key]
        done, replay = self.graph.is_done(key), node.replay is not None
        self._queue.add(key, node.needs, trials, node.steps, done, node.workload, replay)

    def insert_replays(self, key: str) -> None:
        """Queue replays for the checkpoints of a finished stage that others start from and that are not there."""
        try:
            replays = self.graph.insert_replays(key)
        except StoreError as error:
            self._log.report(error)  # what needs the checkpoint will fail and say so
            return
        for replay in replays:
            self._enqueue(replay)
            for child in self.graph.children[replay]:
                self._enqueue(child)
        if replays:
            self._update_costs()

    def make_again(self, key: str, missing: str | None) -> None:
        """Queue again what a stage starts from and what is gone, or was set aside because it could not be trusted.

        `missing` is the key of the stage that lacks a file, where that is known.
        """
        node = self.graph.nodes[key]
        if node.source is not None:
            self.insert_replays(node.source[0])
        nodes = self.graph.nodes
        replays = {need for need in nodes[key].needs if need in nodes and nodes[need].replay}
        for each in sorted(replays if missing is None else {missing, *replays}):
            try:
                reopened = self.graph.reopen(each, self._clock.time())
            except OSError as error:
                self._log.report(error)
                continue
            if reopened:
                self._log.append(Reopened(key=each, by=key))
                self._queue.reopen(each, self.graph.children[each])

    def studies_with(self, key: str) -> list[str]:
        """Return the digests of the plans that have the stage."""
        return [digest for digest, study in self.graph.studies.items() if key in study.stages]

    def studies_of(self, trials: Iterable[str]) -> list[str]:
        """Return the digests of the plans that have some of the trials."""
        chosen = set(trials)
        return [
            digest
            for digest, study in self.graph.studies.items()
            if any(trial.id in chosen for trial in study.trials)
        ]

    # what stages cost

    def learn(self, key: str, seconds: float | None, steps: int | None) -> None:
        """Learn that a stage took so long for so many steps."""
        self.step_times.learn(self.graph.nodes[key].workload, seconds, steps)
        self._measured = True

    def update_costs_if_changed(self) -> None:
        """Order the queue anew where stages were done since and change what others are estimated to take."""
        if self._measured and self.step_times.changed():
            self._update_costs()
        self._measured = False

    def _update_costs(self) -> None:
        """Tell the queue what stages cost: seconds once any were measured, steps before."""
        nodes = {key: self.graph.nodes[key] for key in self._queue.items}
        seconds = {key: self.step_times.seconds(node) for key, node in nodes.items()}
        self._queue.set_costs(
            {key: nodes[key].steps if cost is None else cost for key, cost in seconds.items()}
        )

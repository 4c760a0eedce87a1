"""Giving stages to workers, and taking them back; what workers say of them is heard in `reports`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from prunectl.errors import DiskError, StoreError
from prunectl.scheduler.device_pool import DevicePool
from prunectl.scheduler.eta import Pace
from prunectl.scheduler.executors.base import Clock
from prunectl.scheduler.failures import Failures
from prunectl.scheduler.items import Item
from prunectl.scheduler.log import SchedulerLog
from prunectl.scheduler.outcome import Failure
from prunectl.scheduler.plans import Plans
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.timeouts import Timeouts
from prunectl.scheduler.workers import Worker, Workers
from prunectl.spec.key import Spec, spec_key
from prunectl.spec.state import State
from prunectl.store import files
from prunectl.store.files import write_text
from prunectl.store.locks import is_held
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records import messages
from prunectl.store.records import scheduler_log as logged
from prunectl.store.records.journal import last_attempt
from prunectl.store.records.messages import Progress
from prunectl.store.records.stage import read_spec
from prunectl.store.refusals import is_refusal


@dataclass
class RunningStage:
    """A stage that a worker has."""

    worker: Worker
    attempt: int
    since: float
    """Unix seconds."""
    pace: Pace
    log: Path
    """Its event log."""
    loss: float | None = None
    score: float | None = None
    recall_deadline: float | None = None
    """Monotonic time at which a worker that was asked to leave the stage is killed."""
    log_size: int = 0
    """Bytes of its event log that the database was told of."""

    def beat(self, progress: Progress, now: float) -> None:
        """Take over what the worker reports, at the monotonic time `now`."""
        steps = progress.steps or self.pace.steps
        self.pace.beat(now, progress.step or 0, steps)
        self.loss, self.score = progress.loss, progress.score


@dataclass(eq=False)
class Dispatcher:
    """Gives the stages that the queue chooses to workers, and takes them back."""

    paths: StorePaths
    queue: Queue
    devices: DevicePool
    workers: Workers
    log: SchedulerLog
    timeouts: Timeouts
    clock: Clock
    running: dict[str, RunningStage] = field(default_factory=dict)
    stopping: bool = False
    """Stages that leave their workers now are interrupted, and nothing is started any more."""
    outdated: str | None = None
    """How new workers differ from the scheduler, since the package was changed: no more are started."""
    broken: str | None = None
    """Why the store cannot be written: nothing can go on."""
    _interrupted: set[str] = field(default_factory=set)
    _fences: dict[str, float] = field(default_factory=dict)
    """Monotonic time until which an attempt at a stage may still run, though its worker counts as gone."""

    def __post_init__(self) -> None:
        self.plans = Plans(self.paths, self.queue, self.log, self.clock)
        self.failures = Failures(self.plans, self.queue, self.log, self.timeouts.same_failures)

    def add_plan(self, digest: str) -> str:
        """Queue a plan of the store. Returns what that adds, in words.

        Raises:
            StoreError: where the store has no such plan.
        """
        text = self.plans.add(digest)
        self.failures.forget(trial.id for trial in self.plans.graph.studies[digest].trials)
        return text

    @property
    def closed(self) -> bool:
        """Return whether nothing is started any more."""
        return self.stopping or self.outdated is not None

    # to the workers

    def dispatch(self) -> None:
        """Fill every slot that there is a stage for."""
        while not self.closed and (item := self.queue.next()) is not None:
            if self.plans.graph.is_done(item.key):
                self.plans.insert_replays(item.key)
                self.queue.finish(item.key)
            elif self.may_still_run(item.key):
                self.queue.postpone(item.key)
            else:
                self._start(item)

    def may_still_run(self, key: str) -> bool:
        """Return whether an earlier attempt may not be over: its worker is still dying, or nobody saw how it ended."""
        return self._is_fenced(key) or is_held(self.paths.stage(key).lock)

    def _is_fenced(self, key: str) -> bool:
        # A clock that was set back must not keep a stage for more than the lease.
        left = self.log.history.fences.get(key, 0.0) - self.clock.time()
        return (
            self._fences.get(key, 0.0) > self.clock.monotonic() or 0 < left <= self.timeouts.lease
        )

    def _start(self, item: Item) -> None:
        key, device = item.key, self.devices.devices[item.device or ""]
        node, stage = self.plans.graph.nodes[key], self.paths.stage(key)
        # What an earlier attempt still says or writes must be known from what this one does.
        attempt = 1 + max(self.log.history.attempts.get(key, 0), last_attempt(stage.events))
        try:
            # Before the worker is told the key: it reads there what to train.
            _write_spec(stage, node.spec)
            fresh = self.devices.needs_fresh_worker(device.id, node.workload)
            worker = self.workers.find(device, node.flags, node.workload, fresh=fresh)
            record = logged.Dispatched(
                key=key, device=device.id, worker=worker.number, attempt=attempt
            )
            # On the disk before the worker is told: the number is never given out again.
            self.log.append(record, durable=True)
        except (OSError, StoreError) as error:
            if isinstance(error, DiskError) or is_refusal(error):
                self.cannot_write(key, str(error))
                return
            why = f"could not be started: {error}"
            self.failures.failed(Failure(key, "exception", why, attempt))
            return
        command = messages.RunStage(key, tuple(self.plans.graph.keep(key)), attempt)
        worker.run(command, node.flags, node.workload, self.clock.monotonic())
        self.workers.retire_surplus(device, self.queue.slots(device.id))
        pace = Pace(node.stage.steps)
        since = self.clock.time()
        self.running[key] = RunningStage(worker, attempt, since, pace, stage.events)

    def recall(self) -> None:
        """Ask workers to leave stages that nobody wants, or whose device is drained."""
        drained = self.devices.drained
        unwanted = set(self.queue.to_recall())
        now = self.clock.monotonic()
        for key, stage in self.running.items():
            if stage.recall_deadline is not None:
                if now > stage.recall_deadline:
                    stage.worker.kill("recalled")
            elif key in unwanted or stage.worker.device.id in drained:
                stage.recall_deadline = now + self.timeouts.stop + self.timeouts.grace
                stage.worker.send(messages.CancelStage(key))
        for name in drained:
            if not self.workers.retire_device(name):
                self.devices.release(name)

    # off the workers

    def forget(self, key: str) -> None:
        """No worker has the stage any more."""
        self.running.pop(key, None)
        self.log.ingestion.changed([key])

    def interrupt(
        self, key: str, step: int | None = None, *, later: bool = False, certain: bool = True
    ) -> None:
        """The stage left its worker before its end, and goes on when it is its turn; `later` after some others.

        Where it is not `certain` that the worker has ended, neither this scheduler nor the next gives the stage out
        before that worker must have ended itself.
        """
        self.forget(key)
        record = logged.StageInterrupted(key=key, step=step)
        if not certain:
            self._fences[key] = self.clock.monotonic() + self.timeouts.lease
            record.fenced_until = self.clock.time() + self.timeouts.lease
        try:
            self.log.append(record, durable=not certain)
        except StoreError as error:
            self.log.report(error)  # this scheduler knows it all the same
        if self.stopping:
            self._interrupted.add(key)
        self.queue.interrupted(key, later=later)

    def cannot_write(self, key: str, why: str) -> None:
        """End the run, to go on when there is room: no fault of the stage, and the next one would fail too."""
        self.broken = self.broken or why
        self.stopping = True
        self.interrupt(key)

    # every second

    def tick(self) -> None:
        """Kill workers that hang, and tell the database which stages have news."""
        for worker in self.workers.unresponsive(self.timeouts):
            worker.kill("hung")
        self.queue.resume_postponed()
        grown = [key for key, stage in self.running.items() if self._grown(stage)]
        self.log.ingestion.changed(grown)

    def _grown(self, stage: RunningStage) -> bool:
        try:
            size = files.disk.status(stage.log).size
        except OSError:
            return False
        before, stage.log_size = stage.log_size, size
        return size != before

    def stage_counts(self) -> dict[str, int]:
        """Count the stages by state, those that a stop cut off as `interrupted`."""
        counts = self.queue.counts()
        cut = sum(self.queue.state(key) is State.WAITING for key in self._interrupted)
        return {**counts, State.WAITING: counts[State.WAITING] - cut, State.INTERRUPTED: cut}


def _write_spec(stage: StagePaths, spec: Spec) -> None:
    """Write what the stage is, if it is not there or cannot be read.

    Raises StoreError where it is not all that its key stands for: a newer version made the plan.
    """
    try:
        if read_spec(stage) == spec:
            return
    except (FileNotFoundError, StoreError):
        pass
    if spec_key(spec) != stage.key:
        raise StoreError(
            f"stage {stage.key} has settings that this version of prunectl does not know"
        )
    write_text(stage.spec, spec.to_json() + "\n")

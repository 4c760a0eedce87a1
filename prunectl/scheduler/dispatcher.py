"""Giving stages to workers and hearing what becomes of them: started, recalled, done, interrupted, failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunectl.errors import DiskError, StoreError
from prunectl.scheduler.device_pool import DevicePool
from prunectl.scheduler.eta import Pace
from prunectl.scheduler.executors.base import Clock
from prunectl.scheduler.failures import Failures, reported_failure, worker_loss, write_failure
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
from prunectl.store.files import DISK_ERRNOS, write_text
from prunectl.store.locks import is_held
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records import messages
from prunectl.store.records import scheduler_log as logged
from prunectl.store.records.base import read_record
from prunectl.store.records.journal import last_attempt
from prunectl.store.records.messages import AnyMessage, Progress
from prunectl.store.records.result import Result


@dataclass
class RunningStage:
    """A stage that a worker has."""

    worker: Worker
    attempt: int
    since: float
    """Unix seconds."""
    pace: Pace
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
    """Gives the stages that the queue chooses to workers, and hears what becomes of them."""

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
    ran: int = 0
    """Stages done in this run."""
    broken: str | None = None
    """Why the store cannot be written: nothing can go on."""
    _interrupted: set[str] = field(default_factory=set)

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

    # to the workers

    def dispatch(self) -> None:
        """Fill every slot that there is a stage for."""
        while not self.stopping and (item := self.queue.next()) is not None:
            if self.plans.graph.is_done(item.key):
                self.plans.insert_replays(item.key)
                self.queue.finish(item.key)
            elif is_held(self.paths.stage(item.key).lock):
                self.queue.postpone(item.key)  # a worker of an earlier scheduler is still dying
            else:
                self._start(item)

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
            if isinstance(error, DiskError) or getattr(error, "errno", None) in DISK_ERRNOS:
                self._cannot_write(key, str(error))
                return
            why = f"could not be started: {error}"
            self.failures.failed(Failure(key, "exception", why, attempt))
            return
        command = messages.RunStage(key, tuple(self.plans.graph.keep(key)), attempt)
        worker.run(command, node.flags, node.workload, self.clock.monotonic())
        pace = Pace(node.stage.steps)
        self.running[key] = RunningStage(worker, attempt, self.clock.time(), pace)

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

    # from the workers

    def handle(self, worker: Worker, message: AnyMessage) -> None:
        """Take in a message of a worker; what it says of other attempts than those that run is dropped."""
        match message:
            case messages.WorkerEnded():
                self._ended(worker, message)
            case messages.Ready():
                self.log.append(
                    logged.WorkerStarted(
                        worker=worker.number, device=worker.device.id, pid=worker.pid
                    )
                )
            case messages.Beat():
                self._beat(worker, message)
            case messages.StageStarted():
                pass
            case _ if self._runs(worker, message.key, message.attempt):
                self._handle_end(worker, message)

    def _runs(self, worker: Worker, key: str, attempt: int) -> bool:
        """Return whether the worker has that attempt at the stage."""
        stage = self.running.get(key)
        return stage is not None and stage.worker is worker and stage.attempt == attempt

    def _beat(self, worker: Worker, message: messages.Beat) -> None:
        now = self.clock.monotonic()
        message.running = {
            key: progress
            for key, progress in message.running.items()
            if self._runs(worker, key, progress.attempt)
        }
        for key, progress in message.running.items():
            self.running[key].beat(progress, now)
        self.devices.learn(worker.device.id, now, message)

    def _handle_end(
        self,
        worker: Worker,
        message: messages.StageDone | messages.StageInterrupted | messages.StageFailed,
    ) -> None:
        key = message.key
        match message:
            case messages.StageDone():
                self._release(worker, key)
                self._done(key, message.attempt)
            case messages.StageInterrupted():
                self._release(worker, key)
                self.interrupt(key, message.step)
            case messages.StageFailed(reason="disk"):
                self._release(worker, key)
                self._cannot_write(key, message.message)
            case messages.StageFailed():
                device = worker.device.id
                sharing = len(self.queue.devices[device].running)
                if message.reason == "oom":
                    workload = self.plans.graph.nodes[key].workload
                    self.devices.out_of_memory(device, workload)
                    worker.retire()  # what is left of its memory is fragmented
                failure = reported_failure(worker, message, self.devices.usage(device))
                self._release(worker, key)
                self.failures.failed(failure, sharing)

    def _release(self, worker: Worker, key: str) -> None:
        worker.running.remove(key)
        if worker.retiring and not worker.running and not self.stopping:
            worker.dismiss()
        self._forget(key)

    def _forget(self, key: str) -> None:
        self.running.pop(key, None)
        self.log.ingestion.changed([key])

    def _done(self, key: str, attempt: int) -> None:
        if not self.plans.graph.is_done(key):
            why = "said to be done, but has no result"
            self.failures.failed(Failure(key, "lost", why, attempt))
            return
        result = Result()
        try:
            result = read_record(self.paths.stage(key).result, Result)
        except (OSError, StoreError) as error:
            self.log.report(error)
        self.plans.learn(key, result.seconds, result.steps)
        self.ran += 1
        self.failures.succeeded(key)
        self.log.append(
            logged.StageDone(
                key=key,
                seconds=result.seconds,
                score=result.score,
                metric=self.plans.graph.nodes[key].score,
                flag=result.flag,
            )
        )
        # Before its children may start: some may need a checkpoint that it did not keep.
        self.plans.insert_replays(key)
        self.queue.finish(key)

    def interrupt(self, key: str, step: int | None = None) -> None:
        """The stage left its worker before its end, and goes on later."""
        self._forget(key)
        self.log.append(logged.StageInterrupted(key=key, step=step))
        if self.stopping:
            self._interrupted.add(key)
        self.queue.interrupted(key)

    def _cannot_write(self, key: str, why: str) -> None:
        """End the run, to go on when there is room: no fault of the stage, and the next one would fail too."""
        self.broken = self.broken or why
        self.stopping = True
        self.interrupt(key)

    def _ended(self, worker: Worker, message: messages.WorkerEnded) -> None:
        """A worker is gone, with the stages it had."""
        self.log.append(
            logged.WorkerEnded(
                worker=worker.number,
                device=worker.device.id,
                pid=worker.pid,
                reason=worker.cause or message.how,
            )
        )
        sharing = len(worker.running)
        for key in list(worker.running):
            attempt = self.running[key].attempt
            self._release(worker, key)
            if self.stopping or worker.cause == "recalled":
                self.interrupt(key)
                continue
            usage = self.devices.usage(worker.device.id)
            failure = worker_loss(worker, key, attempt, message, usage, self.timeouts)
            try:
                write_failure(self.paths.stage(key), failure, self.clock.time)
            except StoreError as error:
                self.log.report(error)
            self.failures.failed(failure, sharing)

    # every second

    def tick(self) -> None:
        """Kill workers that hang, and tell the database which stages have news."""
        for worker in self.workers.unresponsive(self.timeouts):
            worker.kill("hung")
        self.queue.resume_postponed()
        grown = [key for key, stage in self.running.items() if self._grown(key, stage)]
        self.log.ingestion.changed(grown)

    def _grown(self, key: str, stage: RunningStage) -> bool:
        try:
            size = files.disk.status(self.paths.stage(key).events).size
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
        if read_record(stage.spec, Spec) == spec:
            return
    except (FileNotFoundError, StoreError):
        pass
    if spec_key(spec) != stage.key:
        raise StoreError(
            f"stage {stage.key} has settings that this version of prunectl does not know"
        )
    write_text(stage.spec, spec.to_json() + "\n")

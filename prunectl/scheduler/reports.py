"""Hearing what becomes of stages that workers have: done, interrupted, failed, or lost with their worker.

A failure has a place. Of the stage: its own exception, which counts as an attempt. Of the worker: it lost its device;
it is ended at once, and its stages go on elsewhere, which costs them nothing. Of the device: fresh workers keep being
lost there, and it is given up (`losses`).
"""

from __future__ import annotations

from prunectl.errors import StoreError
from prunectl.scheduler.dispatcher import Dispatcher
from prunectl.scheduler.failures import reported_failure, worker_loss, write_failure
from prunectl.scheduler.outcome import Failure
from prunectl.scheduler.workers import Worker
from prunectl.store.records import messages
from prunectl.store.records import scheduler_log as logged
from prunectl.store.records.messages import AnyMessage
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_result


class Reports:
    """Takes in the messages of workers."""

    def __init__(self, dispatcher: Dispatcher, code: str) -> None:
        """`code` is what the scheduler itself has loaded (`version.code_version`)."""
        self._code = code
        self.ran = 0
        """Stages done in this run."""
        self._told: set[str] = set()
        """Notes of stages that were logged."""
        self._dispatcher = dispatcher
        self._paths, self._queue, self._log = dispatcher.paths, dispatcher.queue, dispatcher.log
        self._devices, self._plans = dispatcher.devices, dispatcher.plans
        self._failures, self._clock = dispatcher.failures, dispatcher.clock

    def handle(self, worker: Worker, message: AnyMessage) -> None:
        """Take in a message of a worker; what it says of other attempts than those that run is dropped."""
        match message:
            case messages.WorkerEnded():
                self._ended(worker, message)
            case messages.Ready():
                self._ready(worker, message)
            case messages.Beat():
                self._beat(worker, message)
            case messages.StageStarted():
                pass
            case messages.StageNoted():
                self._noted(worker, message)
            case _ if self._runs(worker, message.key, message.attempt):
                self._stage_ended(worker, message)

    def _ready(self, worker: Worker, message: messages.Ready) -> None:
        self._log.append(
            logged.WorkerStarted(worker=worker.number, device=worker.device.id, pid=worker.pid)
        )
        if message.code == self._code:
            worker.take_up()
            return
        # Its numbers may be others: what it was to do is for a scheduler that has the same code.
        what = f"{message.code or 'another version'}, the scheduler {self._code}"
        worker.unfit = True
        worker.kill(f"has {what}")
        self._dispatcher.outdated = f"a new worker has {what}"

    def _noted(self, worker: Worker, message: messages.StageNoted) -> None:
        """Log what a stage has to say, once in a run whichever stage says it."""
        if message.text not in self._told and self._runs(worker, message.key, message.attempt):
            self._told.add(message.text)
            self._log.append(logged.StageNoted(key=message.key, text=message.text))

    def _runs(self, worker: Worker, key: str, attempt: int) -> bool:
        """Return whether the worker has that attempt at the stage."""
        stage = self._dispatcher.running.get(key)
        return stage is not None and stage.worker is worker and stage.attempt == attempt

    def _beat(self, worker: Worker, message: messages.Beat) -> None:
        now = self._clock.monotonic()
        message.running = {
            key: progress
            for key, progress in message.running.items()
            if self._runs(worker, key, progress.attempt)
        }
        for key, progress in message.running.items():
            self._dispatcher.running[key].beat(progress, now)
        self._devices.learn(worker.device.id, now, message)

    def _stage_ended(
        self,
        worker: Worker,
        message: messages.StageDone | messages.StageInterrupted | messages.StageFailed,
    ) -> None:
        key = message.key
        match message:
            case messages.StageDone():
                self._release(worker, key)
                self._done(worker, key, message.attempt)
            case messages.StageInterrupted():
                self._release(worker, key)
                self._dispatcher.interrupt(key, message.step)
            case messages.StageFailed(reason="disk"):
                self._release(worker, key)
                self._dispatcher.cannot_write(key, message.message)
            case messages.StageFailed(reason="device"):
                self._lost(worker, message)
            case messages.StageFailed():
                self._failed(worker, message)

    def _release(self, worker: Worker, key: str) -> None:
        worker.running.remove(key)
        if (worker.retiring or worker.worn) and not self._dispatcher.stopping:
            worker.retire_if_idle()
        self._dispatcher.forget(key)

    def _done(self, worker: Worker, key: str, attempt: int) -> None:
        if not self._plans.graph.is_done(key):
            why = "said to be done, but has no result"
            self._failures.failed(Failure(key, "lost", why, attempt))
            return
        result = Result()
        try:
            result = read_result(self._paths.stage(key))
        except (OSError, StoreError) as error:
            self._log.report(error)
        worker.proven = True
        self._devices.losses.done(worker.device.id)
        self._plans.learn(key, result.seconds, result.steps)
        self.ran += 1
        self._failures.succeeded(key)
        self._log.append(
            logged.StageDone(
                key=key,
                seconds=result.seconds,
                score=result.score,
                metric=self._plans.graph.nodes[key].score,
                flag=result.flag,
            )
        )
        # Before its children may start: some may need a checkpoint that it did not keep.
        self._plans.insert_replays(key)
        self._queue.finish(key)

    def _failed(self, worker: Worker, message: messages.StageFailed) -> None:
        key, device = message.key, worker.device.id
        sharing = len(self._queue.devices[device].running)
        learnt = False
        if message.reason == "oom":
            # Workers that wait for a stage hold memory, too: what ran beside them is not all there was room for.
            sharing = max(sharing, self._dispatcher.workers.holding(worker.device))
            workload = self._plans.graph.nodes[key].workload
            learnt = self._devices.out_of_memory(device, workload, sharing)
            worker.worn = True
        failure = reported_failure(worker, message, self._devices.usage(device))
        self._release(worker, key)
        self._failures.failed(failure, sharing, learnt=learnt)

    def _lost(self, worker: Worker, message: messages.StageFailed) -> None:
        """A worker has lost its device while it had the stage. What else it has is interrupted when it is gone."""
        key = message.key
        failure = reported_failure(worker, message, self._devices.usage(worker.device.id))
        known, worker.unfit = worker.unfit, True  # several of its stages may find out
        worker.kill(f"lost its device: {message.message}")
        self._release(worker, key)
        place = "worker" if known else self._devices.lost(worker, key, message.message)
        if place == "stage" and not self._dispatcher.stopping:
            self._failures.failed(failure, final=True)
        else:
            self._dispatcher.interrupt(key, message.step, later=True)

    def _ended(self, worker: Worker, message: messages.WorkerEnded) -> None:
        """A worker is gone, with the stages it had."""
        self._log.append(
            logged.WorkerEnded(
                worker=worker.number,
                device=worker.device.id,
                pid=worker.pid,
                reason=worker.cause or message.how,
            )
        )
        keys = {key: self._dispatcher.running[key].attempt for key in worker.running}
        meant = self._dispatcher.stopping or worker.cause == "recalled" or worker.unfit
        innocent = meant or (bool(keys) and self._is_devices_fault(worker, message))
        usage = self._devices.usage(worker.device.id)
        for key, attempt in keys.items():
            self._release(worker, key)
            if self._plans.graph.is_done(key):
                self._done(worker, key, attempt)  # what it had to say of it was lost with it
                continue
            if innocent or not message.certain:
                self._dispatcher.interrupt(key, later=not meant, certain=message.certain)
                continue
            failure = worker_loss(worker, key, attempt, message, usage, self._dispatcher.timeouts)
            try:
                write_failure(self._paths.stage(key), failure, self._clock.time)
            except StoreError as error:
                self._log.report(error)
            self._failures.failed(failure, len(keys))

    def _is_devices_fault(self, worker: Worker, message: messages.WorkerEnded) -> bool:
        """Return whether no stage is to blame for the end of a worker: it never got to its stages, or its device is
        given up."""
        if worker.device.kind == "cpu":
            return False
        last = message.log.splitlines()[-1:]
        place = self._devices.lost(worker, None, ": ".join([f"the worker {message.how}", *last]))
        return place == "device" or not worker.ready

"""The scheduler: one process per store that keeps every slot busy until nothing is left to run.

It decides with `Queue`, acts through an executor, remembers in `scheduler.jsonl`, and believes the disk: a stage is
done when its result is there. Whatever kills it, its workers die with it, its lock with both, and the next run of the
same plans goes on from the checkpoints.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from prunectl.errors import StoreError
from prunectl.scheduler.device_pool import DevicePool
from prunectl.scheduler.dispatcher import Dispatcher
from prunectl.scheduler.executors.base import Executor
from prunectl.scheduler.heartbeat import Heartbeat, RunIdentity
from prunectl.scheduler.ingestion import Ingest
from prunectl.scheduler.log import SchedulerLog
from prunectl.scheduler.outcome import Outcome
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.reports import Reports
from prunectl.scheduler.requests import RequestHandler
from prunectl.scheduler.signals import Signals
from prunectl.scheduler.timeouts import Timeouts, Timer
from prunectl.scheduler.workers import Workers
from prunectl.store.holder import lock_note
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord, write_record
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.messages import Beat
from prunectl.store.records.scheduler_log import RunEnded, RunStarted, StageInterrupted
from prunectl.version import code_version

LOCK_SECONDS = 1.0
"""A command that records a cancel in the log has the store's lock for some milliseconds."""


@dataclass(eq=False)
class Scheduler:
    """Runs plans of a store on an executor until all that can be done is done. Used once.

    `run` is `start`, then `step` and `listen` in turns, then `close`; a simulation calls these itself.
    """

    paths: StorePaths
    executor: Executor
    plans: Sequence[str] = ()
    """Digests of their records in the store."""
    _: KW_ONLY
    ingest: Ingest | None = None
    """Brings the database up to date with some stages; called from a thread."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    run_id: str = ""
    """By default the local time and four random hex digits."""
    code: str = field(default_factory=code_version)
    """What this process has loaded: workers with other code start nothing."""
    on_heartbeat: Callable[[HeartbeatRecord], None] = lambda heartbeat: None
    on_record: Callable[[LogRecord], None] = lambda record: None
    """Gets each record of the scheduler's log (`store.records.scheduler_log`)."""

    def __post_init__(self) -> None:
        self.clock = self.executor.clock
        self.queue = Queue(self.timeouts.retries)
        self.stopping: Literal["soft", "now"] | None = None
        started = self.clock.time()
        when = time.strftime("%Y%m%d-%H%M%S", time.localtime(started))
        self.identity = RunIdentity(self.run_id or f"{when}-{secrets.token_hex(2)}", started)
        self._lock = Lock(self.paths.scheduler_lock)
        self._deadline = float("inf")
        """Monotonic time at which workers that were asked to stop are killed."""
        self._started = self._finished = False

    def run(self) -> Outcome:
        """Run to the end.

        Call it from the main thread if signals are to stop it; the workers die with the calling thread.

        Raises:
            StoreBusy: where a live scheduler has the store.
            StoreError: for plans that it does not hold.
        """
        with Signals() as signals:
            self.executor.wake_by(signals.reader)
            try:
                self.start(LOCK_SECONDS)
                while (until := self.step(signals.drain())) is not None:
                    self.listen(until)
            finally:
                self.close()
        return self.outcome()

    def start(self, patience: float = 0.0) -> None:
        """Take the store's lock, read its log, and queue the plans.

        Raises:
            StoreBusy: where a live scheduler has the store after `patience` seconds.
            StoreError: for plans that it does not hold.
        """
        identity = self.identity
        self._lock.acquire(lock_note(identity.pid, identity.host), patience=patience)
        timeouts, clock = self.timeouts, self.clock
        self.log = SchedulerLog(self.paths, clock.time, self.ingest, timeouts.beat, self.on_record)
        self.workers = Workers(self.executor)
        self.pool = DevicePool(self.executor, self.queue, self.log, timeouts)
        self.dispatcher = Dispatcher(
            self.paths, self.queue, self.pool, self.workers, self.log, timeouts, clock
        )
        self.reports = Reports(self.dispatcher, self.code)
        self.requests = RequestHandler(self.dispatcher, self.stop)
        self.heartbeat = Heartbeat(identity, self.dispatcher, clock, timeouts.forecast)
        self._look, self._beating = Timer(timeouts.poll), Timer(timeouts.beat)
        self._leasing, self._costs = Timer(timeouts.device_lock), Timer(timeouts.forecast)
        self._started = True
        self._begin()

    def _begin(self) -> None:
        plans = list(dict.fromkeys(self.plans))
        history = self.log.history
        self.queue.cancelled |= history.cancelled
        self.queue.held |= history.held
        self.queue.priority |= history.priority
        if self.executor.workers_outlive:
            until = self.clock.time() + self.timeouts.lease
            for key in sorted(history.dispatched):  # of a scheduler that was killed
                self.log.append(StageInterrupted(key=key, fenced_until=until), durable=True)
        self.log.append(
            RunStarted(
                run=self.identity.id,
                plans=tuple(plans),
                devices=tuple(self.pool.devices),
                pid=self.identity.pid,
                host=self.identity.host,
            )
        )
        for digest in plans:
            self.dispatcher.add_plan(digest)
        self.pool.lease_all()

    def step(self, asked_to_stop: int = 0) -> float | None:
        """Do all that there is to do now.

        Args:
            asked_to_stop: how often signals have asked to stop, once to stop gracefully, twice to stop now.

        Returns:
            The monotonic time until which to listen; None where the run is over.
        """
        now = self.clock.monotonic()
        if self._look.due(now):
            self.requests.carry_out()
        self._heed(asked_to_stop)
        if self.dispatcher.broken is not None:
            self.stop()
        beats = self._beating.due(now)
        if beats:
            self.dispatcher.tick()  # before giving stages out: some may be free to go by now
        if self._leasing.due(now):
            self.pool.lease_all()
        self.dispatcher.recall()
        self.dispatcher.dispatch()
        if self._over():
            self._finished = True
            return None
        if self._costs.due(now):
            self.dispatcher.plans.update_costs_if_changed()
        if beats:
            self._beat()
        self.log.ingestion.poll()
        return min(self._look.next, self._beating.next)

    def listen(self, until: float) -> None:
        """Take in messages of workers until a monotonic time, or until there may be something to do about them: beats
        alone ask for nothing."""
        while True:
            heard = self.workers.wait(max(0.0, until - self.clock.monotonic()))
            for worker, message in heard:
                self.reports.handle(worker, message)
            beats = all(isinstance(message, Beat) for _, message in heard)
            if not heard or not beats or self.clock.monotonic() >= until:
                return

    def _over(self) -> bool:
        if self.stopping is not None:
            if self.clock.monotonic() > self._deadline:
                self.workers.kill("stopped")
            return not self.workers
        if self.pool.none_left or self.dispatcher.outdated is not None:
            return not self.dispatcher.running
        if not self.queue.exhausted or self.requests.waits_for_release:
            return False
        if not self.requests.carry_out():
            return True
        self.dispatcher.dispatch()  # what came in the last moment is not lost
        return False

    def close(self) -> None:
        """End the workers, say in the store that the run is over, and release the lock; after an error, too."""
        # Workers first: nothing must write into a store whose lock is about to be released.
        self.executor.close()
        if not self._lock.held:
            return
        try:
            if self._started:
                self._end()
        finally:
            self._lock.release()

    def _end(self) -> None:
        reason = "stopped" if self.stopping else "finished" if self._finished else "error"
        reason = "devices" if self._finished and self.pool.none_left else reason
        reason = "outdated" if self._finished and self.dispatcher.outdated else reason
        reason = "disk" if self.dispatcher.broken else reason
        self.dispatcher.stopping = True
        for key in list(self.dispatcher.running):
            self.dispatcher.interrupt(key)
        trials = self.queue.trial_counts()
        self.log.append(RunEnded(run=self.identity.id, reason=reason, trials=trials))
        # The last heartbeat says what ingestion ended with.
        self.log.ingestion.close()
        self._beat(ended=True)
        self.log.close()

    def outcome(self) -> Outcome:
        """Return what the run came to."""
        return Outcome(
            trials=self.queue.trial_counts(),
            stages=self.dispatcher.stage_counts(),
            ran=self.reports.ran,
            failure=self.dispatcher.failures.first,
            stopped=self.dispatcher.failures.stopped,
            interrupted=self.stopping is not None and self.dispatcher.broken is None,
            broken=self.dispatcher.broken,
            given_up=dict(self.pool.given_up),
            outdated=self.dispatcher.outdated,
        )

    def _beat(self, ended: bool = False) -> None:
        heartbeat = self.heartbeat.build(self.stopping, ended)
        try:
            write_record(self.paths.heartbeat, heartbeat)
        except StoreError as error:
            self.log.report(error)
        self.on_heartbeat(heartbeat)

    def stop(self, now: bool = False) -> None:
        """End the run: workers finish their epoch or checkpoint first, or are killed `now`."""
        if self.stopping is not None and not now:
            return
        self.stopping = "now" if now else "soft"
        self.dispatcher.stopping = True
        self._deadline = self.clock.monotonic()
        if now:
            self.workers.kill("stopped")
        else:
            self._deadline += self.timeouts.stop + self.timeouts.grace
            self.workers.stop()

    def _heed(self, asked_to_stop: int) -> None:
        if asked_to_stop >= 2 and self.stopping != "now":
            self.stop(now=True)
        elif asked_to_stop == 1:
            self.stop()

"""The scheduler: one process per store that keeps every slot busy until nothing is left to run.

It decides with `Queue`, acts through `WorkerPool`, remembers in `scheduler.jsonl`, and believes the disk: a stage is
done when its result is there. Whatever kills it, its workers die with it, its lock with both, and the next run of the
same plans goes on from the checkpoints.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal

from prunectl.errors import StoreError
from prunectl.scheduler.device_pool import DevicePool
from prunectl.scheduler.devices.base import Device, DeviceLayer
from prunectl.scheduler.devices.locks import DeviceLocks
from prunectl.scheduler.devices.system import SystemLayer
from prunectl.scheduler.dispatcher import Dispatcher
from prunectl.scheduler.executors.local import WorkerPool
from prunectl.scheduler.heartbeat import Heartbeat, RunIdentity
from prunectl.scheduler.ingestion import Ingest
from prunectl.scheduler.log import SchedulerLog
from prunectl.scheduler.outcome import Outcome
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.requests import RequestHandler
from prunectl.scheduler.signals import Signals
from prunectl.scheduler.timeouts import Timeouts, Timer
from prunectl.store.holder import lock_note
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord, write_record
from prunectl.store.records.heartbeat import HeartbeatRecord
from prunectl.store.records.messages import Beat
from prunectl.store.records.scheduler_log import RunEnded, RunStarted

WORKER = (sys.executable, "-m", "prunectl.worker")
LOCK_SECONDS = 1.0
"""A command that records a cancel in the log has the store's lock for some milliseconds."""


@dataclass(eq=False)
class Scheduler:
    """Runs plans of a store on devices until all that can be done is done. Used once."""

    paths: StorePaths
    devices: Sequence[Device]
    plans: Sequence[str] = ()
    """Digests of their records in the store."""
    _: KW_ONLY
    data: Path | str = "data"
    """Folder of the data sets; passed on to the workers."""
    ingest: Ingest | None = None
    """Brings the database up to date with some stages; called from a thread."""
    worker_command: Sequence[str] = WORKER
    layer: DeviceLayer = field(default_factory=SystemLayer)
    share: bool = False
    """Use devices that other schedulers have locked, too."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    run_id: str = ""
    """By default the local time and four random hex digits."""
    checkpoint_every: float | None = None
    """Seconds between checkpoints inside stages; None for the worker's own."""
    on_heartbeat: Callable[[HeartbeatRecord], None] = lambda heartbeat: None
    on_record: Callable[[LogRecord], None] = lambda record: None
    """Gets each record of the scheduler's log (`store.records.scheduler_log`)."""
    clock: Callable[[], float] = time.time
    """Unix seconds."""

    def __post_init__(self) -> None:
        self.queue = Queue(self.timeouts.retries)
        self.stopping: Literal["soft", "now"] | None = None
        name = self.run_id or time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self.identity = RunIdentity(name, self.clock())
        self._deadline = float("inf")
        """Monotonic time at which workers that were asked to stop are killed."""

    def run(self) -> Outcome:
        """Run to the end.

        Call it from the main thread if signals are to stop it; the workers die with the calling thread.

        Raises:
            StoreBusy: where a live scheduler has the store.
            StoreError: for plans that it does not hold.
        """
        lock = Lock(self.paths.scheduler_lock)
        lock.acquire(lock_note(self.identity.pid, self.identity.host), patience=LOCK_SECONDS)
        try:
            with Signals() as signals:
                self._open(signals)
                reason = "error"
                try:
                    self._begin()
                    self._loop(signals)
                    reason = "stopped" if self.stopping else "finished"
                    reason = "disk" if self.dispatcher.broken else reason
                finally:
                    self._end(reason)
        finally:
            lock.release()
        return Outcome(
            trials=self.queue.trial_counts(),
            stages=self.dispatcher.stage_counts(),
            ran=self.dispatcher.ran,
            failure=self.dispatcher.failures.first,
            stopped=self.dispatcher.failures.stopped,
            interrupted=self.stopping is not None and self.dispatcher.broken is None,
            broken=self.dispatcher.broken,
        )

    def _open(self, signals: Signals) -> None:
        """Make what reads and writes the store, now that the lock is held."""
        paths, queue, timeouts = self.paths, self.queue, self.timeouts
        self.log = SchedulerLog(paths, self.clock, self.ingest, timeouts.beat, self.on_record)
        command = [*self.worker_command, "--store", str(paths.root), "--data", str(self.data)]
        if self.checkpoint_every is not None:
            command += ["--checkpoint-every", f"{self.checkpoint_every:g}"]
        self.workers = WorkerPool(command, paths.logs)
        self.workers.wake_by(signals.reader)
        locks = None if self.share else DeviceLocks()
        self.pool = DevicePool(self.devices, queue, self.log, self.layer, timeouts, locks)
        self.dispatcher = Dispatcher(
            paths, queue, self.pool, self.workers, self.log, timeouts, self.clock
        )
        self.requests = RequestHandler(self.dispatcher, self.stop)
        self.heartbeat = Heartbeat(self.identity, self.dispatcher, timeouts.forecast)

    def _begin(self) -> None:
        plans = list(dict.fromkeys(self.plans))
        history = self.log.history
        self.queue.cancelled |= history.cancelled
        self.queue.held |= history.held
        self.queue.priority |= history.priority
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
        self.pool.lock_all()

    def _loop(self, signals: Signals) -> None:
        look, beat = Timer(self.timeouts.poll), Timer(self.timeouts.beat)
        lock, costs = Timer(self.timeouts.device_lock), Timer(self.timeouts.forecast)
        while True:
            now = time.monotonic()
            if look.due(now):
                self.requests.carry_out()
            self._heed(signals)
            if self.dispatcher.broken is not None:
                self.stop()
            self.dispatcher.recall()
            self.dispatcher.dispatch()
            if self._over():
                return
            if lock.due(now):
                self.pool.lock_all()
            if costs.due(now):
                self.dispatcher.plans.update_costs_if_changed()
            if beat.due(now):
                self.dispatcher.tick()
                self._beat()
            self.log.ingestion.poll()
            self._listen(min(look.next, beat.next))

    def _listen(self, until: float) -> None:
        """Take in messages of workers until there may be something to do about them: beats alone ask for nothing."""
        while True:
            heard = self.workers.wait(max(0.0, until - time.monotonic()))
            for worker, message in heard:
                self.dispatcher.handle(worker, message)
            beats = all(isinstance(message, Beat) for _, message in heard)
            if not heard or not beats or time.monotonic() >= until:
                return

    def _over(self) -> bool:
        if self.stopping is not None:
            if time.monotonic() > self._deadline:
                self.workers.kill("stopped")
            return not self.workers.workers
        if not self.queue.exhausted or self.requests.waits_for_release:
            return False
        return not self.requests.carry_out()  # what came in the last moment is not lost

    def _end(self, reason: str) -> None:
        # Workers first: nothing must write into a store whose lock is about to be released.
        self.workers.close()
        self.dispatcher.stopping = True
        for key in list(self.dispatcher.running):
            self.dispatcher.interrupt(key)
        self.pool.close()
        trials = self.queue.trial_counts()
        self.log.append(RunEnded(run=self.identity.id, reason=reason, trials=trials))
        # The last heartbeat says what ingestion ended with.
        self.log.ingestion.close()
        self._beat(ended=True)
        self.log.close()

    def _beat(self, ended: bool = False) -> None:
        heartbeat = self.heartbeat.build(self.clock(), self.stopping, ended)
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
        self._deadline = time.monotonic()
        if now:
            self.workers.kill("stopped")
        else:
            self._deadline += self.timeouts.stop + self.timeouts.grace
            self.workers.stop()

    def _heed(self, signals: Signals) -> None:
        signals.drain()
        if signals.count >= 2 and self.stopping != "now":
            self.stop(now=True)
        elif signals.count == 1:
            self.stop()

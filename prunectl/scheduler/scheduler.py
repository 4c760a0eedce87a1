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
from pathlib import Path
from typing import Any, Literal

from prunectl.errors import StoreBusy, StoreError
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
from prunectl.store.files import write_json
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths

WORKER = (sys.executable, "-m", "prunectl.worker")
LOCK_SECONDS = 1.0
"""A command that records a cancel in the log has the store's lock for some milliseconds."""


class Scheduler:
    """Runs plans of a store on devices until all that can be done is done. Used once."""

    def __init__(
        self,
        paths: StorePaths,
        devices: Sequence[Device],
        plans: Sequence[str] = (),
        *,
        data: Path | str = "data",
        ingest: Ingest | None = None,
        worker_command: Sequence[str] = WORKER,
        layer: DeviceLayer | None = None,
        share: bool = False,
        lock_folder: Path | None = None,
        timeouts: Timeouts | None = None,
        run_id: str | None = None,
        checkpoint_every: float | None = None,
        on_heartbeat: Callable[[dict[str, Any]], None] | None = None,
        on_record: Callable[[dict[str, Any]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a run.

        Args:
            plans: digests of their records in the store.
            data: folder of the data sets; passed on to the workers.
            ingest: brings the database up to date with some stages; called from a thread.
            worker_command: starts a worker.
            share: use devices that other schedulers have locked, too.
            lock_folder: overrides the folder of the device locks.
            checkpoint_every: seconds between checkpoints inside stages; None for the worker's own.
            on_heartbeat: gets each heartbeat (`heartbeat`).
            on_record: gets each record of the scheduler's log (`store.records.scheduler_log`).
            clock: Unix seconds.
        """
        self.paths = paths
        self.timeouts = timeouts or Timeouts()
        self.queue = Queue(self.timeouts.retries)
        self.stopping: Literal["soft", "now"] | None = None
        name = run_id or time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self.identity = RunIdentity(name, started=clock())
        self._devices = list(devices)
        self._plans = list(dict.fromkeys(plans))
        self._command = [*worker_command, "--store", str(paths.root), "--data", str(data)]
        if checkpoint_every is not None:
            self._command += ["--checkpoint-every", f"{checkpoint_every:g}"]
        self._ingest = ingest
        self._layer: DeviceLayer = layer or SystemLayer()
        self._locks = None if share else DeviceLocks(lock_folder)
        self._on_heartbeat = on_heartbeat
        self._on_record = on_record
        self._clock = clock
        self._deadline = float("inf")
        """Monotonic time at which workers that were asked to stop are killed."""

    def run(self) -> Outcome:
        """Run to the end.

        Call it from the main thread if signals are to stop it; the workers die with the calling thread.

        Raises:
            StoreBusy: where a live scheduler has the store.
            StoreError: for plans that it does not hold.
        """
        lock = self._lock()
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

    def _lock(self) -> Lock:
        lock = Lock(self.paths.scheduler_lock)
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                lock.acquire(f"the scheduler with pid {self.identity.pid} on {self.identity.host}")
                return lock
            except StoreBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _open(self, signals: Signals) -> None:
        """Make what reads and writes the store, now that the lock is held."""
        paths, queue, timeouts = self.paths, self.queue, self.timeouts
        log = SchedulerLog(paths, self._clock, self._ingest, timeouts.beat, self._on_record)
        self.log = log
        self.workers = WorkerPool(self._command, paths.logs)
        self.workers.wake_by(signals.reader)
        devices = DevicePool(self._devices, queue, log, self._locks, self._layer, timeouts)
        self.devices = devices
        self.dispatcher = Dispatcher(
            paths, queue, devices, self.workers, log, timeouts, self._clock
        )
        self.requests = RequestHandler(paths, queue, devices, self.dispatcher, log, self.stop)
        self.heartbeat = Heartbeat(
            self.identity, queue, devices, self.dispatcher, log, timeouts.forecast
        )

    def _begin(self) -> None:
        history = self.log.history
        self.queue.cancelled |= history.cancelled
        self.queue.held |= history.held
        self.queue.priority |= history.priority
        self.log.append(
            "run_started",
            run=self.identity.run,
            plans=self._plans,
            devices=list(self.devices.devices),
            pid=self.identity.pid,
            host=self.identity.host,
        )
        for digest in self._plans:
            self.dispatcher.add_plan(digest)
        self.devices.lock_all()

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
                self.devices.lock_all()
            if costs.due(now):
                self.dispatcher.plans.update_costs_if_changed()
            if beat.due(now):
                self.dispatcher.tick()
                self._beat()
            self._listen(min(look.next, beat.next))

    def _listen(self, until: float) -> None:
        """Take in messages of workers until there may be something to do about them: beats alone ask for nothing."""
        while True:
            heard = self.workers.wait(max(0.0, until - time.monotonic()))
            for worker, message in heard:
                self.dispatcher.handle(worker, message)
            beats = all(message["is"] == "beat" for _, message in heard)
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
        self.workers.close()
        self.dispatcher.stopping = True
        for key in list(self.dispatcher.running):
            self.dispatcher.interrupt(key)
        self.devices.close()
        trials = self.queue.trial_counts()
        self.log.append("run_ended", run=self.identity.run, reason=reason, trials=trials)
        self.log.end_ingestion()
        self._beat(ended=True)
        self.log.close()

    def _beat(self, ended: bool = False) -> None:
        heartbeat = self.heartbeat.build(self._clock(), self.stopping, ended)
        try:
            write_json(self.paths.heartbeat, heartbeat)
        except StoreError as error:
            self.log.report(error)
        if self._on_heartbeat is not None:
            self._on_heartbeat(heartbeat)

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

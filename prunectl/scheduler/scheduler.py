"""The scheduler: one process per store that keeps every slot busy until nothing is left to run.

It decides with `Queue`, acts through `Pool`, remembers in `scheduler.jsonl`, and believes the disk: a stage
is done when its result is there. Whatever kills it, its workers die with it, its lock with both, and the
next run of the same plans goes on from the checkpoints.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from prunectl.errors import StoreBusy, StoreError
from prunectl.scheduler import requests as clerk
from prunectl.scheduler.device_pool import Fleet
from prunectl.scheduler.devices.base import Device, DeviceLayer, SystemLayer
from prunectl.scheduler.devices.locks import Leases
from prunectl.scheduler.dispatcher import Work
from prunectl.scheduler.executors.local import Pool, command_line
from prunectl.scheduler.heartbeat import Pulse
from prunectl.scheduler.ingestion import Ingest
from prunectl.scheduler.items import State
from prunectl.scheduler.log import Ledger
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.signals import Signals
from prunectl.scheduler.timeouts import Limits, Outcome
from prunectl.store import requests as control
from prunectl.store.files import write_json
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths

WORKER = (sys.executable, "-m", "prunectl.worker")


class Scheduler:
    """Runs plans of a store on devices until all that can be done is done. Used once."""

    work: Work
    fleet: Fleet
    ledger: Ledger

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
        leases: Path | None = None,
        limits: Limits | None = None,
        run_id: str | None = None,
        checkpoint_every: float | None = None,
        on_tick: Callable[[dict[str, Any]], None] | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a run of plans, given by the digests of their records in the store.

        `data` is the folder of the data sets and `worker_command` what starts a worker, both passed on.
        `ingest` brings the database up to date with some stages; it is called from a thread. `share` uses
        devices that other schedulers have leased, `leases` overrides the folder of leases. `checkpoint_every`
        is the time in seconds between checkpoints inside stages, None the worker's own. `on_tick` gets
        each heartbeat (`pulse`), `on_event` each record of the scheduler's log (`storage.history`).
        """
        self.paths = paths
        self.layer: DeviceLayer = layer or SystemLayer()
        self.queue = Queue((limits or Limits()).retries)
        self.stopping: Literal["soft", "now"] | None = None
        self.held_here: set[str] = set()
        """Trials held during this run: it waits for their release instead of ending."""
        self.started = clock()
        self.run_id = run_id or time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self.pid = os.getpid()
        self.asked_before: set[str] = set()
        """Requests that were there when it started; a clock that was set back does not confuse it."""
        self.host = socket.gethostname()
        self._devices = list(devices)
        self._plans = list(dict.fromkeys(plans))
        self._limits = limits or Limits()
        arguments = {"store": str(paths.root), "data": str(data)}
        if checkpoint_every is not None:
            arguments["checkpoint-every"] = f"{checkpoint_every:g}"
        self._command = command_line(worker_command, arguments)
        self._ingest = ingest
        self._leases = None if share else Leases(leases)
        self._on_tick = on_tick
        self._on_event = on_event
        self._clock = clock
        self._pulse = Pulse(self._limits.forecast)
        self._pool: Pool
        self._deadline = float("inf")

    def run(self) -> Outcome:
        """Run to the end.

        Raises StoreBusy where a live scheduler has the store, and StoreError for plans that it does not
        hold. Call it from the main thread if signals are to stop it; the workers die with the calling
        thread.
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
                    reason = "disk" if self.work.broken else reason
                finally:
                    self._end(reason)
        finally:
            lock.release()
        return Outcome(
            trials=self.queue.trial_counts(),
            stages=self.work.stage_counts(),
            ran=self.work.ran,
            failure=self.work.failure,
            stopped=self.work.stopped,
            interrupted=self.stopping is not None and self.work.broken is None,
            broken=self.work.broken,
        )

    def _lock(self) -> Lock:
        lock = Lock(self.paths.scheduler_lock)
        deadline = time.monotonic() + 1
        while True:
            try:
                lock.acquire(f"the scheduler with pid {self.pid} on {self.host}")
                return lock
            except StoreBusy:
                # A command that records a cancel in the log has the lock for some milliseconds.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _open(self, signals: Signals) -> None:
        self.ledger = Ledger(
            self.paths, self._clock, self._ingest, self._limits.beat, self._on_event
        )
        self._pool = Pool(self._command, self.paths.logs)
        self._pool.wake_by(signals.reader)
        self.fleet = Fleet(
            self._devices,
            self.queue,
            self.ledger,
            self._leases,
            self.layer,
            (self._limits.measure, self._limits.measure_steps),
        )
        self.work = Work(
            self.paths,
            self.queue,
            self.fleet,
            self._pool,
            self.ledger,
            self._limits,
            self._clock,
            self.layer,
        )

    def _begin(self) -> None:
        self.asked_before = {request["id"] for request in control.pending(self.paths)}
        history = self.ledger.history
        self.queue.cancelled |= history.cancelled
        self.queue.held |= history.held
        self.queue.priority |= history.priority
        self.ledger.log(
            "run_started",
            run=self.run_id,
            plans=self._plans,
            devices=list(self.fleet.devices),
            pid=self.pid,
            host=self.host,
        )
        for digest in self._plans:
            self.add_plan(digest)
        self.fleet.lease_all()

    def add_plan(self, digest: str) -> str:
        """Queue a plan of the store; what that adds, in words.

        Running a plan again is asking for its failures to be tried again. Raises StoreError where the
        store has no such plan.
        """
        text = self.work.add_plan(digest)
        stages = self.work.graph.studies[digest].stages
        failed = sorted(key for key in self.ledger.history.failures if key in stages)
        trials = [trial.trial for trial in self.work.graph.studies[digest].trials]
        failed = sorted({*failed, *self.queue.forgive(trials)})
        if failed:
            self.ledger.log("retried", trials=[], keys=failed)
        self.work.forget_failures(trials)
        return text

    def _loop(self, signals: Signals) -> None:
        next_look = next_beat = next_lease = next_cost = 0.0
        while True:
            now = time.monotonic()
            if now >= next_look:
                clerk.obey(self)
                next_look = now + self._limits.poll
            self._signalled(signals)
            if self.work.broken is not None:
                self.stop()
            self.work.recall()
            self.work.dispatch()
            if self._over():
                return
            if now >= next_lease:
                self.fleet.lease_all()
                next_lease = now + self._limits.lease
            if now >= next_cost:
                self.work.recost_if_measured()
                next_cost = now + self._limits.forecast
            if now >= next_beat:
                self.work.tick()
                self._beat()
                next_beat = now + self._limits.beat
            self._hear(min(next_look, next_beat))

    def _hear(self, until: float) -> None:
        """Take in what workers say, until there may be something to do about it: beats alone ask for nothing."""
        while True:
            heard = self._pool.wait(max(0.0, until - time.monotonic()))
            for worker, message in heard:
                self.work.hear(worker, message)
            beats = all(message["is"] == "beat" for _, message in heard)
            if not heard or not beats or time.monotonic() >= until:
                return

    def _over(self) -> bool:
        if self.stopping is not None:
            if time.monotonic() > self._deadline:
                self._pool.kill("stopped")
            return not self._pool.workers
        if not self.queue.exhausted or self._waits_for_release():
            return False
        return not clerk.obey(self)  # what came in the last moment is not lost

    def _waits_for_release(self) -> bool:
        return any(self.queue.trial_state(trial) is State.HELD for trial in self.held_here)

    def _end(self, reason: str) -> None:
        self._pool.close()
        self.work.stopping = True
        for key in list(self.work.running):
            self.work.cut(key)
        self.fleet.close()
        trials = self.queue.trial_counts()
        self.ledger.log("run_ended", run=self.run_id, reason=reason, trials=trials)
        self.ledger.settle()
        self._beat(ended=True)
        self.ledger.close()

    def _beat(self, ended: bool = False) -> None:
        heartbeat = self._pulse.heartbeat(self, self._clock())
        if ended:
            heartbeat["ended"] = heartbeat["time"]
        try:
            write_json(self.paths.heartbeat, heartbeat)
        except StoreError as error:
            self.ledger.report(error)
        if self._on_tick is not None:
            self._on_tick(heartbeat)

    def stop(self, *, now: bool = False) -> None:
        """End the run: workers finish their epoch or checkpoint first, or are killed `now`."""
        if self.stopping is not None and not now:
            return
        self.stopping = "now" if now else "soft"
        self.work.stopping = True
        if now:
            self._deadline = time.monotonic()
            self._pool.kill("stopped")
        else:
            self._deadline = time.monotonic() + self._limits.stop + self._limits.grace
            self._pool.stop()

    def _signalled(self, signals: Signals) -> None:
        signals.drain()
        if signals.count >= 2 and self.stopping != "now":
            self.stop(now=True)
        elif signals.count == 1 and self.stopping is None:
            self.stop()

    def drain(self, name: str) -> str:
        """Move stages off a device, end its workers and give it back, until `undrain`.

        Raises UnknownName for a device that the run does not have.
        """
        self.fleet.drain(name)
        return f"{name} is drained: its stages checkpoint and move"

    def undrain(self, name: str) -> str:
        """Use a device again.

        Raises UnknownName for a device that the run does not have.
        """
        state, reason = self.fleet.undrain(name)
        return f"{name} is used again" if state == "open" else f"{name} is {state}: {reason}"

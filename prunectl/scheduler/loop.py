"""The scheduler: one process per store that keeps every slot busy until nothing is left to run.

It decides with `Queue`, acts through `Pool`, remembers in `scheduler.jsonl`, and believes the disk: a stage is done
when its result is there. Whatever kills it, its workers die with it, its lock with both, and the next run of the same
plans goes on from the checkpoints.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prunectl.errors import StoreBusy, StoreError, UnknownName
from prunectl.scheduler import clerk
from prunectl.scheduler.devices import Device, DeviceLayer, SystemLayer
from prunectl.scheduler.earlystop import EarlyStop, signature
from prunectl.scheduler.forecast import Rates
from prunectl.scheduler.graph import StageGraph
from prunectl.scheduler.ingestion import Ingest, Ingestion
from prunectl.scheduler.leases import Leases
from prunectl.scheduler.pulse import Pulse, Running
from prunectl.scheduler.queue import Dispatch, Queue, State
from prunectl.scheduler.signals import Signals
from prunectl.scheduler.workers import Message, Pool, Worker, worker_command
from prunectl.storage.files import read_json, write_json
from prunectl.storage.history import History
from prunectl.storage.journal import Journal
from prunectl.storage.locks import Lock, is_held
from prunectl.storage.paths import StorePaths
from prunectl.storage.studies import read_study

WORKER = (sys.executable, "-m", "prunectl.stage")


@dataclass(frozen=True)
class Limits:
    """What the scheduler is patient with; times in seconds."""

    retries: int = 2
    """Attempts of a stage beside the first."""
    same_failures: int = 3
    """Stages of a study that the same error has to end, none being done, to stop the study; 0 never stops."""
    hang: float = 300.0
    """Silence of a worker that has stages, after which it is killed."""
    start: float = 300.0
    """The same for a worker that is starting: importing torch from a cold network disk takes minutes."""
    stop: float = 30.0
    """For workers to finish an epoch or checkpoint, as the worker protocol says."""
    grace: float = 15.0
    """For writing that checkpoint and ending, before they are killed."""
    beat: float = 1.0
    """Between heartbeats, and between ingestions."""
    lease: float = 5.0
    """Between attempts to lease a device that another scheduler has."""
    forecast: float = 10.0
    """Between forecasts."""
    poll: float = 0.25
    """Between looks for requests."""


@dataclass(frozen=True)
class Failure:
    """A stage that ended in failure."""

    key: str
    reason: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    trials: dict[str, int]
    """How many are in each state at the end; states as in `queue.State`."""
    stages: dict[str, int]
    """The same for stages, and `interrupted`: stopped inside their training, to go on in the next run."""
    ran: int = 0
    """Stages done in this run."""
    failure: Failure | None = None
    """The first one that was final."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Studies (by name) that were stopped early, and why."""
    interrupted: bool = False
    """Ended by a signal or a request to stop."""

    @property
    def ok(self) -> bool:
        """Every trial that nobody cancelled or held is done."""
        bad = (State.FAILED, State.BLOCKED, State.WAITING, State.RUNNING)
        return not any(self.trials.get(state, 0) for state in bad)


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
        leases: Path | None = None,
        limits: Limits | None = None,
        run_id: str | None = None,
        on_tick: Callable[[dict[str, Any]], None] | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Plans are digests of records in the store. `ingest` brings the database up to date with some stages; it is
        called from a thread. `share` uses devices that other schedulers have leased. `on_tick` gets each heartbeat,
        `on_event` each record of the scheduler's log."""
        self.paths = paths
        self.devices = {device.id: device for device in devices}
        self.plans = list(dict.fromkeys(plans))
        self.limits = limits or Limits()
        self.layer: DeviceLayer = layer or SystemLayer()
        self.graph = StageGraph(paths)
        self.queue = Queue(self.limits.retries)
        self.rates = Rates()
        self.history = History()
        self.running: dict[str, Running] = {}
        self.stopping: Literal["soft", "now"] | None = None
        self.held_here: set[str] = set()
        """Trials held during this run: it waits for their release instead of ending."""
        self.trouble: str | None = None
        self.started = clock()
        self.run_id = run_id or time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self.pid = os.getpid()
        self.host = socket.gethostname()
        self._arguments = {"store": str(paths.root), "data": str(data)}
        self._command = tuple(worker_command)
        self._ingest = ingest
        self._share = share
        self._leases = Leases(leases)
        self._on_tick = on_tick
        self._on_event = on_event
        self._clock = clock
        self._early = EarlyStop(self.limits.same_failures)
        self._pulse = Pulse(self.limits.forecast)
        self._closed: dict[str, tuple[str, str]] = {}
        self._sizes: dict[str, int] = {}
        self._interrupted: set[str] = set()
        self._early_stops: dict[str, str] = {}
        self._failure: Failure | None = None
        self._ran = 0
        self._deadline = float("inf")
        self._next_lease = 0.0
        self._rates_changed = False
        self._pool: Pool
        self._journal: Journal
        self._ingestion: Ingestion | None = None

    # the run

    def run(self) -> Outcome:
        """Run to the end.

        Raises StoreBusy where a live scheduler has the store, and StoreError for plans that it does not hold. Call it
        from the main thread if signals are to stop it; the workers die with the calling thread.
        """
        lock = self._lock()
        try:
            with Signals() as signals:
                self._journal = Journal(self.paths.scheduler_log, self._clock)
                command = worker_command(self._command, self._arguments)
                self._pool = Pool(command, self.paths.logs)
                self._pool.wake_by(signals.reader)
                if self._ingest is not None:
                    self._ingestion = Ingestion(self.paths, self._ingest, self.limits.beat)
                reason = "error"
                try:
                    self._begin()
                    self._loop(signals)
                    reason = "stopped" if self.stopping else "finished"
                finally:
                    self._end(reason)
                return self._outcome()
        finally:
            lock.release()

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

    def _begin(self) -> None:
        self.history.catch_up(self.paths)
        self.queue.cancelled |= self.history.cancelled
        self.queue.held |= self.history.held
        self.queue.priority |= self.history.priority
        for device in self.devices.values():
            self.queue.add_device(device.id, device.slots)
            self.queue.open_device(device.id, False)
        self.log(
            "run_started",
            run=self.run_id,
            plans=self.plans,
            devices=list(self.devices),
            pid=self.pid,
            host=self.host,
        )
        for digest in self.plans:
            self.add_plan(digest)
        # Running a plan again is asking for its failures to be tried again.
        failed = sorted(set(self.history.failures) & set(self.graph.nodes))
        if failed:
            self.log("retried", trials=[], keys=failed)
        for device in self.devices.values():
            self._lease(device)

    def _loop(self, signals: Signals) -> None:
        next_look = next_beat = 0.0
        while True:
            now = time.monotonic()
            if now >= next_look:
                clerk.obey(self)
                next_look = now + self.limits.poll
            self._signalled(signals)
            self._recall()
            if self.stopping is None:
                self._dispatch()
            if self._over():
                return
            if now >= next_beat:
                self._tick()
                next_beat = now + self.limits.beat
            rest = min(next_look, next_beat) - time.monotonic()
            for worker, message in self._pool.wait(max(0.0, rest)):
                self._hear(worker, message)

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
        for key in list(self.running):
            self._leave(key)
            self.queue.interrupted(key)
            self._interrupted.add(key)
        if self._ingestion is not None:
            self._ingestion.close()
        self._leases.close()
        self.log("run_ended", run=self.run_id, reason=reason, trials=self.queue.trial_counts())
        self._beat(ended=True)
        self._journal.close()

    def _outcome(self) -> Outcome:
        stages = self.queue.counts()
        cut = sum(self.queue.state(key) is State.WAITING for key in self._interrupted)
        stages["interrupted"] = cut
        stages["waiting"] -= cut
        return Outcome(
            self.queue.trial_counts(),
            stages,
            self._ran,
            self._failure,
            self._early_stops,
            self.stopping is not None,
        )

    # plans

    def add_plan(self, digest: str) -> str:
        """Queue a plan of the store; what that adds, in words. Raises StoreError where there is none."""
        study = read_study(self.paths, digest)
        order = [*self.graph.add(study), *study.stages]
        self.rates.learn_from(self.graph)
        for key in dict.fromkeys(order):
            self._enqueue(key)
        for key in study.stages:
            self._insert_replays(key)
        self._recost()
        done = sum(self.graph.is_done(key) for key in study.stages)
        total = len(study.stages)
        self.log(
            "queued",
            plan=digest,
            name=study.name,
            trials=len(study.trials),
            stages=total,
            done=done,
        )
        return f"{study.name}: {len(study.trials)} trials, {total} stages, {done} of them done"

    def _enqueue(self, key: str) -> None:
        node = self.graph.nodes[key]
        self.queue.add(
            key, node.needs, self.graph.wanted_by[key], node.steps, self.graph.is_done(key)
        )

    def _insert_replays(self, key: str) -> None:
        for replay in self.graph.insert_replays(key):
            self._enqueue(replay)
            for child in self.graph.children[replay]:
                self._enqueue(child)
            self._recost()

    def _recost(self) -> None:
        """Costs in seconds once any were measured, in steps before."""
        nodes = self.graph.nodes
        self.queue.set_costs(
            {
                key: seconds
                if (seconds := self.rates.seconds(nodes[key])) is not None
                else nodes[key].steps
                for key in self.queue.items
            }
        )
        self._rates_changed = False

    def _studies_of(self, key: str) -> list[str]:
        return [digest for digest, study in self.graph.studies.items() if key in study.stages]

    def forget_failures(self, trials: Sequence[str]) -> None:
        """Begin counting anew: a retry of these trials was asked for."""
        chosen = set(trials)
        for digest, study in self.graph.studies.items():
            if any(trial.trial in chosen for trial in study.trials):
                self._early.forget([digest])

    # devices

    def device_state(self, name: str) -> tuple[str, str]:
        """("open" | "drained" | "leased", who or why)."""
        return self._closed.get(name, ("open", ""))

    def _lease(self, device: Device) -> None:
        try:
            holder = None if self._share else self._leases.take(device)
        except StoreError as error:
            holder = str(error)
        known = self._closed.get(device.id)
        if holder is None:
            self._closed.pop(device.id, None)
            self.queue.open_device(device.id)
            return
        if known is None or known[0] != "leased":
            self.log("leased", device=device.id, reason=holder)
        self._closed[device.id] = ("leased", holder)

    def drain(self, name: str) -> str:
        """Move stages off the device, end its workers and give it back, until `undrain`."""
        self._known(name)
        self.queue.open_device(name, False)
        self._closed[name] = ("drained", "on request")
        self.log("drained", device=name, reason="on request")
        for worker in self._pool.workers:
            if worker.device.id == name:
                self._pool.retire(worker)
        return f"{name} is drained: its stages checkpoint and move"

    def undrain(self, name: str) -> str:
        """Use the device again."""
        device = self._known(name)
        self._closed.pop(name, None)
        self.log("undrained", device=name)
        self._lease(device)
        state, reason = self.device_state(name)
        return f"{name} is used again" if state == "open" else f"{name} is leased: {reason}"

    def _known(self, name: str) -> Device:
        if name not in self.devices:
            raise UnknownName("device", name, self.devices)
        return self.devices[name]

    # stages

    def _dispatch(self) -> None:
        while (choice := self.queue.next()) is not None:
            key = choice.key
            if self.graph.is_done(key):
                self._done(key)
            elif is_held(self.paths.stage(key).lock):
                self.queue.postpone(key)  # a worker of an earlier scheduler is still dying
            else:
                self._start(choice)

    def _start(self, choice: Dispatch) -> None:
        key, device = choice.key, self.devices[choice.device]
        node = self.graph.nodes[key]
        files = self.paths.stage(key)
        try:
            if not files.spec.exists():
                write_json(files.spec, node.spec)
            worker = self._pool.place(device, key, self.graph.keep(key), node.flags, node.kind)
        except (OSError, StoreError) as error:
            self._failed(key, {"reason": "exception", "message": f"could not be started: {error}"})
            return
        self.running[key] = Running(
            key,
            device.id,
            worker.number,
            worker.pid,
            choice.attempt,
            self._clock(),
            sum(segment["steps"] for segment in node.spec["stage"]["lr"]),
        )
        self.log(
            "dispatched", key=key, device=device.id, worker=worker.number, attempt=choice.attempt
        )

    def _recall(self) -> None:
        """Ask workers to leave stages that nobody wants, or whose device is drained."""
        drained = {name for name, (state, _) in self._closed.items() if state == "drained"}
        unwanted = set(self.queue.to_recall())
        now = time.monotonic()
        for key, stage in self.running.items():
            worker = self._pool.find(key)
            if worker is None:
                continue
            if stage.recalled is None and (key in unwanted or stage.device in drained):
                stage.recalled = now + self.limits.stop + self.limits.grace
                worker.tell({"do": "cancel", "key": key})
            elif stage.recalled is not None and now > stage.recalled:
                worker.kill("recalled")
        for name in drained:
            if not any(worker.device.id == name for worker in self._pool.workers):
                self._leases.give_back(self.devices[name])

    def _hear(self, worker: Worker, message: Message) -> None:
        key = message.get("key")
        if key is not None and key not in worker.running:
            return
        match message["is"]:
            case "ready":
                self.log(
                    "worker_started", worker=worker.number, device=worker.device.id, pid=worker.pid
                )
            case "beat":
                for name, progress in message.get("running", {}).items():
                    if name in self.running:
                        self.running[name].beat(progress)
            case "done" if key is not None:
                self._release(worker, key)
                self._done(key)
            case "interrupted" if key is not None:
                self._release(worker, key)
                self._cut(key, message.get("step"))
            case "failed" if key is not None:
                crowd = len(self.queue.places[worker.device.id].running)
                if message.get("reason") == "oom":
                    self._pool.retire(worker)  # what is left of its memory is fragmented
                self._release(worker, key)
                self._failed(key, message, crowd)
            case "ended":
                self._buried(worker, message)

    def _release(self, worker: Worker, key: str) -> None:
        del worker.running[key]
        if worker.retiring and not worker.running and self.stopping is None:
            worker.end_input()
        self._leave(key)

    def _leave(self, key: str) -> None:
        self.running.pop(key, None)
        self._sizes.pop(key, None)
        self._changed([key])

    def _done(self, key: str) -> None:
        if not self.graph.is_done(key):
            self._failed(key, {"reason": "lost", "message": "said to be done, but has no result"})
            return
        result: dict[str, Any] = {}
        try:
            result = read_json(self.paths.stage(key).result)
        except (OSError, StoreError) as error:
            self.trouble = str(error)
        node = self.graph.nodes[key]
        self.rates.learn(node, result.get("seconds") or 0.0, result.get("steps") or 0)
        self._rates_changed = True
        self._ran += 1
        self._early.succeeded(self._studies_of(key))
        self.log(
            "stage_done",
            key=key,
            seconds=result.get("seconds"),
            accuracy=result.get("accuracy"),
            flag=result.get("flag"),
        )
        try:
            self._insert_replays(key)
        except StoreError as error:
            self.trouble = str(error)  # those that need the checkpoint will fail and say so
        self.queue.finish(key)

    def _cut(self, key: str, step: int | None) -> None:
        self.log("stage_interrupted", key=key, step=step)
        if self.stopping is not None:
            self._interrupted.add(key)
        self.queue.interrupted(key)

    def _failed(self, key: str, message: Message, crowd: int = 1) -> None:
        reason = str(message.get("reason") or "exception")
        text = str(message.get("message") or "")
        traceback = str(message.get("traceback") or "")
        attempt = self.queue.items[key].attempts + 1
        again = self.queue.fail(key, reason, text, crowd)
        fields = {
            "key": key,
            "reason": reason,
            "message": text,
            "traceback": traceback,
            "attempt": attempt,
            "final": not again,
        }
        if "log" in message:
            fields["log"] = message["log"]
        self.log("stage_failed", **fields)
        self._changed([key])
        if not again:
            self._failure = self._failure or Failure(key, reason, text, traceback)
            blocked = [name for name, item in self.queue.items.items() if item.blocked_by == key]
            if blocked:
                self.log("blocked", key=key, keys=blocked, reason=self.queue.items[key].reason)
        if reason == "missing":
            self._insert_replays_for(key)
        what = signature(reason, text, traceback)
        for digest in self._early.failed(self._studies_of(key), key, what, reason):
            self._stop_study(digest, Failure(key, reason, text, traceback))

    def _insert_replays_for(self, key: str) -> None:
        """A checkpoint it starts from is gone: look again."""
        source = self.graph.nodes[key].source
        if source is not None:
            try:
                self._insert_replays(source[0])
            except StoreError as error:
                self.trouble = str(error)

    def _stop_study(self, digest: str, failure: Failure) -> None:
        study = self.graph.studies[digest]
        what = f"{failure.reason}: {failure.message}" if failure.message else failure.reason
        reason = f"stopped: the first {self.limits.same_failures} stages failed alike ({what})"
        self.queue.stop_trials((trial.trial for trial in study.trials), reason)
        self._early_stops[study.name] = reason
        self._failure = self._failure or failure
        self.log("study_stopped", plan=digest, name=study.name, reason=reason)

    def _buried(self, worker: Worker, message: Message) -> None:
        """A worker is gone, with the stages it had."""
        if worker.cause != "the scheduler ended":
            self.log(
                "worker_ended",
                worker=worker.number,
                device=worker.device.id,
                pid=worker.pid,
                reason=worker.cause or message["how"],
            )
        wanted = self.stopping is not None or worker.cause == "recalled"
        crowd = len(worker.running)
        for key in list(worker.running):
            self._release(worker, key)
            if wanted:
                self._cut(key, None)
                continue
            reason = "hung" if worker.cause == "hung" else "lost"
            text = (
                f"the worker said nothing for {self.limits.hang:g} s"
                if reason == "hung"
                else message["how"]
            )
            if not worker.ready:
                text += " before it was ready"
            tail = message["log"].splitlines()
            text = f"{text}: {tail[-1]}" if tail and reason == "lost" else text
            self._note(key, reason, text)
            self._failed(key, {"reason": reason, "message": text, "log": message["log"]}, crowd)

    def _note(self, key: str, reason: str, text: str) -> None:
        """Write into the stage's own log what its worker no longer could."""
        files = self.paths.stage(key)
        if not files.events.exists():
            return
        try:
            with Lock(files.lock):
                journal = Journal(files.events, self._clock)
                journal.attempt = max(
                    1, journal.attempt - 1
                )  # the attempt that ended, not a new one
                journal.append("failed", reason=reason, message=text, traceback="")
                journal.close()
        except StoreError as error:
            self.trouble = str(error)

    # every second

    def _tick(self) -> None:
        for worker in self._pool.silent(self.limits.hang, self.limits.start):
            worker.kill("hung")
        self.queue.resume_postponed()
        now = time.monotonic()
        if now >= self._next_lease:
            self._next_lease = now + self.limits.lease
            self._leases.refresh()
            for name, (state, _) in list(self._closed.items()):
                if state == "leased":
                    self._lease(self.devices[name])
            if self._rates_changed:
                self._recost()
        self._changed(key for key in self.running if self._grown(key))
        if self._ingestion is not None and self._ingestion.trouble:
            self.trouble = self._ingestion.trouble
        self._beat()

    def _grown(self, key: str) -> bool:
        try:
            size = self.paths.stage(key).events.stat().st_size
        except OSError:
            return False
        before = self._sizes.get(key)
        self._sizes[key] = size
        return size != before

    def _changed(self, keys: Any) -> None:
        keys = list(keys)
        if self._ingestion is not None and keys:
            self._ingestion.changed(keys)

    def _beat(self, ended: bool = False) -> None:
        now = self._clock()
        heartbeat = self._pulse.heartbeat(self, now)
        self.trouble = None
        if ended:
            heartbeat["ended"] = now
        try:
            write_json(self.paths.heartbeat, heartbeat)
        except StoreError as error:
            self.trouble = str(error)
        if self._on_tick is not None:
            self._on_tick(heartbeat)

    # stopping

    def stop(self, *, now: bool = False) -> None:
        """End the run: workers finish their epoch or checkpoint first, or are killed `now`."""
        if now or self.stopping is None:
            self.stopping = "now" if now else "soft"
            patience = 0.0 if now else self.limits.stop + self.limits.grace
            self._deadline = min(self._deadline, time.monotonic() + patience)
            if now:
                self._pool.kill("stopped")
            else:
                self._pool.stop()

    def _signalled(self, signals: Signals) -> None:
        signals.drain()
        if signals.count >= 2 and self.stopping != "now":
            self.stop(now=True)
        elif signals.count == 1 and self.stopping is None:
            self.stop()

    # the log

    def log(self, kind: str, *, durable: bool = False, **fields: Any) -> None:
        """Add a record to scheduler.jsonl.

        Raises StoreError, for durable records only, where it cannot be written; the rest must not stop the run.
        """
        try:
            record = self._journal.append(kind, durable=durable, **fields)
        except StoreError as error:
            if durable:
                raise
            self.trouble = str(error)
            return
        self.history.feed([record])
        if self._on_event is not None:
            self._on_event(record)
        if self._ingestion is not None:
            self._ingestion.changed()

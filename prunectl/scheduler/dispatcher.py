"""Stages on their way through the workers: queued, started, recalled, done, failed, tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prunectl.errors import DiskError, StoreError
from prunectl.scheduler.device_pool import Fleet
from prunectl.scheduler.devices.base import DeviceLayer
from prunectl.scheduler.early_stop import EarlyStop, signature
from prunectl.scheduler.eta import Rates
from prunectl.scheduler.executors.local import Message, Pool, Worker
from prunectl.scheduler.graph import StageGraph
from prunectl.scheduler.heartbeat import Running
from prunectl.scheduler.items import Dispatch, State
from prunectl.scheduler.log import Ledger
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.timeouts import Failure, Limits
from prunectl.store.files import DISK_ERRNOS, read_json, write_json
from prunectl.store.journal import Journal
from prunectl.store.locks import Lock, is_held
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import read_study


class Work:
    """Everything that happens to stages in a run."""

    def __init__(
        self,
        paths: StorePaths,
        queue: Queue,
        fleet: Fleet,
        pool: Pool,
        ledger: Ledger,
        limits: Limits,
        clock: Callable[[], float],
        layer: DeviceLayer,
    ) -> None:
        self.paths = paths
        self.queue = queue
        self.graph = StageGraph(paths)
        self.rates = Rates()
        self.running: dict[str, Running] = {}
        self.stopping = False
        """Stages that leave their workers now are interrupted, and nothing is started any more."""
        self.ran = 0
        self.failure: Failure | None = None
        self.stopped: dict[str, str] = {}
        self.interrupted: set[str] = set()
        self.broken: str | None = None
        """Why the store cannot be written: nothing can go on."""
        self._fleet = fleet
        self._pool = pool
        self._ledger = ledger
        self._limits = limits
        self._clock = clock
        self._layer = layer
        self._early = EarlyStop(limits.same_failures)
        self._sizes: dict[str, int] = {}
        self._measured = False

    # plans

    def add_plan(self, digest: str) -> str:
        """Queue a plan of the store; what that adds, in words.

        Raises StoreError where the store has no such plan.
        """
        study = read_study(self.paths, digest)
        order = [*self.graph.add(study), *study.stages]
        self.rates.learn_from(self.graph)
        for key in dict.fromkeys(order):
            self._enqueue(key)
        for key in study.stages:
            self._insert_replays(key)
        self.recost()
        done = sum(self.graph.is_done(key) for key in study.stages)
        total, trials = len(study.stages), len(study.trials)
        self._ledger.log(
            "queued", plan=digest, name=study.name, trials=trials, stages=total, done=done
        )
        return f"{study.name}: {trials} trials, {total} stages, {done} of them done"

    def _enqueue(self, key: str) -> None:
        node = self.graph.nodes[key]
        trials = self.graph.wanted_by[key]
        self.queue.add(key, node.needs, trials, node.steps, self.graph.is_done(key), node.kind)

    def _insert_replays(self, key: str) -> None:
        try:
            replays = self.graph.insert_replays(key)
        except StoreError as error:
            self._ledger.report(error)  # what needs the checkpoint will fail and say so
            return
        for replay in replays:
            self._enqueue(replay)
            for child in self.graph.children[replay]:
                self._enqueue(child)
        if replays:
            self.recost()

    def recost(self) -> None:
        """Tell the queue what stages cost: seconds once any were measured, steps before."""
        nodes = self.graph.nodes
        seconds = {key: self.rates.seconds(nodes[key]) for key in self.queue.items}
        self.queue.set_costs(
            {key: nodes[key].steps if cost is None else cost for key, cost in seconds.items()}
        )

    def recost_if_measured(self) -> None:
        """The same where stages were done since and tell something new."""
        if self._measured and self.rates.moved():
            self.recost()
        self._measured = False

    def studies_of(self, key: str) -> list[str]:
        """Digests of the plans that have the stage."""
        return [digest for digest, study in self.graph.studies.items() if key in study.stages]

    def forget_failures(self, trials: Sequence[str]) -> None:
        """Begin counting equal failures anew: a retry of these trials was asked for."""
        chosen = set(trials)
        for digest, study in self.graph.studies.items():
            if any(trial.trial in chosen for trial in study.trials):
                self._early.forget([digest])

    # to the workers

    def dispatch(self) -> None:
        """Fill every slot that there is a stage for."""
        while not self.stopping and (choice := self.queue.next()) is not None:
            key = choice.key
            if self.graph.is_done(key):
                self._insert_replays(key)
                self.queue.finish(key)
            elif is_held(self.paths.stage(key).lock):
                self.queue.postpone(key)  # a worker of an earlier scheduler is still dying
            else:
                self._start(choice)

    def _start(self, choice: Dispatch) -> None:
        key, device = choice.key, self._fleet.devices[choice.device]
        node = self.graph.nodes[key]
        files = self.paths.stage(key)
        try:
            _write_spec(files.spec, node.spec)
            fresh = self._fleet.needs_fresh_worker(device.id, node.kind)
            worker = self._pool.place(
                device, key, self.graph.keep(key), node.flags, node.kind, fresh=fresh
            )
        except (OSError, StoreError) as error:
            if isinstance(error, DiskError) or getattr(error, "errno", None) in DISK_ERRNOS:
                self._cannot_write(key, str(error))
                return
            self._failed(key, {"reason": "exception", "message": f"could not be started: {error}"})
            return
        self.running[key] = Running(
            key=key,
            device=device.id,
            worker=worker.number,
            pid=worker.pid,
            attempt=choice.attempt,
            since=self._clock(),
            steps=sum(segment["steps"] for segment in node.spec["stage"]["lr"]),
        )
        self._ledger.log(
            "dispatched", key=key, device=device.id, worker=worker.number, attempt=choice.attempt
        )

    def recall(self) -> None:
        """Ask workers to leave stages that nobody wants, or whose device is drained."""
        drained = self._fleet.drained
        unwanted = set(self.queue.to_recall())
        now = time.monotonic()
        for key, stage in self.running.items():
            if stage.recalled is None and key not in unwanted and stage.device not in drained:
                continue
            worker = self._pool.find(key)
            if worker is None:
                continue
            if stage.recalled is None:
                stage.recalled = now + self._limits.stop + self._limits.grace
                worker.tell({"do": "cancel", "key": key})
            elif now > stage.recalled:
                worker.kill("recalled")
        for name in drained:
            mine = [worker for worker in self._pool.workers if worker.device.id == name]
            for worker in mine:
                if not worker.retiring:
                    self._pool.retire(worker)
            if not mine:
                self._fleet.give_back(name)

    # from the workers

    def hear(self, worker: Worker, message: Message) -> None:
        """Take in what a worker says."""
        key = message.get("key")
        if key is not None and key not in worker.running:
            return
        match message["is"]:
            case "ready":
                self._ledger.log(
                    "worker_started", worker=worker.number, device=worker.device.id, pid=worker.pid
                )
            case "beat":
                for name, progress in message.get("running", {}).items():
                    if name in self.running:
                        self.running[name].beat(progress)
                nodes, now = self.graph.nodes, time.monotonic()
                self._fleet.measure(worker.device.id, now, message, lambda name: nodes[name].kind)
            case "done" if key is not None:
                self._release(worker, key)
                self._done(key)
            case "interrupted" if key is not None:
                self._release(worker, key)
                self.cut(key, message.get("step"))
            case "failed" if key is not None:
                crowd = len(self.queue.places[worker.device.id].running)
                if message.get("reason") == "oom":
                    kind = self.graph.nodes[key].kind
                    self._fleet.overflowed(worker.device.id, kind)
                    self._pool.retire(worker)  # what is left of its memory is fragmented
                if message.get("reason") != "disk":
                    message = {**message, **self._circumstances(worker, message)}
                self._release(worker, key)
                if message.get("reason") == "disk":
                    self._cannot_write(key, str(message.get("message")))
                else:
                    self._failed(key, message, crowd)
            case "ended":
                self._ended(worker, message)

    def _release(self, worker: Worker, key: str) -> None:
        del worker.running[key]
        if worker.retiring and not worker.running and not self.stopping:
            worker.dismiss()
        self._leave(key)

    def _leave(self, key: str) -> None:
        self.running.pop(key, None)
        self._sizes.pop(key, None)
        self._ledger.changed([key])

    def _done(self, key: str) -> None:
        if not self.graph.is_done(key):
            self._failed(key, {"reason": "lost", "message": "said to be done, but has no result"})
            return
        result: dict[str, Any] = {}
        try:
            result = read_json(self.paths.stage(key).result)
        except (OSError, StoreError) as error:
            self._ledger.report(error)
        self.rates.learn(
            self.graph.nodes[key], result.get("seconds") or 0.0, result.get("steps") or 0
        )
        self._measured = True
        self.ran += 1
        self._early.succeeded(self.studies_of(key))
        facts: dict[str, Any] = {name: result.get(name) for name in ("seconds", "accuracy", "flag")}
        self._ledger.log("stage_done", key=key, **facts)
        self._insert_replays(key)
        self.queue.finish(key)

    def cut(self, key: str, step: int | None = None) -> None:
        """The stage left its worker before its end, and goes on later."""
        self._leave(key)
        self._ledger.log("stage_interrupted", key=key, step=step)
        if self.stopping:
            self.interrupted.add(key)
        self.queue.interrupted(key)

    def _cannot_write(self, key: str, why: str) -> None:
        """No fault of the stage, and the next one would fare no better: the run ends, to go on when there is
        room."""
        self.broken = self.broken or why
        self.stopping = True
        self.cut(key)

    def _circumstances(self, worker: Worker, message: Message) -> Message:
        """What the worker had said before the traceback, and how full its device is."""
        log = worker.log_tail()
        if message.get("traceback"):
            before, mark, _ = log.partition(f"stage {message['key']}\n")
            log = before.strip() if mark else ""
        usage = self._layer.usage(worker.device)
        memory = ""
        if usage.memory_used is not None and usage.memory_total is not None:
            used, total = usage.memory_used / 2**30, usage.memory_total / 2**30
            memory = f"{used:.1f} of {total:.1f} GiB of {worker.device.id} were in use"
        return {"log": log, "memory": memory}

    def _failed(self, key: str, message: Message, crowd: int = 1) -> None:
        failure = Failure(
            key,
            str(message.get("reason") or "exception"),
            str(message.get("message") or ""),
            str(message.get("traceback") or ""),
            str(message.get("log") or ""),
            str(message.get("memory") or ""),
        )
        attempt = self.queue.items[key].attempts + 1
        again = self.queue.fail(key, failure.reason, failure.message, crowd)
        self._ledger.log("stage_failed", **vars(failure), attempt=attempt, final=not again)
        self._ledger.changed([key])
        if not again:
            self._give_up(failure)
        if failure.reason == "missing":
            self._make_again(key, str(message.get("missing")))
        what = signature(failure.reason, failure.message, failure.traceback)
        for digest in self._early.failed(self.studies_of(key), key, what, failure.reason):
            self._stop_study(digest, failure)

    def _make_again(self, key: str, missing: str) -> None:
        """What the stage starts from is gone, or was set aside because it could not be trusted."""
        node = self.graph.nodes[key]
        if node.source is not None:
            self._insert_replays(node.source[0])
        replays = [need for need in node.needs if need in self.graph.nodes]
        for each in sorted({missing, *(need for need in replays if self.graph.nodes[need].replay)}):
            try:
                reopened = self.graph.reopen(each)
            except OSError as error:
                self._ledger.report(error)
                continue
            if reopened:
                self._ledger.log("reopened", key=each, by=key)
                self.queue.reopen(each, self.graph.children[each])

    def _give_up(self, failure: Failure) -> None:
        self.failure = self.failure or failure
        blocked = [
            name for name, item in self.queue.items.items() if item.blocked_by == failure.key
        ]
        if blocked:
            reason = self.queue.items[failure.key].reason
            self._ledger.log("blocked", key=failure.key, keys=blocked, reason=reason)

    def _stop_study(self, digest: str, failure: Failure) -> None:
        study = self.graph.studies[digest]
        what = f"{failure.reason}: {failure.message}" if failure.message else failure.reason
        reason = f"stopped: the first {self._limits.same_failures} stages failed alike ({what})"
        self.queue.stop_trials((trial.trial for trial in study.trials), reason)
        self.stopped[study.name] = reason
        self.failure = self.failure or failure
        self._ledger.log("study_stopped", plan=digest, name=study.name, reason=reason)

    def _ended(self, worker: Worker, message: Message) -> None:
        """A worker is gone, with the stages it had."""
        reason = worker.cause or message["how"]
        self._ledger.log(
            "worker_ended",
            worker=worker.number,
            device=worker.device.id,
            pid=worker.pid,
            reason=reason,
        )
        crowd = len(worker.running)
        for key in list(worker.running):
            self._release(worker, key)
            if self.stopping or worker.cause == "recalled":
                self.cut(key)
                continue
            failure = self._post_mortem(worker, message)
            failure["memory"] = self._circumstances(worker, {})["memory"]
            self._note(key, failure)
            self._failed(key, failure, crowd)

    def _post_mortem(self, worker: Worker, message: Message) -> Message:
        when = "" if worker.ready else " before it was ready"
        if worker.cause == "hung":
            patience = self._limits.hang if worker.ready else self._limits.start
            text = f"the worker said nothing for {patience:g} s{when}"
            return {"reason": "hung", "message": text, "log": message["log"]}
        text = f"the worker {message['how']}{when}"
        last = message["log"].splitlines()[-1:]
        return {"reason": "lost", "message": ": ".join([text, *last]), "log": message["log"]}

    def _note(self, key: str, failure: Message) -> None:
        """Write into the stage's own log what its worker no longer could."""
        files = self.paths.stage(key)
        if not files.events.exists():
            return
        try:
            with Lock(files.lock):
                journal = Journal(files.events, self._clock)
                journal.attempt = max(1, journal.attempt - 1)  # the one that ended, not a new one
                text = {"message": failure["message"], "traceback": failure["log"]}
                journal.append("failed", reason=failure["reason"], **text)
                journal.close()
        except StoreError as error:
            self._ledger.report(error)

    # every second

    def tick(self) -> None:
        """Kill workers that hang, and tell the database which stages have news."""
        limits = self._limits
        for worker in self._pool.silent(limits.hang, limits.start, limits.prepare):
            worker.kill("hung")
        self.queue.resume_postponed()
        self._ledger.changed([key for key in self.running if self._grown(key)])

    def _grown(self, key: str) -> bool:
        try:
            size = self.paths.stage(key).events.stat().st_size
        except OSError:
            return False
        before = self._sizes.get(key)
        self._sizes[key] = size
        return size != before

    def stage_counts(self) -> dict[str, int]:
        """Stages by state, those that a stop cut off as `interrupted`."""
        counts = self.queue.counts()
        cut = sum(self.queue.state(key) is State.WAITING for key in self.interrupted)
        return {**counts, "waiting": counts["waiting"] - cut, "interrupted": cut}


def _write_spec(path: Path, spec: dict[str, Any]) -> None:
    """Write what the stage is, if it is not there or cannot be read."""
    try:
        if read_json(path) == spec:
            return
    except (FileNotFoundError, StoreError):
        pass
    write_json(path, spec)

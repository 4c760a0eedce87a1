"""What becomes of stages that fail: tried again, given up with what depends on them, or reason to stop their study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from prunectl.scheduler.devices.base import Usage
from prunectl.scheduler.log import SchedulerLog
from prunectl.scheduler.outcome import Failure
from prunectl.scheduler.plans import Plans
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.timeouts import Timeouts
from prunectl.scheduler.workers import Worker
from prunectl.store import files, narration
from prunectl.store.locks import Lock
from prunectl.store.paths import StagePaths
from prunectl.store.records import events, messages
from prunectl.store.records.journal import Journal
from prunectl.store.records.scheduler_log import Blocked, StageFailed, StudyStopped

CHANCE = frozenset({"oom", "nonfinite"})
"""Reasons that say nothing of a whole study: memory depends on what else runs, divergence on the seed."""
OLD_SECONDS = 5.0
"""Age from which on it is told of a usage: it is renewed with every heartbeat."""


def signature(failure: Failure) -> str:
    """Return what makes two failures the same: the reason and the exception's last line without digits."""
    # Digits are steps, addresses and process ids, which differ from stage to stage.
    lines = (failure.traceback or failure.message).strip().splitlines()
    last = lines[-1] if lines else ""
    return f"{failure.reason}: " + "".join(letter for letter in last if not letter.isdigit())


class Failures:
    """Records failures, and decides with the queue what follows.

    The first stages of each study are watched, so that one error does not end a whole grid stage by stage.
    """

    def __init__(self, plans: Plans, queue: Queue, log: SchedulerLog, same: int = 3) -> None:
        """`same` is how many different stages of a study the same error has to end, none being done, to stop it; 0
        never stops."""
        self.first: Failure | None = None
        """The first one that was final, or that stopped a study."""
        self.stopped: dict[str, str] = {}
        """Studies (by name) that were stopped early, and why."""
        self._plans, self._queue, self._log, self._same = plans, queue, log, same
        self._proven: set[str] = set()
        """Studies with a stage that was done: from then on failures are isolated ones."""
        self._signatures: dict[str, dict[str, str]] = defaultdict(dict)
        """By study, of each stage that failed."""

    def succeeded(self, key: str) -> None:
        """A stage is done: what fails of its studies from now on is isolated."""
        self._proven.update(self._plans.studies_with(key))

    def forget(self, trials: Iterable[str]) -> None:
        """Begin counting equal failures anew: a retry of these trials was asked for."""
        for digest in self._plans.studies_of(trials):
            self._signatures.pop(digest, None)

    def failed(
        self, failure: Failure, sharing: int = 1, *, final: bool = False, learnt: bool = False
    ) -> None:
        """A stage failed while `sharing` stages were on its device, itself included; `final` and `learnt` as
        `Queue.fail` takes them."""
        key = failure.key
        again = self._queue.fail(
            key, failure.reason, failure.message, sharing, final=final, learnt=learnt
        )
        self._log.append(
            StageFailed(
                key=key,
                reason=failure.reason,
                message=failure.message,
                traceback=failure.traceback,
                final=not again,
                log=failure.log,
                memory=failure.memory,
                attempt=failure.attempt,
            )
        )
        self._log.ingestion.changed([key])
        if not again:
            self._give_up(failure)
        if failure.reason == "missing":
            self._plans.make_again(key, failure.missing)
        if self._same and failure.reason not in CHANCE:
            self._watch(failure)

    def _watch(self, failure: Failure) -> None:
        """Stop the studies whose first stages have all ended alike."""
        for digest in self._plans.studies_with(failure.key):
            if digest not in self._proven:
                seen = self._signatures[digest]
                seen[failure.key] = signature(failure)
                if len(seen) >= self._same and len(set(seen.values())) == 1:
                    self._stop_study(digest, failure)

    def _give_up(self, failure: Failure) -> None:
        self.first = self.first or failure
        items = self._queue.items
        blocked = [name for name, item in items.items() if item.blocked_by == failure.key]
        if blocked:
            reason = items[failure.key].reason
            self._log.append(Blocked(key=failure.key, keys=tuple(blocked), reason=reason))

    def _stop_study(self, digest: str, failure: Failure) -> None:
        study = self._plans.graph.studies[digest]
        what = narration.failure(failure.reason, failure.message)
        reason = f"stopped: the first {self._same} stages failed alike ({what})"
        self._queue.stop_trials((trial.id for trial in study.trials), reason)
        self.stopped[study.name] = reason
        self.first = self.first or failure
        self._log.append(StudyStopped(plan=digest, name=study.name, reason=reason))


def reported_failure(worker: Worker, said: messages.StageFailed, usage: Usage) -> Failure:
    """Return the failure that a worker reports, with what it had written before and how full its device is."""
    log = worker.process.log_tail()
    if said.traceback:
        before, heading, _ = log.partition(f"stage {said.key}\n")
        log = before.strip() if heading else ""
    memory = memory_text(worker.device.id, usage)
    return Failure(
        said.key,
        said.reason,
        said.message,
        said.attempt,
        traceback=said.traceback,
        log=log,
        memory=memory,
        missing=said.missing,
    )


def memory_text(device: str, usage: Usage) -> str:
    if usage.memory_used is None or usage.memory_total is None:
        return ""
    used, total = usage.memory_used / 2**30, usage.memory_total / 2**30
    when = f" {usage.age:.0f} s before" if usage.age >= OLD_SECONDS else ""
    return f"{used:.1f} of {total:.1f} GiB of {device} were in use{when}"


def worker_loss(
    worker: Worker,
    key: str,
    attempt: int,
    ended: messages.WorkerEnded,
    usage: Usage,
    timeouts: Timeouts,
) -> Failure:
    """Return the failure of an attempt at a stage whose worker is gone, from the message that says so."""
    when = "" if worker.ready else " before it was ready"
    memory = memory_text(worker.device.id, usage)
    if worker.cause == "hung":
        patience = timeouts.hang if worker.ready else timeouts.start
        text = f"the worker said nothing for {patience:g} s{when}"
        return Failure(key, "hung", text, attempt, log=ended.log, memory=memory)
    text = f"the worker {ended.how}{when}"
    last = ended.log.splitlines()[-1:]
    return Failure(key, "lost", ": ".join([text, *last]), attempt, log=ended.log, memory=memory)


def write_failure(stage: StagePaths, failure: Failure, clock: Callable[[], float]) -> None:
    """Write a failure into the stage's own log, which its worker no longer could.

    Raises:
        StoreError: where the log cannot be locked or written.
    """
    if not files.disk.exists(stage.events):
        return
    with Lock(stage.lock):
        journal = Journal(stage.events, clock, failure.attempt)
        journal.append(
            events.Failed(reason=failure.reason, message=failure.message, traceback=failure.log)
        )
        journal.close()

"""What becomes of stages that fail: tried again, given up with what depends on them, or reason to stop their study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from prunectl.scheduler.devices.base import Usage
from prunectl.scheduler.executors.worker_process import WorkerProcess
from prunectl.scheduler.log import SchedulerLog
from prunectl.scheduler.outcome import Failure
from prunectl.scheduler.plans import Plans
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.timeouts import Timeouts
from prunectl.store import narration
from prunectl.store.journal import Journal
from prunectl.store.locks import Lock
from prunectl.store.paths import StagePaths
from prunectl.store.records.messages import Message

CHANCE = frozenset({"oom", "nonfinite"})
"""Reasons that say nothing of a whole study: memory depends on what else runs, divergence on the seed."""


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

    def failed(self, key: str, message: Message, sharing: int = 1) -> None:
        """A stage failed as its worker's message says, while `sharing` stages were on its device, itself included."""
        texts = (str(message.get(name) or "") for name in ("message", "traceback", "log", "memory"))
        failure = Failure(key, str(message.get("reason") or "exception"), *texts)
        attempt = self._queue.items[key].attempts + 1
        again = self._queue.fail(key, failure.reason, failure.message, sharing)
        self._log.append("stage_failed", **vars(failure), attempt=attempt, final=not again)
        self._log.ingestion.changed([key])
        if not again:
            self._give_up(failure)
        if failure.reason == "missing":
            self._plans.make_again(key, str(message.get("missing")))
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
            self._log.append("blocked", key=failure.key, keys=blocked, reason=reason)

    def _stop_study(self, digest: str, failure: Failure) -> None:
        study = self._plans.graph.studies[digest]
        what = narration.failure(failure.reason, failure.message)
        reason = f"stopped: the first {self._same} stages failed alike ({what})"
        self._queue.stop_trials((trial.trial for trial in study.trials), reason)
        self.stopped[study.name] = reason
        self.first = self.first or failure
        self._log.append("study_stopped", plan=digest, name=study.name, reason=reason)


def circumstances(worker: WorkerProcess, key: str, traceback: str | None, usage: Usage) -> Message:
    """Return what the worker had said before the traceback, and how full its device is, as fields of a failure."""
    log = worker.log_tail()
    if traceback:
        before, heading, _ = log.partition(f"stage {key}\n")
        log = before.strip() if heading else ""
    return {"log": log, "memory": _memory(worker.device.id, usage)}


def _memory(device: str, usage: Usage) -> str:
    if usage.memory_used is None or usage.memory_total is None:
        return ""
    used, total = usage.memory_used / 2**30, usage.memory_total / 2**30
    return f"{used:.1f} of {total:.1f} GiB of {device} were in use"


def worker_loss(worker: WorkerProcess, ended: Message, usage: Usage, timeouts: Timeouts) -> Message:
    """Return the failure of a stage whose worker is gone, from the message that says so."""
    when = "" if worker.ready else " before it was ready"
    found = {"log": ended["log"], "memory": _memory(worker.device.id, usage)}
    if worker.cause == "hung":
        patience = timeouts.hang if worker.ready else timeouts.start
        text = f"the worker said nothing for {patience:g} s{when}"
        return {"reason": "hung", "message": text, **found}
    text = f"the worker {ended['how']}{when}"
    last = ended["log"].splitlines()[-1:]
    return {"reason": "lost", "message": ": ".join([text, *last]), **found}


def write_failure(files: StagePaths, failure: Message, clock: Callable[[], float]) -> None:
    """Write a failure into the stage's own log, which its worker no longer could.

    Raises:
        StoreError: where the log cannot be locked or written.
    """
    if not files.events.exists():
        return
    with Lock(files.lock):
        journal = Journal(files.events, clock)
        journal.attempt = max(1, journal.attempt - 1)  # the one that ended, not a new one
        text = {"message": failure["message"], "traceback": failure["log"]}
        journal.append("failed", reason=failure["reason"], **text)
        journal.close()

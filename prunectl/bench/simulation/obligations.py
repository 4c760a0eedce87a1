"""What a scheduler owes its users beyond finishing: checked from its log, its workers, and what was asked of it.

What nobody wants, or what is on a drained device, leaves its worker in time. A device is given up after as many losses
as that takes, no sooner and no later, and left to others. No stage pays for a loss that is not its own, and none is
tried for ever. A run is ended at once only where somebody asked for that. A plan that was accepted is run, whatever
becomes of the scheduler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from prunectl.scheduler.executors.simulated_world import World
from prunectl.scheduler.losses import MOST_FRESH
from prunectl.scheduler.queue import SHARED_REASONS
from prunectl.scheduler.scheduler import Scheduler
from prunectl.spec.study import Study
from prunectl.store import files
from prunectl.store.records import requests
from prunectl.store.records import scheduler_log as logged
from prunectl.store.records.base import LogRecord

LOST = "lost its device"
"""How the reason begins with which such a worker ends."""


class Violation(BaseException):
    """Something that must be true is not. Not an Exception, for the code that is checked must not catch it."""


class Obligations:
    """Follows the schedulers of one store, of which one lives at a time."""

    def __init__(self, world: World, plans: Mapping[str, Study], done: set[str]) -> None:
        """`plans` are all there are, by digest; `done` the stages that have a result, which its owner keeps."""
        self.asked_at: dict[str, float] = {}
        """When each request was made, by its id."""
        self._world, self._plans, self._done = world, plans, done
        self._promised: set[str] = set()
        """Plans that a scheduler has accepted, or put off for the next one, since a run last finished."""
        self._begin()

    def _begin(self) -> None:
        """Know nothing of the scheduler, which has just started."""
        self._started = self._world.now
        self._hurried = False
        """Somebody has asked for the end at once."""
        self._stopping_since: float | None = None
        self._to_leave: set[tuple[str, int]] = set()
        """Attempts that were to leave their worker at the last look."""
        self._looked = 0.0
        """When that was."""
        self._kept: set[str] = set()
        """Drained devices without workers that were not left to others at the last look."""
        self._lost: Counter[str] = Counter()
        """Workers that ended against their will since a stage was last done on a device."""
        self._fresh: Counter[str] = Counter()
        """Those of them in a row that lost the device before they had done a stage."""
        self._proven: set[int] = set()
        """Living workers that have done a stage."""
        self._flags: dict[int, tuple[str, bool]] = {}
        """Of the stages that each worker has had, by its process id."""
        self.blind = False
        """The disk was full, and records of what happened are lacking."""
        self._place: dict[str, tuple[int, str]] = {}
        """The last worker and device of each stage."""
        self._attempts: Counter[str] = Counter()
        self._own_failures: Counter[str] = Counter()
        """Those that no other stage may have caused."""
        self._missing: Counter[str] = Counter()
        """Those for lack of a file that somebody has removed."""
        self._just_lost: int | None = None
        """The worker whose stages come back now, for it has lost its device."""

    def hurry(self) -> None:
        """Note that somebody asks for the end at once."""
        self._hurried = True

    # the log

    def recorded(self, scheduler: Scheduler, record: LogRecord) -> None:
        """Check a record of the scheduler's log."""
        match record:
            case logged.RunStarted():
                self._begin()
                history = scheduler.log.history
                self._promised = {each for each in self._promised if self._is_open(history, each)}
            case logged.Dispatched():
                self._check_dispatch(scheduler, record)
            case logged.StageDone(key=key):
                worker, device = self._place[key]
                self._lost[device] = self._fresh[device] = 0
                self._proven.add(worker)
            case logged.StageFailed():
                self._check_failure(scheduler, record)
            case logged.Retried(keys=keys):
                for key in keys:
                    self._own_failures.pop(key, None)
            case logged.WorkerEnded():
                self._check_end(scheduler, record)
            case logged.Drained() if record.reason != "on request":
                too_few = self._lost[record.device] < MOST_FRESH - 1  # the last is still dying
                if too_few and not self.blind:
                    raise Violation(f"{record.device} is given up too soon: {record.reason}")
            case logged.Undrained(device=device):
                self._lost[device] = self._fresh[device] = 0
            case logged.Answered():
                self._check_answer(scheduler, record)
            case logged.RunEnded(
                reason="stopped"
            ):  # who stops a run means all that it has accepted
                answered = scheduler.log.history.answered.values()
                self._promised &= {_plan(each) for each in answered if each.later}
        if isinstance(record, logged.WorkerEnded) and record.reason.startswith(LOST):
            self._just_lost = record.worker
        elif not isinstance(record, logged.StageFailed | logged.StageInterrupted):
            self._just_lost = None

    def _check_dispatch(self, scheduler: Scheduler, record: logged.Dispatched) -> None:
        key, worker = record.key, record.worker
        self._place[key] = worker, record.device
        self._attempts[key] += 1
        flags = scheduler.dispatcher.plans.graph.nodes[key].flags
        pid = next(each.pid for each in scheduler.workers if each.number == worker)
        if self._flags.setdefault(pid, flags) != flags:
            raise Violation(f"{key[:8]} is given to worker {worker}, which has other flags")

    def _check_failure(self, scheduler: Scheduler, record: logged.StageFailed) -> None:
        key, retries = record.key, scheduler.timeouts.retries
        if record.reason == "lost" and self._just_lost == self._place[key][0]:
            raise Violation(f"{key[:8]} pays for the loss of its worker's device")
        if record.reason == "device" and self._attempts[key] <= retries:
            raise Violation(f"{key[:8]} is given up, for its worker lost the device")
        self._missing[key] += record.reason == "missing"
        if self._missing[key] > retries:
            raise Violation(f"{key[:8]} is given up for a file that can be made again")
        self._own_failures[key] += record.reason not in SHARED_REASONS
        if not record.final and self._own_failures[key] > retries:
            raise Violation(f"{key[:8]} is tried again after {self._own_failures[key]} failures")

    def _check_end(self, scheduler: Scheduler, record: logged.WorkerEnded) -> None:
        worker, device, reason = record.worker, record.device, record.reason
        since = self._stopping_since
        soon = since is not None and self._world.now < since + scheduler.timeouts.stop
        if reason == "stopped" and soon and not self._hurried:
            raise Violation(f"worker {worker} is killed, though nobody is in such haste")
        if reason not in ("retired", "recalled") and not reason.startswith("stopped"):
            self._lost[device] += 1
        if reason.startswith(LOST):
            self._fresh[device] = 0 if worker in self._proven else self._fresh[device] + 1
        self._proven.discard(worker)

    def _check_answer(self, scheduler: Scheduler, record: logged.Answered) -> None:
        match record.request:
            case requests.AddPlan(plan=plan):
                if files.disk.exists(scheduler.paths.plan(plan)):
                    if not record.ok and not record.later:
                        raise Violation(f"plan {plan} is refused: {record.answer}")
                    self._promised.add(plan)
            case requests.Stop(id=name, now=at_once) if "before this one" not in record.answer:
                if self.asked_at.get(name, self._started) < self._started:
                    raise Violation("a stop that was meant for the scheduler before is obeyed")
                if at_once and scheduler.stopping != "now":
                    raise Violation("the end was to come at once")
                self._hurried |= at_once

    # the state

    def stepped(self, scheduler: Scheduler) -> None:
        """Check what has become of it, whenever the scheduler has nothing more to do now."""
        self.blind |= self._world.storage.full
        if scheduler.dispatcher.stopping:
            if self._stopping_since is None:
                self._stopping_since = self._world.now
            return
        self._check_recalls(scheduler)
        self._check_devices(scheduler)

    def _check_recalls(self, scheduler: Scheduler) -> None:
        queue, timeouts = scheduler.queue, scheduler.timeouts
        resting = queue.cancelled | queue.held | queue.stopped.keys()
        before, self._to_leave = self._to_leave, set()
        for key, stage in scheduler.dispatcher.running.items():
            drained = scheduler.pool.state(stage.worker.device.id)[0] == "drained"
            if not drained and not queue.items[key].trials <= resting:
                continue
            attempt, deadline = (key, stage.attempt), stage.recall_deadline
            self._to_leave.add(attempt)
            if deadline is None and attempt in before:
                raise Violation(f"{key[:8]} is not asked to leave its worker")
            if deadline is not None and stage.worker.cause is None:
                latest = self._world.now + timeouts.stop + timeouts.grace
                if deadline > latest or deadline < self._looked:
                    raise Violation(f"{key[:8]} does not leave its worker, which is not ended")
        self._looked = self._world.now

    def _check_devices(self, scheduler: Scheduler) -> None:
        drained = set(scheduler.pool.drained)
        for device, lost in self._fresh.items():
            # Some may be a stage's fault, and all workers of a device are lost in one event.
            most = 2 * MOST_FRESH * scheduler.pool.devices[device].most_workers
            if lost > most and device not in drained and not self.blind:
                raise Violation(f"{lost} workers in a row lost {device}, which is not given up")
        busy = {worker.device.id for worker in scheduler.workers}
        mine = getattr(scheduler.executor, "name", "")
        kept = {each for each in drained - busy if self._world.leases.get(each) == mine}
        if still := kept & self._kept:
            raise Violation(f"{', '.join(sorted(still))} is drained, and not left to others")
        self._kept = kept

    def finished(self, scheduler: Scheduler) -> None:
        """Check that a run that has come to its own end has run all that was promised."""
        history = scheduler.log.history
        if history.run is None or history.run.run != scheduler.identity.id:
            return  # on a full disk it has left no trace: the next one goes on from the run before
        for plan in sorted(self._promised - scheduler.dispatcher.plans.graph.studies.keys()):
            if self._is_open(history, plan):
                raise Violation(f"plan {plan} was accepted, and is forgotten")
        self._promised.clear()

    def _is_open(self, history: logged.History, plan: str) -> bool:
        """Return whether something is still to come of a plan's trials, none of them being tried again."""
        return any(
            trial.id not in history.cancelled
            and history.failures.keys().isdisjoint(trial.path)
            and not set(trial.path) <= self._done
            for trial in self._plans[plan].trials
        )


def _plan(answered: logged.Answered) -> str:
    """Return the digest of the plan that a request is about; "" for another request."""
    return answered.request.plan if isinstance(answered.request, requests.AddPlan) else ""

"""What must be true of every schedule, at every moment: checked from outside, by other means than the scheduler's.

Each stage is done once, and what is done stays. No slot has two stages, no stage two attempts, no attempt's number is
used twice, and nothing of an older attempt is written after a newer one has begun. What was asked for and accepted is
carried out. The queue's order is kept, and no slot is idle while work could run. All results are what they must be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prunectl.bench.simulation.obligations import Obligations, Violation
from prunectl.bench.simulation.studies import values
from prunectl.scheduler.executors.simulated_world import Process, World
from prunectl.scheduler.items import Item
from prunectl.scheduler.queue import FINAL_REASONS, Queue
from prunectl.scheduler.scheduler import Scheduler
from prunectl.spec.state import State
from prunectl.spec.study import Study
from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records import requests
from prunectl.store.records import scheduler_log as logged
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import ends_with, read_events
from prunectl.store.records.stage import has_result, read_result


class Checker:
    """Watches one store through a whole schedule."""

    def __init__(self, world: World, paths: StorePaths, studies: Sequence[Study]) -> None:
        self.world, self.paths = world, paths
        self.expected = values({
            key: each.stage for study in studies for key, each in study.stages.items()
        })  # fmt: skip
        self.done: set[str] = set()
        """Stages whose result was written, and which nobody has taken back."""
        self.obligations = Obligations(world, {each.digest: each for each in studies}, self.done)
        self.answered: Counter[str] = Counter()
        """Answers, by the request's id."""
        self.cancelled: set[str] = set()
        self.held: set[str] = set()
        self.priority: dict[str, int] = {}
        self.steps = 0
        """Times that everything was checked."""
        self._live: dict[str, tuple[Process, int]] = {}
        """The attempt that runs now at each stage."""
        self._newest: dict[str, int] = {}
        """Number of the last attempt that has begun at each stage."""
        self._told_done: set[str] = set()
        self._synced: set[str] = set()
        """Stages whose result would survive a power cut: its worker lived to see its name on the disk."""
        self._failures: Counter[str] = Counter()
        """Attempts of this run that count, by stage."""

    # workers

    def began(self, process: Process, key: str, attempt: int) -> None:
        """Check that an attempt may begin."""
        other = self._live.get(key)
        if other is not None and other[0].alive:
            raise Violation(f"two attempts at {key[:8]}: {other[1]} and {attempt}")
        if attempt <= self._newest.get(key, 0):
            raise Violation(f"attempt {attempt} at {key[:8]}, after {self._newest[key]}")
        if key in self.done:
            raise Violation(f"{key[:8]} is done, and begun again")
        self._live[key] = process, attempt
        self._newest[key] = attempt
        process.guard = lambda action, path: self._writes(process, action, path)

    def ended(self, process: Process, key: str, attempt: int) -> None:
        """Note that an attempt is over."""
        if self._live.get(key) == (process, attempt):
            del self._live[key]

    def _writes(self, process: Process, action: str, path: Path) -> None:
        """Check that no older attempt writes."""
        stage = path if path.parent == self.paths.stages else path.parent
        if action in ("lock", "folder") or stage.parent != self.paths.stages:
            return
        key = stage.name
        live = self._live.get(key)
        if live is None or live[0] is not process:
            raise Violation(f"a worker writes {path.name} of {key[:8]} without an attempt at it")
        if action == "rename" and path.name == "result.json":
            if key in self.done:
                raise Violation(f"{key[:8]} is done twice")
            self.done.add(key)
        if action == "fsync" and key in self.done:
            self._synced.add(key)

    def taken_back(self, key: str) -> None:
        """Note that a stage is to be done again, because something of it was removed."""
        self.done.discard(key)
        self._synced.discard(key)
        self._told_done.discard(key)

    # the scheduler's log

    def recorded(self, scheduler: Scheduler, record: LogRecord) -> None:
        """Check a record against all before."""
        self.obligations.recorded(scheduler, record)
        match record:
            case logged.RunStarted():
                self._failures.clear()  # it tries again what failed
                self._check_memory(scheduler.queue)
            case logged.StageDone(key=key):
                if key in self._told_done:
                    raise Violation(f"{key[:8]} is told done twice")
                self._told_done.add(key)
                if key not in self.done:
                    raise Violation(f"{key[:8]} is told done and has no result")
            case logged.StageFailed():
                self._check_failure(scheduler, record)
            case logged.Cancelled(trials=trials):
                self.cancelled.update(trials)
            case logged.Held(trials=trials):
                self.held.update(trials)
            case logged.Released(trials=trials):
                self.held.difference_update(trials)
            case logged.Retried(trials=trials):
                self.cancelled.difference_update(trials)
            case logged.PrioritySet():
                self.priority.update(record.values)
            case logged.Reopened(key=key):
                self.taken_back(key)
            case logged.Dispatched():
                self._check_dispatch(scheduler, record)
            case logged.Answered():
                self._check_answer(scheduler, record)

    def _check_memory(self, queue: Queue) -> None:
        """Check that a scheduler knows what was asked of those before it, as far as their log has it."""
        history = logged.History()
        history.catch_up(self.paths)
        if (queue.cancelled, queue.held) != (history.cancelled, history.held):
            raise Violation("what was cancelled or held is forgotten")
        if queue.priority != history.priority:
            raise Violation("priorities are forgotten")
        # A scheduler that was killed while it wrote a record had no time to tell of it.
        self.cancelled, self.held = set(history.cancelled), set(history.held)
        self.priority = dict(history.priority)

    def _check_failure(self, scheduler: Scheduler, record: logged.StageFailed) -> None:
        key = record.key
        if record.attempt < self._newest.get(key, 0):
            newest = self._newest[key]
            raise Violation(f"attempt {record.attempt} at {key[:8]} counts, of {newest}")
        if key in self.done and record.final:
            raise Violation(f"{key[:8]} has its result, and is told failed")
        self._failures[key] += 1
        few = self._failures[key] <= scheduler.timeouts.retries and not self.obligations.blind
        if record.final and few and record.reason not in (*FINAL_REASONS, "device"):
            raise Violation(
                f"{key[:8]} is given up after {self._failures[key]} failures ({record.reason})"
            )

    def _check_dispatch(self, scheduler: Scheduler, record: logged.Dispatched) -> None:
        key, node = record.key, scheduler.dispatcher.plans.graph.nodes[record.key]
        wanted = scheduler.dispatcher.plans.graph.wanted_by[key]
        if wanted <= self.cancelled | self.held:
            raise Violation(f"{key[:8]} is started, though nobody wants it")
        lacking = [need[:8] for need in node.needs if not files.disk.exists(self._result(need))]
        if lacking:
            raise Violation(f"{key[:8]} is started before {', '.join(lacking)}")
        if scheduler.pool.state(record.device)[0] != "open":
            raise Violation(f"{key[:8]} is started on {record.device}, which is not open")
        if self.world.leases.get(record.device) != scheduler_name(scheduler):
            raise Violation(f"{key[:8]} is started on {record.device}, which belongs to others")

    def _result(self, key: str) -> Path:
        return self.paths.stage(key).result

    def _check_answer(self, scheduler: Scheduler, record: logged.Answered) -> None:
        request = record.request
        if record.later:  # the next scheduler answers it once more
            return
        self.answered[request.id] += 1
        if self.answered[request.id] > 1:
            raise Violation(f"request {request.id} is answered twice")
        if not record.ok:
            return
        carried_out = True
        match request:
            case requests.Cancel():
                carried_out = set(request.trials) <= scheduler.queue.cancelled & self.cancelled
            case requests.Retry():
                carried_out = not set(request.trials) & (scheduler.queue.cancelled | self.cancelled)
            case requests.Hold():
                carried_out = set(request.trials) <= scheduler.queue.held & self.held
            case requests.Release():
                carried_out = not set(request.trials) & (scheduler.queue.held | self.held)
            case requests.Priority():
                now = {trial: scheduler.queue.priority.get(trial, 0) for trial in request.trials}
                carried_out = now == {trial: self.priority.get(trial, 0) for trial in now}
            case requests.Drain(device=device):
                carried_out = scheduler.pool.state(device)[0] == "drained"
            case requests.Undrain(device=device):
                carried_out = scheduler.pool.state(device)[0] != "drained"
            case requests.AddPlan(plan=plan):
                carried_out = plan in scheduler.dispatcher.plans.graph.studies
            case requests.Stop():
                carried_out = scheduler.stopping is not None or "before this one" in record.answer
        if not carried_out:
            raise Violation(f"request {request.id} is accepted, and nothing follows: {request}")

    # the scheduler's state

    def chosen(self, queue: Queue, item: Item | None) -> None:
        """Check a decision of the queue: nothing that is ready, and fits, comes before what it chose."""
        if item is None or _special(queue):
            return
        chains: dict[str, float] = {}
        mine = _rank(queue, item, chains)
        for other in queue.items.values():
            if _ready(queue, other) and not other.earliest:
                theirs = _rank(queue, other, chains)
                if theirs < mine:
                    raise Violation(
                        f"{item.key[:8]} goes before {other.key[:8]}: {mine} against {theirs}"
                    )

    def stepped(self, scheduler: Scheduler) -> None:
        """Check all that must be true whenever the scheduler has nothing more to do now."""
        self.steps += 1
        self.obligations.stepped(scheduler)
        queue = scheduler.queue
        for worker in scheduler.workers:
            made = getattr(worker.process, "worker", None)
            if made is not None and made.stages and made.code != scheduler.code:
                raise Violation(f"worker {worker.number} has other code, and a stage")
            if len(worker.running) > worker.device.slots_per_worker:
                raise Violation(f"worker {worker.number} has {len(worker.running)} stages")
        for name, device in scheduler.pool.devices.items():
            many = len(queue.devices[name].running)
            if many > device.slots:
                raise Violation(f"{many} stages on {name}, which has {device.slots} slots")
        held = [key for worker in scheduler.workers for key in worker.running]
        if len(held) != len(set(held)) or set(held) != set(scheduler.dispatcher.running):
            raise Violation(f"workers have {sorted(key[:8] for key in held)}")
        if set(queue.running) != set(scheduler.dispatcher.running):
            raise Violation("the queue and the dispatcher disagree about what runs")
        if scheduler.dispatcher.closed or _special(queue):
            return
        if any(slots.has_room for slots in queue.devices.values()):
            idle = [
                item.key[:8]
                for item in queue.items.values()
                if _ready(queue, item)
                and item.earliest != math.inf
                and not scheduler.dispatcher.may_still_run(item.key)
            ]
            if idle:
                raise Violation(f"a slot is idle, while {', '.join(idle)} could run")

    def finished(self, scheduler: Scheduler) -> None:
        """Check that a run that ends by itself leaves nothing undone that could be done."""
        dispatcher = scheduler.dispatcher
        if (
            scheduler.stopping
            or scheduler.pool.none_left
            or dispatcher.broken
            or dispatcher.outdated
        ):
            return
        for item in scheduler.queue.items.values():
            if item.state is State.RUNNING or _ready(scheduler.queue, item):
                raise Violation(f"the run ends while {item.key[:8]} is {item.state.value}")
        self.obligations.finished(scheduler)

    # the store

    def nothing_lost(self) -> None:
        """Check that all results are still there, and what they must be."""
        for key in sorted(self.done & self.expected.keys()):
            try:
                score = read_result(self.paths.stage(key)).score
            except FileNotFoundError:
                if key in self._synced:
                    raise Violation(f"the result of {key[:8]} is gone") from None
                self.taken_back(key)
                continue
            must = int(self.expected[key][:6], 16) % 10_000 / 100
            if score != must:
                raise Violation(f"{key[:8]} came to {score} instead of {must}")

    def logs_sound(self) -> None:
        """Check that no line of a log reads as damaged, whatever was torn, and that results vouch for their logs."""
        log = logged.read_scheduler_log(self.paths.scheduler_log)
        for problem in log.problems.values():
            raise Violation(f"scheduler.jsonl {problem}")
        for key in files.disk.folders(self.paths.stages):
            stage = self.paths.stage(key)
            events = read_events(stage.events)
            for problem in events.problems.values():
                raise Violation(f"the log of {key[:8]} {problem}")
            if has_result(self.paths, key) and not ends_with(events, read_result(stage)):
                raise Violation(f"the log of {key[:8]} is not the one that its result vouches for")

    def at_the_end(
        self, scheduler: Scheduler, hopeless: set[str], sent: list[requests.Request]
    ) -> None:
        """Check that everything was done that could be, every request answered, and no record is damaged."""
        self.nothing_lost()
        self.logs_sound()
        graph = scheduler.dispatcher.plans.graph
        for study in graph.studies.values():
            for trial in study.trials:
                if trial.id in self.cancelled | self.held or hopeless & set(trial.path):
                    continue
                undone = [key[:8] for key in trial.path if key not in self.done]
                if undone:
                    state = scheduler.queue.trial_state(trial.id)
                    raise Violation(f"{trial.id} is {state.value}: {', '.join(undone)} undone")
        left = files.disk.glob(self.paths.requests, "*.json")
        if left:
            raise Violation(f"nobody answers {', '.join(path.stem for path in left)}")
        history = logged.History()
        history.catch_up(self.paths)
        for request in sent:
            answer = history.answered.get(request.id)
            if answer is None or answer.later:
                raise Violation(f"nobody has answered {request}")


def scheduler_name(scheduler: Scheduler) -> str:
    """Return the name by which a scheduler's executor holds devices."""
    return str(getattr(scheduler.executor, "name", ""))


def _special(queue: Queue) -> bool:
    """Return whether some stage may not run beside others: order and idle slots then follow other rules."""
    limited = any(item.slot_limit is not None for item in queue.items.values())
    return limited or any(
        slots.reserved is not None or slots.slots_for is not None
        for slots in queue.devices.values()
    )


def _ready(queue: Queue, item: Item) -> bool:
    """Return whether a stage could start now: from its own fields and its trials, not by the queue's own word."""
    wanted = item.trials - queue.cancelled - queue.held - queue.stopped.keys()
    needs = any(
        queue.items[need].state is not State.DONE for need in item.needs if need in queue.items
    )
    return item.state is State.WAITING and not needs and item.blocked_by is None and bool(wanted)


def _rank(queue: Queue, item: Item, chains: dict[str, float]) -> tuple[int, float, int]:
    wanted = item.trials - queue.cancelled - queue.held - queue.stopped.keys()
    priority = max((queue.priority.get(trial, 0) for trial in wanted), default=0)
    return -priority, -_chain(queue, item, chains), item.order


def _chain(queue: Queue, item: Item, chains: dict[str, float]) -> float:
    """Return the cost of the longest chain of stages that wait for this one, itself included."""
    if item.key not in chains:
        children = [queue.items[key] for key in queue._children.get(item.key, ())]
        longest = max((_chain(queue, child, chains) for child in children), default=0.0)
        wanted = item.trials - queue.cancelled - queue.held - queue.stopped.keys()
        counts = item.state is not State.DONE and wanted
        chains[item.key] = longest + (item.cost if counts else 0.0)
    return chains[item.key]

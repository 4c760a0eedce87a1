"""Bugs that a scheduler might have, one at a time: what checks schedules has to find each."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from prunectl.errors import StoreError
from prunectl.scheduler import dispatcher, reports, requests
from prunectl.scheduler.device_pool import DevicePool
from prunectl.scheduler.dispatcher import Dispatcher
from prunectl.scheduler.losses import Losses
from prunectl.scheduler.plans import Plans
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.queue_state import QueueState
from prunectl.scheduler.reports import Reports
from prunectl.scheduler.scheduler import Scheduler
from prunectl.scheduler.slots import DeviceSlots
from prunectl.scheduler.workers import Workers
from prunectl.spec.state import State
from prunectl.store import files
from prunectl.store.records.journal import Journal
from prunectl.store.records.scheduler_log import History

Plant = Callable[[], "contextlib.AbstractContextManager[None]"]


@contextlib.contextmanager
def replaced(owner: Any, name: str, other: Any) -> Iterator[None]:
    """Put something else in the place of an attribute."""
    before = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, before)


def attempts_not_compared() -> contextlib.AbstractContextManager[None]:
    """What is said of an older attempt counts for the one that runs."""

    def runs(self: Reports, worker: Any, key: str, attempt: int) -> bool:
        return key in worker.running

    return replaced(Reports, "_runs", runs)


def attempts_counted_per_run() -> contextlib.AbstractContextManager[None]:
    """Numbers of attempts begin anew with each scheduler."""
    start = Scheduler.start

    def forgetful(self: Scheduler, patience: float = 0.0) -> None:
        start(self, patience)
        self.log.history.attempts.clear()

    stack = contextlib.ExitStack()
    stack.enter_context(replaced(Scheduler, "start", forgetful))
    stack.enter_context(replaced(dispatcher, "last_attempt", lambda path: 0))
    return stack


def locks_of_stages_ignored() -> contextlib.AbstractContextManager[None]:
    """A stage is given out though a worker that is dying, or another process, still has it."""
    return replaced(Dispatcher, "may_still_run", lambda self, key: False)


def fences_ignored() -> contextlib.AbstractContextManager[None]:
    """A worker whose end nobody saw counts as dead."""
    return replaced(Dispatcher, "_is_fenced", lambda self, key: False)


def fences_forgotten_between_runs() -> contextlib.AbstractContextManager[None]:
    """The next scheduler of a store knows nothing of a worker that may still run."""
    start = Scheduler.start

    def forgetful(self: Scheduler, patience: float = 0.0) -> None:
        start(self, patience)
        self.log.history.fences.clear()

    return replaced(Scheduler, "start", forgetful)


def orphans_ignored() -> contextlib.AbstractContextManager[None]:
    """The workers of a scheduler that was killed count as dead, wherever they are."""
    start = Scheduler.start

    def careless(self: Scheduler, patience: float = 0.0) -> None:
        outlive, self.executor.workers_outlive = self.executor.workers_outlive, False  # type: ignore[misc]
        try:
            start(self, patience)
        finally:
            self.executor.workers_outlive = outlive  # type: ignore[misc]

    return replaced(Scheduler, "start", careless)


def priority_ignored() -> contextlib.AbstractContextManager[None]:
    """The queue's order does not follow what people ask for."""

    def prioritise(self: QueueState, values: dict[str, int]) -> None:
        self.priority.update(values)  # and nothing is sorted anew

    return replaced(QueueState, "prioritise", prioritise)


def one_slot_too_many() -> contextlib.AbstractContextManager[None]:
    """A device takes a stage more than it has slots."""

    def has_room(self: DeviceSlots) -> bool:
        return self.open and len(self.running) <= self.most

    return replaced(DeviceSlots, "has_room", property(has_room))


def drained_device_used() -> contextlib.AbstractContextManager[None]:
    """A drained device gets stages."""

    def drain(self: DevicePool, name: str, reason: str) -> None:
        self._closed[name] = "drained", reason

    return replaced(DevicePool, "_drain", drain)


def lost_stage_forgotten() -> contextlib.AbstractContextManager[None]:
    """The stages of a worker that lost its device are nobody's."""

    def interrupt(
        self: Dispatcher, key: str, step: Any = None, *, later: bool = False, certain: bool = True
    ) -> None:
        self.forget(key)
        if not later:
            self.queue.interrupted(key)
        else:
            self.queue.devices[self.queue.items[key].device or ""].running.pop(key)

    return replaced(Dispatcher, "interrupt", interrupt)


def request_removed_before_it_is_answered() -> contextlib.AbstractContextManager[None]:
    """A request is gone where its scheduler is killed in the midst of it."""

    def carry_out(self: requests.RequestHandler) -> bool:
        pending = requests.requests.pending(self._paths)
        for request in pending:
            requests.requests.withdraw(self._paths, request.id)
        for request in pending:
            if request.id not in self._log.history.answered:
                with contextlib.suppress(StoreError):
                    self._log.append(self._answer(request), durable=True)
        return bool(pending)

    return replaced(requests.RequestHandler, "carry_out", carry_out)


def last_request_not_looked_for() -> contextlib.AbstractContextManager[None]:
    """What is asked while the scheduler comes to its end waits for nobody."""

    def over(self: Scheduler) -> bool:
        if self.stopping is not None:
            if self.clock.monotonic() > self._deadline:
                self.workers.kill("stopped")
            return not self.workers
        return self.queue.exhausted

    return replaced(Scheduler, "_over", over)


def cancel_leaves_what_runs() -> contextlib.AbstractContextManager[None]:
    """Stages that nobody wants any more are given out."""
    return replaced(QueueState, "_wanted", lambda self, item: True)


def interruption_counts_as_failure() -> contextlib.AbstractContextManager[None]:
    """A stage pays for the loss of its worker."""

    def interrupt(
        self: Dispatcher, key: str, step: Any = None, *, later: bool = False, certain: bool = True
    ) -> None:
        self.forget(key)
        item = self.queue.items[key]
        self.queue.interrupted(key, later=later)
        item.failures += 1
        if item.failures > self.queue.retries:
            self.queue._leave(key, State.FAILED)

    return replaced(Dispatcher, "interrupt", interrupt)


def other_code_not_noticed() -> contextlib.AbstractContextManager[None]:
    """A worker that starts after an upgrade of the package gets stages."""

    def ready(self: Reports, worker: Any, message: Any) -> None:
        worker.take_up()

    return replaced(Reports, "_ready", ready)


def children_before_parents() -> contextlib.AbstractContextManager[None]:
    """A stage that needs several others starts when the first of them is done."""

    def finish(self: Queue, key: str) -> None:
        self._leave(key, State.DONE).reason = ""
        for child in self._children.get(key, ()):
            other = self.items[child]
            other.needs.clear()
            self._push(other)

    return replaced(Queue, "finish", finish)


def result_believed_without_looking() -> contextlib.AbstractContextManager[None]:
    """What a worker says is done counts as done."""

    def done(self: Reports, worker: Any, key: str, attempt: int) -> None:
        self.ran += 1
        self._log.append(reports.logged.StageDone(key=key))
        self._queue.finish(key)

    return replaced(Reports, "_done", done)


def log_not_durable() -> contextlib.AbstractContextManager[None]:
    """What must be on the disk before somebody is told is only in the disk's cache."""
    append = Journal.append

    def lazy(self: Journal, record: Any, *, durable: bool = False) -> Any:
        return append(self, record, durable=False)

    return replaced(Journal, "append", lazy)


def replaced_without_sync() -> contextlib.AbstractContextManager[None]:
    """Files are renamed into their place before their content is on the disk."""

    @contextlib.contextmanager
    def replacing(path: Any) -> Iterator[Any]:
        temporary = path.with_name(f".{path.name}.tmp")
        files.disk.make_folder(path.parent)
        yield temporary
        files.disk.rename(temporary, path)

    return replaced(files, "replacing", replacing)


def nothing_is_recalled() -> contextlib.AbstractContextManager[None]:
    """Stages that nobody wants any more, and those on drained devices, run on."""
    return replaced(Dispatcher, "recall", lambda self: None)


def deaf_workers_are_left_alone() -> contextlib.AbstractContextManager[None]:
    """A worker that does not leave its stage when it is asked to is not ended."""
    recall = Dispatcher.recall

    def patient(self: Dispatcher) -> None:
        for stage in self.running.values():
            if stage.recall_deadline is not None:
                stage.recall_deadline = float("inf")
        recall(self)

    return replaced(Dispatcher, "recall", patient)


def neighbours_pay_for_a_lost_device() -> contextlib.AbstractContextManager[None]:
    """The other stages of a worker that lost its device count it as a failure."""
    lost = Reports._lost

    def forgetful(self: Reports, worker: Any, message: Any) -> None:
        lost(self, worker, message)
        worker.unfit = False

    return replaced(Reports, "_lost", forgetful)


def blamed(place: str) -> contextlib.AbstractContextManager[None]:
    """Whatever worker is lost, the same is to blame."""
    return replaced(Losses, "lost", lambda self, device, stage, **how: place)


def broken_devices_are_never_given_up() -> contextlib.AbstractContextManager[None]:
    """A device on which every worker is lost is used for ever."""
    return blamed("worker")


def devices_are_given_up_at_once() -> contextlib.AbstractContextManager[None]:
    """A device is drained with the first worker that is lost on it."""
    return blamed("device")


def stages_are_given_up_at_once() -> contextlib.AbstractContextManager[None]:
    """A stage whose worker loses its device fails for good."""
    return blamed("stage")


def drained_devices_are_kept() -> contextlib.AbstractContextManager[None]:
    """A drained device is left to nobody."""
    return replaced(DevicePool, "release", lambda self, name: None)


def every_stop_is_at_once() -> contextlib.AbstractContextManager[None]:
    """Workers get no time to checkpoint."""
    stop = Scheduler.stop
    return replaced(Scheduler, "stop", lambda self, now=False: stop(self, True))


def no_stop_is_at_once() -> contextlib.AbstractContextManager[None]:
    """Workers get their time though somebody asked for the end at once."""
    stop = Scheduler.stop
    return replaced(Scheduler, "stop", lambda self, now=False: stop(self, False))


def accepted_plans_die_with_their_scheduler() -> contextlib.AbstractContextManager[None]:
    """The next scheduler does not ask for what a killed one had accepted."""
    return replaced(History, "left_behind", lambda self: [])


def one_attempt_too_many() -> contextlib.AbstractContextManager[None]:
    """A stage is tried more often than it may fail."""
    made = Queue.__init__

    def generous(self: Queue, retries: int = 2) -> None:
        made(self, retries + 1)

    return replaced(Queue, "__init__", generous)


def priorities_forgotten_between_runs() -> contextlib.AbstractContextManager[None]:
    """The next scheduler of a store does not know them."""
    begin = Scheduler._begin

    def forgetful(self: Scheduler) -> None:
        self.log.history.priority.clear()
        begin(self)

    return replaced(Scheduler, "_begin", forgetful)


def stops_are_obeyed_by_the_next_scheduler() -> contextlib.AbstractContextManager[None]:
    """A request to stop that the scheduler before left behind ends the one that comes."""
    do = requests.RequestHandler._do

    def obedient(self: requests.RequestHandler, request: Any) -> str:
        self._asked_before.discard(request.id)
        return do(self, request)

    return replaced(requests.RequestHandler, "_do", obedient)


def flags_of_workers_ignored() -> contextlib.AbstractContextManager[None]:
    """A worker gets stages of another precision than it began with."""

    def choose(self: Workers, device: Any, flags: Any, workload: Any) -> Any:
        return next((worker for worker in self._on(device.id) if worker.free), None)

    return replaced(Workers, "_choose", choose)


def missing_files_are_not_made_again() -> contextlib.AbstractContextManager[None]:
    """A stage that lacks a checkpoint is tried until it has failed."""
    return replaced(Plans, "make_again", lambda self, key, missing: None)


def dead_workers_keep_their_stages() -> contextlib.AbstractContextManager[None]:
    """A worker that hangs is never ended."""
    return replaced(Workers, "unresponsive", lambda self, timeouts: [])


BUGS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        attempts_not_compared,
        attempts_counted_per_run,
        locks_of_stages_ignored,
        fences_ignored,
        fences_forgotten_between_runs,
        orphans_ignored,
        priority_ignored,
        one_slot_too_many,
        drained_device_used,
        lost_stage_forgotten,
        request_removed_before_it_is_answered,
        last_request_not_looked_for,
        cancel_leaves_what_runs,
        interruption_counts_as_failure,
        other_code_not_noticed,
        children_before_parents,
        result_believed_without_looking,
        log_not_durable,
        replaced_without_sync,
        nothing_is_recalled,
        deaf_workers_are_left_alone,
        neighbours_pay_for_a_lost_device,
        broken_devices_are_never_given_up,
        devices_are_given_up_at_once,
        stages_are_given_up_at_once,
        drained_devices_are_kept,
        every_stop_is_at_once,
        no_stop_is_at_once,
        accepted_plans_die_with_their_scheduler,
        one_attempt_too_many,
        priorities_forgotten_between_runs,
        stops_are_obeyed_by_the_next_scheduler,
        flags_of_workers_ignored,
        missing_files_are_not_made_again,
        dead_workers_keep_their_stages,
    )
}


def find(name: str, schedules: int, first: int = 0) -> str | None:
    """Return what a check says of the first schedule in which it finds the bug; None where it finds it in none.

    They are tried from number `first` on, and those before it last.
    """
    from prunectl.bench.simulation.schedule import Schedule

    with BUGS[name]():
        seeds = [*range(first, schedules), *range(first)]
        found = (Schedule(seed).run().violation for seed in seeds)
        return next(filter(None, found), None)


if __name__ == "__main__":
    print(find(sys.argv[1], *map(int, sys.argv[2:])) or "")

"""A command of a schedule: a `run` of plans as a process of the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from prunectl.bench.simulation.checks import Checker
from prunectl.bench.simulation.scene import ROOT, Scene
from prunectl.errors import PrunectlError, StoreBusy
from prunectl.scheduler.executors.simulated import SimulatedExecutor
from prunectl.scheduler.executors.simulated_world import Process
from prunectl.scheduler.items import Item
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.scheduler import Scheduler
from prunectl.scheduler.timeouts import Timeouts
from prunectl.spec.study import Study
from prunectl.store import files, requests
from prunectl.store.records.plan import write_study
from prunectl.store.records.requests import (
    AddPlan,
)

TIMEOUTS = Timeouts(
    hang=40.0, prepare=120.0, start=40.0, stop=15.0, grace=10.0, lease=70.0, beat=15.0,
    device_lock=15.0, forecast=60.0, poll=2.0,
)  # fmt: skip


@dataclass(eq=False)
class Command:
    """A `run` of plans: the scheduler of its store, or a plan handed over to the one that is there."""

    scene: Scene
    studies: list[Study]
    process: Process = field(init=False)
    executor: SimulatedExecutor | None = None
    scheduler: Scheduler | None = None
    ended: bool = False
    signals: int = 0
    """How often it was asked to stop."""
    stopped_until: float = 0.0
    """It does nothing before, as after SIGSTOP."""
    _awake: bool = False

    def start(self) -> None:
        """Start the process."""
        world = self.scene.world
        self.process = world.process("scheduler")
        self.process.at_death.append(self._died)
        self.process.run(self._try)

    def _died(self) -> None:
        self.ended = True

    def _try(self) -> None:
        """Become the store's scheduler, or hand the plans over and wait for another chance."""
        scene = self.scene
        plans = [each.digest for each in self.studies]
        try:
            for each in self.studies:
                if not files.disk.exists(ROOT.plan(each.digest)):
                    write_study(ROOT, each)
            executor = SimulatedExecutor(
                scene.world, self.process, ROOT, scene.devices, scene.trouble,
                scene.transport, scene.remote, self._mail,
            )  # fmt: skip
            scene.number += 1
            scheduler = Scheduler(
                ROOT, executor, plans, timeouts=TIMEOUTS, run_id=f"run-{scene.number}",
                code=scene.trouble.code,
                on_record=lambda record: scene.recorded(scheduler, record),
            )  # fmt: skip
            scheduler.queue = CheckedQueue(TIMEOUTS.retries, scene.checker)
            scheduler.start()
        except StoreBusy:
            self._hand_over()
            return
        except PrunectlError:
            self._leave()  # the disk is full: the user tries again later
            return
        self.executor, self.scheduler = executor, scheduler
        self._step()

    def _hand_over(self) -> None:
        """Ask the scheduler that is there, and try again when it is gone."""
        for each in self.studies:
            self.scene.send(AddPlan(plan=each.digest))
        self._wait_for_lock()

    def _wait_for_lock(self) -> None:
        if all(self.scene.is_done(each) for each in self.studies):
            self._leave()
        elif requests.alive(ROOT):
            self.process.after(5.0, self._wait_for_lock)
        else:
            self._try()

    def _mail(self) -> None:
        if not self._awake:
            self._awake = True
            self.process.after(0.0, self._wake)

    def _wake(self) -> None:
        self._awake = False
        self._listen_and_step()

    def _timer(self, due: float) -> None:
        if due == self._due:
            self._listen_and_step()

    def _listen_and_step(self) -> None:
        world = self.scene.world
        if world.now < self.stopped_until:
            self._awake = True
            self.process.after(self.stopped_until - world.now, self._wake)
        elif self.scheduler is not None and not self.ended:
            self.scheduler.listen(world.now)
            self._step()

    def _step(self) -> None:
        scheduler, scene = self.scheduler, self.scene
        assert scheduler is not None
        if self.signals > 1:
            scene.checker.obligations.hurry()
        until = scheduler.step(self.signals)
        scene.checker.stepped(scheduler)
        if until is None:
            scene.checker.finished(scheduler)
            scheduler.close()
            self._leave()
            return
        self._due = max(until, scene.world.now + 0.01)
        self.process.after(self._due - scene.world.now, partial(self._timer, self._due))

    def _leave(self) -> None:
        """End orderly."""
        self.ended = True
        self.process.kill()


class CheckedQueue(Queue):
    """The scheduler's queue, with each decision checked."""

    def __init__(self, retries: int, checker: Checker) -> None:
        super().__init__(retries)
        self._checker = checker

    def next(self) -> Item | None:
        """Take the stage that is to run now."""
        choice = super().next()
        self._checker.chosen(self, choice)
        return choice

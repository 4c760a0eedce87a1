"""One schedule: a store, some plans, commands that run them, and what befalls them, all drawn from one seed.

For a while anything may happen. Then the troubles end, and the same command is given until nothing is left to do: what
it then comes to must be what it would have come to without any of it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from prunectl.bench.simulation.command import Command
from prunectl.bench.simulation.mishaps import Mishaps
from prunectl.bench.simulation.obligations import Violation
from prunectl.bench.simulation.scene import Scene
from prunectl.scheduler.executors.simulated import Transport
from prunectl.spec.study import Study
from prunectl.store import files
from prunectl.store.records.requests import (
    Release,
    Undrain,
)

PATIENCE = 3000.0
"""Seconds within which a command without troubles must come to its end."""
MOST_COMMANDS = 8
"""Times that the same command is given at the end: what lost its worker by bad luck is tried again."""


@dataclass(frozen=True)
class Outcome:
    """What a schedule came to."""

    seed: int
    violation: str | None
    faults: dict[str, int]
    """How often what befell it."""
    checks: int
    """Times that all was checked."""
    seconds: float
    """Of the world."""


class Schedule:
    """A scene, and all that happens in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.scene = Scene(seed)
        self.commands: list[Command] = []

    def run(self) -> Outcome:
        """Let it all happen, and check it."""
        violation = None
        try:
            Mishaps(self.scene, self.commands, self._command).plan()
            self._command([self.scene.studies[0]])
            self._go_on(lambda: self.scene.world.now >= self.scene.horizon, self.scene.horizon)
            self._calm_down()
            self._finish()
        except Violation as error:
            violation = f"at {self.scene.world.now:.1f} s: {error}"
        except Exception:
            violation = f"at {self.scene.world.now:.1f} s: {traceback.format_exc()}"
        faults = dict(sorted(self.scene.world.faults.items()))
        return Outcome(self.seed, violation, faults, self.scene.checker.steps, self.scene.world.now)

    def _go_on(self, enough: Callable[[], bool], until: float) -> None:
        while not enough() and (due := self.scene.world.next_time()) is not None and due <= until:
            self.scene.world.happen()

    def _command(self, studies: list[Study]) -> Command:
        command = Command(self.scene, studies)
        self.commands.append(command)
        command.start()
        return command

    def _calm_down(self) -> None:
        """End all troubles."""
        self.scene.trouble.over = True
        self.scene.trouble.broken.clear()
        self.scene.transport = Transport()
        self.scene.world.storage.full = False
        self.scene.world.slow_fsync = 0.0
        for process in self.scene.world.processes:
            process.dies_in = None
        for device, holder in list(self.scene.world.leases.items()):
            if holder == "somebody":
                del self.scene.world.leases[device]
        for command in self.commands:
            command.stopped_until = 0.0
            if command.executor is not None:
                command.executor.transport = self.scene.transport

    def _finish(self) -> None:
        """Give the same command until nothing is left, and look at what it came to."""
        for _ in range(MOST_COMMANDS):
            self._settle()
            last = self._command(self.scene.studies)
            self._await(last)
            if last.scheduler is not None and self.scene.complete():
                break
        assert last.scheduler is not None
        with last.process.inside():
            files.use(type(last.process.disk)(self.scene.world.storage))
            self.scene.checker.at_the_end(
                last.scheduler, set(self.scene.trouble.hopeless), self.scene.sent
            )

    def _settle(self) -> None:
        """Wait until every command has come to its end."""
        for command in self.commands:
            self._await(command)

    def _await(self, command: Command) -> None:
        deadline = self.scene.world.now + PATIENCE
        while not command.ended:
            due = self.scene.world.next_time()
            if due is None or due > deadline:
                raise Violation(f"a command does not come to its end: {self._what(command)}")
            for each in self.commands:
                self._help(each)
            self.scene.world.happen()

    def _help(self, command: Command) -> None:
        """Ask for what a run waits for: trials that were held while it ran, and drained devices."""
        scheduler = command.scheduler
        if scheduler is None or command.ended or scheduler.dispatcher.running:
            return
        unanswered = any(
            each.id not in self.scene.checker.answered for each in self.scene.sent[-1:]
        )
        if unanswered or not self.scene.alive():
            return
        if self.scene.checker.held and scheduler.queue.exhausted:
            held = tuple(sorted(self.scene.checker.held))
            self.scene.by_user(lambda: self.scene.send(Release(trials=held)))
        for device in scheduler.pool.drained:
            if device not in scheduler.pool.given_up:
                self.scene.by_user(partial(self.scene.send, Undrain(device=device)))

    def _what(self, command: Command) -> str:
        scheduler = command.scheduler
        if scheduler is None:
            return "it waits for another one"
        return f"{scheduler.queue.counts()}, {len(scheduler.workers)} workers"

"""One schedule: a store, some plans, commands that run them, and what befalls them, all drawn from one seed.

For a while anything may happen. Then the troubles end, and the same command is given until nothing is left to do: what
it then comes to must be what it would have come to without any of it.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prunectl.bench.simulation.checks import Checker
from prunectl.bench.simulation.obligations import Violation
from prunectl.bench.simulation.studies import study
from prunectl.errors import PrunectlError, StoreBusy
from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors.simulated import SimulatedExecutor, Transport
from prunectl.scheduler.executors.simulated_worker import Behaviour, Fate
from prunectl.scheduler.executors.simulated_world import Process, World
from prunectl.scheduler.queue import Queue
from prunectl.scheduler.scheduler import Scheduler
from prunectl.scheduler.timeouts import Timeouts
from prunectl.spec.study import Study
from prunectl.store import files, requests
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.plan import write_study
from prunectl.store.records.requests import (
    AddPlan,
    Cancel,
    Drain,
    Hold,
    Priority,
    Release,
    Request,
    Retry,
    Stop,
    Undrain,
)

ROOT = StorePaths(Path("/store"))
TIMEOUTS = Timeouts(
    hang=40.0, prepare=120.0, start=40.0, stop=15.0, grace=10.0, lease=70.0, beat=15.0,
    device_lock=15.0, forecast=60.0, poll=2.0,
)  # fmt: skip
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


class Trouble(Behaviour):
    """Workers that fail in all their ways, for as long as the troubles last."""

    def __init__(self, checker: Checker, chance: random.Random, remote: bool) -> None:
        self.checker = checker
        self.over = False
        self.hopeless: dict[str, Fate] = {}
        """Stages that fail whenever they are tried."""
        self.broken: set[str] = set()
        """Devices on which every worker is lost."""
        kinds: list[Fate] = [
            "exception", "oom", "device", "crash", "hang", "deaf", "liar", "nonfinite",
        ]  # fmt: skip
        if remote:
            kinds += ["ghost", "ghost"]
        self._kinds = chance.sample(kinds, chance.randint(0, 3))
        self._rate = chance.choice((0.05, 0.2, 0.4))
        self.echo = chance.choice((0.0, 0.5))
        self._launch_rate = chance.choice((0.0, 0.0, 0.1))
        self._stillborn_rate = chance.choice((0.0, 0.0, 0.1))
        self._death_rate = chance.choice((0.0, 0.0, 0.2))

    def launch_fails(self, world: World) -> bool:
        """Return whether no worker can be started now."""
        return not self.over and world.chance.random() < self._launch_rate

    def stillborn(self, world: World, device: Device) -> bool:
        """Return whether a worker ends before it is ready."""
        return not self.over and world.chance.random() < self._stillborn_rate

    def fate(self, world: World, key: str, attempt: int, device: Device) -> Fate:
        """Return what becomes of an attempt."""
        if key in self.hopeless:
            return self.hopeless[key]
        if self.over:
            return "normal"
        if device.id in self.broken:
            return "device"
        if self._kinds and world.chance.random() < self._rate:
            return world.chance.choice(self._kinds)
        return "normal"

    def began(self, process: Process, key: str, attempt: int) -> None:
        """Check it, and perhaps let the worker be killed at one of its next writes."""
        self.checker.began(process, key, attempt)
        chance = process.world.chance
        if not self.over and chance.random() < self._death_rate:
            process.dies_in = chance.randint(1, 40)

    def ended(self, process: Process, key: str, attempt: int) -> None:
        """Note it."""
        self.checker.ended(process, key, attempt)


@dataclass(eq=False)
class Command:
    """A `run` of plans: the scheduler of its store, or a plan handed over to the one that is there."""

    schedule: Schedule
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
        world = self.schedule.world
        self.process = world.process("scheduler")
        self.process.at_death.append(self._died)
        self.process.run(self._try)

    def _died(self) -> None:
        self.ended = True

    def _try(self) -> None:
        """Become the store's scheduler, or hand the plans over and wait for another chance."""
        schedule = self.schedule
        plans = [each.digest for each in self.studies]
        try:
            for each in self.studies:
                if not files.disk.exists(ROOT.plan(each.digest)):
                    write_study(ROOT, each)
            executor = SimulatedExecutor(
                schedule.world, self.process, ROOT, schedule.devices, schedule.trouble,
                schedule.transport, schedule.remote, self._mail,
            )  # fmt: skip
            schedule.number += 1
            scheduler = Scheduler(
                ROOT, executor, plans, timeouts=TIMEOUTS, run_id=f"run-{schedule.number}",
                code=schedule.trouble.code,
                on_record=lambda record: schedule.recorded(scheduler, record),
            )  # fmt: skip
            scheduler.queue = CheckedQueue(TIMEOUTS.retries, schedule.checker)
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
            self.schedule.send(AddPlan(plan=each.digest))
        self._wait_for_lock()

    def _wait_for_lock(self) -> None:
        if all(self.schedule.is_done(each) for each in self.studies):
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
        world = self.schedule.world
        if world.now < self.stopped_until:
            self._awake = True
            self.process.after(self.stopped_until - world.now, self._wake)
        elif self.scheduler is not None and not self.ended:
            self.scheduler.listen(world.now)
            self._step()

    def _step(self) -> None:
        scheduler, schedule = self.scheduler, self.schedule
        assert scheduler is not None
        if self.signals > 1:
            schedule.checker.obligations.hurry()
        until = scheduler.step(self.signals)
        schedule.checker.stepped(scheduler)
        if until is None:
            schedule.checker.finished(scheduler)
            scheduler.close()
            self._leave()
            return
        self._due = max(until, schedule.world.now + 0.01)
        self.process.after(self._due - schedule.world.now, partial(self._timer, self._due))

    def _leave(self) -> None:
        """End orderly."""
        self.ended = True
        self.process.kill()


class CheckedQueue(Queue):
    """The scheduler's queue, with each decision checked."""

    def __init__(self, retries: int, checker: Checker) -> None:
        super().__init__(retries)
        self._checker = checker

    def next(self):  # type: ignore[no-untyped-def]
        """Take the stage that is to run now."""
        choice = super().next()
        self._checker.chosen(self, choice)
        return choice


class Schedule:
    """A world, its plans, and all that happens there."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        self.number = 0
        chance = self.world.chance
        self.studies = [
            study("first", range(chance.randint(1, 3)), chance),
            study("second", range(1, 1 + chance.randint(1, 2)), chance),
        ]
        self.checker = Checker(self.world, ROOT, self.studies)
        self.remote = chance.random() < 0.4
        """Workers are on other hosts."""
        self.trouble = Trouble(self.checker, chance, self.remote)
        self.transport = self._transport(chance)
        self.devices = self._devices(chance)
        self.commands: list[Command] = []
        self.sent: list[Request] = []
        self.on_record: Callable[[LogRecord], None] = lambda record: None
        """Gets the records of all schedulers, once they are checked."""
        if chance.random() < 0.15:
            fate: Fate = chance.choice(("exception", "nonfinite", "crash"))
            self.trouble.hopeless[chance.choice(list(self.checker.expected))] = fate
        self.horizon = chance.uniform(50.0, 500.0)

    @staticmethod
    def _devices(chance: random.Random) -> list[Device]:
        if chance.random() < 0.5:
            return [Device("cpu", "cpu", "made up", chance.randint(1, 4))]
        slots = chance.randint(1, 3)
        many = chance.randint(1, 3)
        return [Device(f"cuda:{i}", "cuda", "made up", slots, f"GPU-{i}") for i in range(many)]

    @staticmethod
    def _transport(chance: random.Random) -> Transport:
        if chance.random() < 0.5:
            return Transport()
        rates = (0.0, 0.0, 0.05, 0.3)
        return Transport(
            lost=chance.choice((0.0, 0.0, 0.01, 0.03)),
            late=chance.choice(rates),
            doubled=chance.choice(rates),
            late_seconds=chance.choice((5.0, 30.0, 100.0)),
        )

    # the schedule

    def run(self) -> Outcome:
        """Let it all happen, and check it."""
        violation = None
        try:
            self._plan_troubles()
            self._command([self.studies[0]])
            self._go_on(lambda: self.world.now >= self.horizon, self.horizon)
            self._calm_down()
            self._finish()
        except Violation as error:
            violation = f"at {self.world.now:.1f} s: {error}"
        except Exception:
            violation = f"at {self.world.now:.1f} s: {traceback.format_exc()}"
        faults = dict(sorted(self.world.faults.items()))
        return Outcome(self.seed, violation, faults, self.checker.steps, self.world.now)

    def recorded(self, scheduler: Scheduler, record: LogRecord) -> None:
        """Check a record of a scheduler's log."""
        try:
            self.checker.recorded(scheduler, record)
        finally:
            self.on_record(record)

    def _go_on(self, enough: Callable[[], bool], until: float) -> None:
        while not enough() and (due := self.world.next_time()) is not None and due <= until:
            self.world.happen()

    def _command(self, studies: list[Study]) -> Command:
        command = Command(self, studies)
        self.commands.append(command)
        command.start()
        return command

    def _calm_down(self) -> None:
        """End all troubles."""
        self.trouble.over = True
        self.trouble.broken.clear()
        self.transport = Transport()
        self.world.storage.full = False
        self.world.slow_fsync = 0.0
        for process in self.world.processes:
            process.dies_in = None
        for device, holder in list(self.world.leases.items()):
            if holder == "somebody":
                del self.world.leases[device]
        for command in self.commands:
            command.stopped_until = 0.0

    def _finish(self) -> None:
        """Give the same command until nothing is left, and look at what it came to."""
        for _ in range(MOST_COMMANDS):
            self._settle()
            last = self._command(self.studies)
            self._await(last)
            if last.scheduler is not None and self._complete():
                break
        assert last.scheduler is not None
        with last.process.inside():
            files.use(type(last.process.disk)(self.world.storage))
            self.checker.at_the_end(last.scheduler, set(self.trouble.hopeless), self.sent)

    def _settle(self) -> None:
        """Wait until every command has come to its end."""
        for command in self.commands:
            self._await(command)

    def _await(self, command: Command) -> None:
        deadline = self.world.now + PATIENCE
        while not command.ended:
            due = self.world.next_time()
            if due is None or due > deadline:
                raise Violation(f"a command does not come to its end: {self._what(command)}")
            for each in self.commands:
                self._help(each)
            self.world.happen()

    def _help(self, command: Command) -> None:
        """Ask for what a run waits for: trials that were held while it ran, and drained devices."""
        scheduler = command.scheduler
        if scheduler is None or command.ended or scheduler.dispatcher.running:
            return
        unanswered = any(each.id not in self.checker.answered for each in self.sent[-1:])
        if unanswered or not requests_alive(self.world):
            return
        if self.checker.held and scheduler.queue.exhausted:
            held = tuple(sorted(self.checker.held))
            self.by_user(lambda: self.send(Release(trials=held)))
        for device in scheduler.pool.drained:
            if device not in scheduler.pool.given_up:
                self.by_user(partial(self.send, Undrain(device=device)))

    def _what(self, command: Command) -> str:
        scheduler = command.scheduler
        if scheduler is None:
            return "it waits for another one"
        return f"{scheduler.queue.counts()}, {len(scheduler.workers)} workers"

    def _complete(self) -> bool:
        hopeless = set(self.trouble.hopeless)
        apart = self.checker.cancelled | self.checker.held
        return all(
            set(trial.path) <= self.checker.done
            for each in self.studies
            for trial in each.trials
            if trial.id not in apart and not hopeless & set(trial.path)
        )

    def is_done(self, study: Study) -> bool:
        """Return whether all stages of a study are done."""
        return set(study.stages) <= self.checker.done

    # troubles

    def _plan_troubles(self) -> None:
        chance = self.world.chance
        menu: list[Callable[[], None]] = [
            self._kill_scheduler, self._kill_scheduler, self._stop_and_kill, self._cut_power, self._suspend,
            self._signal, self._fill_disk, self._slow_disk, self._second_command,
            self._change_code, self._take_device, self._break_device, self._hold_lock,
            self._lose_file,
            self._ask, self._ask, self._ask, self._ask, self._ask, self._ask,
        ]  # fmt: skip
        if self.remote:  # on one host the kernel sees every end
            menu += [self._cut_off] * 3
        for _ in range(chance.choice((1, 2, 4, 8, 12))):
            trouble = chance.choice(menu)
            self.world.after(chance.uniform(1.0, self.horizon), partial(self._befall, trouble))
        # Whatever ended, the user gives the same command again.
        self.world.after(20.0, self._again)

    def _befall(self, trouble: Callable[[], None]) -> None:
        if not self.trouble.over:  # a slow disk may have taken the world past its horizon
            trouble()

    def _again(self) -> None:
        if self.trouble.over:
            return
        if all(command.ended for command in self.commands) and not self._complete():
            self._count("started again")
            self._command(self.studies if self.world.chance.random() < 0.5 else self.studies[:1])
        self.world.after(self.world.chance.uniform(5.0, 30.0), self._again)

    def _living(self) -> Command | None:
        living = [each for each in self.commands if not each.ended]
        return self.world.chance.choice(living) if living else None

    def _count(self, kind: str) -> None:
        self.world.fault(kind)

    def _kill_scheduler(self) -> None:
        command = self._living()
        if command is None:
            return
        if self.world.chance.random() < 0.5:
            command.process.dies_in = self.world.chance.randint(1, 60)
        else:
            self._count("scheduler killed")
            command.process.kill()

    def _stop_and_kill(self) -> None:
        """A scheduler is killed when it is asked to stop: that was not meant for the next one."""
        if (command := self._living()) is not None:
            self._count("scheduler killed")
            self.by_user(lambda: self._leave_request(Stop()))
            command.process.kill()

    def _cut_off(self) -> None:
        """The host of a worker is out of reach, and the scheduler is killed soon, or before it hears of that."""
        busy = (
            (command.process, worker)
            for command in self.commands
            if not command.ended and command.executor is not None
            for worker in command.executor.workers
            if worker.worker.stages
        )
        for scheduler, worker in busy:
            self._count("host cut off")
            worker.cut_off()
            if self.world.chance.random() < 0.5:
                scheduler.kill()
            else:
                scheduler.after(self.world.chance.uniform(0.0, 5.0), scheduler.kill)
            return

    def _cut_power(self) -> None:
        self.world.power_cut()
        with files_on(self.world):
            self.checker.nothing_lost()

    def _suspend(self) -> None:
        if (command := self._living()) is not None:
            self._count("scheduler suspended")
            command.stopped_until = self.world.now + self.world.chance.uniform(1.0, 90.0)

    def _signal(self) -> None:
        if (command := self._living()) is not None:
            self._count("signal")
            command.signals += self.world.chance.choice((1, 1, 2))

    def _fill_disk(self) -> None:
        self._count("disk full")
        self.world.storage.full = True
        self.world.after(self.world.chance.uniform(1.0, 60.0), self._free_disk)

    def _free_disk(self) -> None:
        self.world.storage.full = False

    def _slow_disk(self) -> None:
        self._count("slow disk")
        self.world.slow_fsync = self.world.chance.choice((0.1, 2.0))
        self.world.after(30.0, self._fast_disk)

    def _fast_disk(self) -> None:
        self.world.slow_fsync = 0.0

    def _second_command(self) -> None:
        self._count("second command")
        self._command([self.world.chance.choice(self.studies)])

    def _change_code(self) -> None:
        """Somebody upgrades the package: workers that start from now on have it."""
        self._count("package changed")
        self.trouble.code = f"version {self.world.faults['package changed']}"

    def _take_device(self) -> None:
        device = self.world.chance.choice(self.devices)
        if device.kind == "cuda" and device.id not in self.world.leases:
            self._count("device leased by others")
            self.world.leases[device.id] = "somebody"
            self.world.after(self.world.chance.uniform(5.0, 200.0), partial(self._return, device))

    def _return(self, device: Device) -> None:
        if self.world.leases.get(device.id) == "somebody":
            del self.world.leases[device.id]

    def _break_device(self) -> None:
        device = self.world.chance.choice(self.devices)
        if device.kind == "cuda" and not self.trouble.over:
            self._count("device broken")
            self.trouble.broken.add(device.id)
            if self.world.chance.random() < 0.7:
                self.world.after(
                    self.world.chance.uniform(5.0, 120.0),
                    partial(self.trouble.broken.discard, device.id),
                )

    def _hold_lock(self) -> None:
        """Another process has a stage's lock for a while, as an import does."""
        key = self.world.chance.choice(list(self.checker.expected))
        process = self.world.process("other")

        def hold() -> None:
            try:
                Lock(ROOT.stage(key).lock).acquire("somebody else")
            except PrunectlError:
                process.kill()
                return
            self._count("stage locked by others")
            self.world.after(self.world.chance.uniform(1.0, 60.0), process.kill)

        process.run(hold)

    def _lose_file(self) -> None:
        """Somebody removes a checkpoint that others start from."""
        done = sorted(self.checker.done & self.checker.expected.keys())
        if done:
            place = ROOT.stage(self.world.chance.choice(done))
            with files_on(self.world):
                found = files.disk.glob(place.folder, "rewind-*.safetensors")
                if found:
                    self._count("checkpoint removed")
                    files.disk.unlink(self.world.chance.choice(found))

    # requests

    def by_user(self, action: Callable[[], object]) -> None:
        """Do something as a process of its own that ends."""
        process = self.world.process("user")
        process.run(action)
        process.kill()

    def send(self, request: Request) -> None:
        """Leave a request in the store."""
        try:
            requests.send(ROOT, request)
        except PrunectlError:
            return  # the disk is full, and the user is told
        self._count("request")
        self.checker.obligations.asked_at[request.id] = self.world.now
        self.sent.append(request)

    def _ask(self) -> None:
        chance = self.world.chance
        trials = [trial.id for each in self.studies for trial in each.trials]
        some = tuple(chance.sample(trials, chance.randint(1, min(3, len(trials)))))
        device = chance.choice(self.devices).id
        wait = chance.uniform(1.0, 120.0)
        request: Request = chance.choice((
            Cancel(trials=some), Retry(trials=some), Hold(trials=some), Release(trials=some),
            Priority(trials=some, value=chance.randint(-2, 2)), Drain(device=device),
            Undrain(device=device), Stop(now=chance.random() < 0.5),
            AddPlan(plan=self.studies[1].digest),
        ))  # fmt: skip
        self.by_user(lambda: self._leave_request(request))
        match request:
            case Hold():
                after: Request = Release(trials=some)
            case Cancel():
                after = Retry(trials=some)
            case Drain():
                after = Undrain(device=device)
            case _:
                return
        if chance.random() < 0.8 or isinstance(request, Drain):
            self.world.after(wait, lambda: self.by_user(lambda: self._leave_request(after)))

    def _leave_request(self, request: Request) -> None:
        if requests.alive(ROOT):
            self.send(request)


def requests_alive(world: World) -> bool:
    """Return whether a scheduler has the store."""
    with files_on(world):
        return requests.alive(ROOT)


def files_on(world: World):  # type: ignore[no-untyped-def]
    """Let the stores of a block live on the world's disk, as nobody's process."""
    return world.process("observer").inside()

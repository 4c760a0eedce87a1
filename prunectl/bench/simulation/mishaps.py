"""What befalls a schedule: machines, disks, hosts, people, drawn from its seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prunectl.bench.simulation.command import Command
from prunectl.bench.simulation.scene import ROOT, Scene
from prunectl.errors import PrunectlError
from prunectl.scheduler.devices.base import Device
from prunectl.spec.study import Study
from prunectl.store import files
from prunectl.store.locks import Lock
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


class Mishaps:
    """Draws what happens, and lets it happen."""

    def __init__(
        self, scene: Scene, commands: list[Command], command: Callable[[list[Study]], object]
    ) -> None:
        """`command` gives another command, which `commands` then has."""
        self.scene, self.commands, self.command = scene, commands, command

    def plan(self) -> None:
        """Draw what is to happen, and when."""
        chance = self.scene.world.chance
        menu: list[Callable[[], None]] = [
            self._kill_scheduler, self._kill_scheduler, self._stop_and_kill, self._cut_power, self._suspend,
            self._signal, self._fill_disk, self._slow_disk, self._second_command,
            self._change_code, self._take_device, self._break_device, self._hold_lock,
            self._lose_file,
            self._ask, self._ask, self._ask, self._ask, self._ask, self._ask,
        ]  # fmt: skip
        if self.scene.remote:  # on one host the kernel sees every end
            menu += [self._cut_off] * 3
        for _ in range(chance.choice((1, 2, 4, 8, 12))):
            trouble = chance.choice(menu)
            self.scene.world.after(
                chance.uniform(1.0, self.scene.horizon), partial(self._befall, trouble)
            )
        # Whatever ended, the user gives the same command again.
        self.scene.world.after(20.0, self._again)

    def _befall(self, trouble: Callable[[], None]) -> None:
        if not self.scene.trouble.over:  # a slow disk may have taken the world past its horizon
            trouble()

    def _again(self) -> None:
        if self.scene.trouble.over:
            return
        if all(command.ended for command in self.commands) and not self.scene.complete():
            self.scene.count("started again")
            self.command(
                self.scene.studies
                if self.scene.world.chance.random() < 0.5
                else self.scene.studies[:1]
            )
        self.scene.world.after(self.scene.world.chance.uniform(5.0, 30.0), self._again)

    def _living(self) -> Command | None:
        living = [each for each in self.commands if not each.ended]
        return self.scene.world.chance.choice(living) if living else None

    def _kill_scheduler(self) -> None:
        command = self._living()
        if command is None:
            return
        if self.scene.world.chance.random() < 0.5:
            command.process.dies_in = self.scene.world.chance.randint(1, 60)
        else:
            self.scene.count("scheduler killed")
            command.process.kill()

    def _stop_and_kill(self) -> None:
        """A scheduler is killed when it is asked to stop: that was not meant for the next one."""
        if (command := self._living()) is not None:
            self.scene.count("scheduler killed")
            self.scene.by_user(lambda: self.scene.leave_request(Stop()))
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
            self.scene.count("host cut off")
            worker.cut_off()
            if self.scene.world.chance.random() < 0.5:
                scheduler.kill()
            else:
                scheduler.after(self.scene.world.chance.uniform(0.0, 5.0), scheduler.kill)
            return

    def _cut_power(self) -> None:
        self.scene.world.power_cut()
        with self.scene.disk():
            self.scene.checker.nothing_lost()

    def _suspend(self) -> None:
        if (command := self._living()) is not None:
            self.scene.count("scheduler suspended")
            command.stopped_until = self.scene.world.now + self.scene.world.chance.uniform(
                1.0, 90.0
            )

    def _signal(self) -> None:
        if (command := self._living()) is not None:
            self.scene.count("signal")
            command.signals += self.scene.world.chance.choice((1, 1, 2))

    def _fill_disk(self) -> None:
        self.scene.count("disk full")
        self.scene.world.storage.full = True
        self.scene.world.after(self.scene.world.chance.uniform(1.0, 60.0), self._free_disk)

    def _free_disk(self) -> None:
        self.scene.world.storage.full = False

    def _slow_disk(self) -> None:
        self.scene.count("slow disk")
        self.scene.world.slow_fsync = self.scene.world.chance.choice((0.1, 2.0))
        self.scene.world.after(30.0, self._fast_disk)

    def _fast_disk(self) -> None:
        self.scene.world.slow_fsync = 0.0

    def _second_command(self) -> None:
        self.scene.count("second command")
        self.command([self.scene.world.chance.choice(self.scene.studies)])

    def _change_code(self) -> None:
        """Somebody upgrades the package: workers that start from now on have it."""
        self.scene.count("package changed")
        self.scene.trouble.code = f"version {self.scene.world.faults['package changed']}"

    def _take_device(self) -> None:
        device = self.scene.world.chance.choice(self.scene.devices)
        if device.kind == "cuda" and device.id not in self.scene.world.leases:
            self.scene.count("device leased by others")
            self.scene.world.leases[device.id] = "somebody"
            self.scene.world.after(
                self.scene.world.chance.uniform(5.0, 200.0), partial(self._return, device)
            )

    def _return(self, device: Device) -> None:
        if self.scene.world.leases.get(device.id) == "somebody":
            del self.scene.world.leases[device.id]

    def _break_device(self) -> None:
        device = self.scene.world.chance.choice(self.scene.devices)
        if device.kind == "cuda" and not self.scene.trouble.over:
            self.scene.count("device broken")
            self.scene.trouble.broken.add(device.id)
            if self.scene.world.chance.random() < 0.7:
                self.scene.world.after(
                    self.scene.world.chance.uniform(5.0, 120.0),
                    partial(self.scene.trouble.broken.discard, device.id),
                )

    def _hold_lock(self) -> None:
        """Another process has a stage's lock for a while, as an import does."""
        key = self.scene.world.chance.choice(list(self.scene.checker.expected))
        process = self.scene.world.process("other")

        def hold() -> None:
            try:
                Lock(ROOT.stage(key).lock).acquire("somebody else")
            except PrunectlError:
                process.kill()
                return
            self.scene.count("stage locked by others")
            self.scene.world.after(self.scene.world.chance.uniform(1.0, 60.0), process.kill)

        process.run(hold)

    def _lose_file(self) -> None:
        """Somebody removes a checkpoint that others start from."""
        done = sorted(self.scene.checker.done & self.scene.checker.expected.keys())
        if done:
            place = ROOT.stage(self.scene.world.chance.choice(done))
            with self.scene.disk():
                found = files.disk.glob(place.folder, "rewind-*.safetensors")
                if found:
                    self.scene.count("checkpoint removed")
                    files.disk.unlink(self.scene.world.chance.choice(found))

    def _ask(self) -> None:
        chance = self.scene.world.chance
        trials = [trial.id for each in self.scene.studies for trial in each.trials]
        some = tuple(chance.sample(trials, chance.randint(1, min(3, len(trials)))))
        device = chance.choice(self.scene.devices).id
        wait = chance.uniform(1.0, 120.0)
        request: Request = chance.choice((
            Cancel(trials=some), Retry(trials=some), Hold(trials=some), Release(trials=some),
            Priority(trials=some, value=chance.randint(-2, 2)), Drain(device=device),
            Undrain(device=device), Stop(now=chance.random() < 0.5),
            AddPlan(plan=self.scene.studies[1].digest),
        ))  # fmt: skip
        self.scene.by_user(lambda: self.scene.leave_request(request))
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
            self.scene.world.after(
                wait, lambda: self.scene.by_user(lambda: self.scene.leave_request(after))
            )

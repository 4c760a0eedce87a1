"""An executor of a simulated world: its workers train nothing, and everything about them may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prunectl.scheduler.devices.base import Device, Usage
from prunectl.scheduler.executors.base import Clock, WorkerProcess
from prunectl.scheduler.executors.simulated_behaviour import Behaviour
from prunectl.scheduler.executors.simulated_worker import SimulatedWorker
from prunectl.scheduler.executors.simulated_world import Process, World
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import encode
from prunectl.store.records.messages import AnyCommand, AnyMessage, WorkerEnded, parse_message

ORPHAN_SECONDS = 0.5
"""Within which the workers of a scheduler that was killed are gone, too."""


@dataclass(frozen=True)
class Transport:
    """How messages travel between scheduler and workers."""

    delay: float = 0.01
    """Seconds at the most, one way."""
    lost: float = 0.0
    """Chance of each message; so are the next."""
    late: float = 0.0
    late_seconds: float = 30.0
    doubled: float = 0.0


@dataclass(eq=False)
class SimulatedExecutor:
    """The devices of a world, and the workers of one scheduler on them."""

    world: World
    process: Process
    """The scheduler's own."""
    paths: StorePaths
    devices: Sequence[Device]
    behaviour: Behaviour = field(default_factory=Behaviour)
    transport: Transport = field(default_factory=Transport)
    workers_outlive: bool = False
    """They are on other hosts: their locks are not seen here, and they end themselves when nobody hears them."""
    at_mail: Callable[[], None] = lambda: None
    """Called when there is something to hear."""
    workers: list[_Started] = field(default_factory=list)
    """Those that are alive, and whose end was not reported."""
    _mail: list[tuple[_Started, bytes]] = field(default_factory=list)
    """What has come, as it travels."""

    def __post_init__(self) -> None:
        self.process.at_death.append(self._orphan)

    @property
    def name(self) -> str:
        """Return what others are told of who has a device."""
        return f"{self.process.name} {self.process.pid}"

    @property
    def clock(self) -> Clock:
        """Return the world's time."""
        return self.world

    def lease(self, device: Device) -> str | None:
        """Take the device. Returns None, or who has it."""
        holder = self.world.leases.setdefault(device.id, self.name)
        return None if holder == self.name else holder

    def release(self, device: Device) -> None:
        """Leave the device to others."""
        if self.world.leases.get(device.id) == self.name:
            del self.world.leases[device.id]

    def refresh_leases(self) -> None:
        """Do nothing: a lease ends with its process."""

    def usage(self, device: Device) -> Usage:
        """Return nothing that is measured."""
        return Usage(memory_total=device.memory)

    def launch(self, number: int, device: Device) -> _Started:
        """Start a worker; raises OSError where the behaviour says so."""
        if self.behaviour.launch_fails(self.world):
            self.world.fault("worker not started")
            raise OSError(11, "Resource temporarily unavailable")
        started = _Started(self, number, device)
        self.workers.append(started)
        return started

    def wake_by(self, descriptor: int) -> None:
        """Do nothing: no signal reaches a simulated process so."""

    def wait(self, timeout: float) -> list[tuple[WorkerProcess, AnyMessage]]:
        """Return what workers have said; where nothing has come, let the world go on for so many seconds."""
        if timeout > 0:
            self.world.pass_time(self.world.now + timeout, lambda: bool(self._mail))
        mail, self._mail = self._mail, []
        found = ((worker, parse_message(line)) for worker, line in mail)
        return [(worker, message) for worker, message in found if message is not None]

    def close(self) -> None:
        """Kill the workers, and leave the devices."""
        self.at_mail = lambda: None
        for worker in self.workers:
            worker.told = True
            worker.process.kill()
        self.workers.clear()
        self._mail.clear()
        for device in self.devices:
            self.release(device)

    def deliver(self, worker: _Started, message: AnyMessage) -> None:
        """Bring what a worker says to the scheduler; of a worker whose end was told nothing more is heard."""
        if worker.told:
            return
        if isinstance(message, WorkerEnded):
            worker.told = True
            self.workers.remove(worker)
        self._mail.append((worker, encode(message)))
        self.at_mail()

    def travel(self, arrive: Callable[[], None]) -> None:
        """Let a message travel, which may be lost, late or doubled."""
        way, chance = self.transport, self.world.chance
        if chance.random() < way.lost:
            self.world.fault("message lost")
            return
        self.world.after(chance.uniform(0.0, way.delay), arrive)
        if chance.random() < way.doubled:
            self.world.fault("message doubled")
            self.world.after(chance.uniform(0.0, way.late_seconds), arrive)

    def delay(self) -> float:
        """Return how long a worker's messages are held up now, seconds; those behind it wait, too."""
        if self.world.chance.random() >= self.transport.late:
            return 0.0
        self.world.fault("message late")
        return self.world.chance.uniform(0.0, self.transport.late_seconds)

    def _orphan(self) -> None:
        """The scheduler is gone: its workers are killed, or notice it, and its leases end."""
        most = self.behaviour.ghost_seconds if self.workers_outlive else ORPHAN_SECONDS
        for worker in self.workers:
            self.world.after(self.world.chance.uniform(0.0, most), worker.process.kill)
        self.at_mail = lambda: None
        for device in self.devices:
            self.release(device)


class _Started:
    """A worker as its scheduler has it."""

    def __init__(self, executor: SimulatedExecutor, number: int, device: Device) -> None:
        world = executor.world
        self.number, self.device = number, device
        self.process = world.process("worker")
        self.process.disk.shows_locks = not executor.workers_outlive
        self.told = False
        """Its end was reported."""
        self._executor = executor
        self._clear = 0.0
        """When its last message has arrived: the next ones come after it."""
        self.worker = SimulatedWorker(
            executor.paths, self.process, device, executor.behaviour, self._say, self._vanish
        )
        self.process.at_death.append(self._died)

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    def send(self, command: AnyCommand) -> None:
        """Send it a command."""
        arrive = lambda: self.process.run(lambda: self.worker.carry_out(command))  # noqa: E731
        self._executor.travel(arrive)

    def end_input(self) -> None:
        """Let it end."""
        self._executor.world.after(0.0, lambda: self.worker.leave("ended with exit status 0", 0))

    def kill(self) -> None:
        """Kill it."""
        self._executor.world.after(0.0, lambda: self.worker.leave("killed by SIGKILL", -9))

    def cut_off(self) -> None:
        """Put its host out of reach, while it goes on."""
        self.process.run(self.worker.cut_off)

    def log_tail(self) -> str:
        """Return what it wrote to its log last."""
        return self.worker.log

    def _say(self, message: AnyMessage) -> None:
        world = self._executor.world
        self._clear = max(self._clear, world.now + self._executor.delay())
        wait = self._clear - world.now
        self._executor.travel(
            lambda: world.after(wait, lambda: self._executor.deliver(self, message))
        )

    def _died(self) -> None:
        """The kernel tells of every end, after what the worker has said."""
        world, worker = self._executor.world, self.worker
        ended = WorkerEnded(worker.status, worker.how, worker.log)
        wait = max(self._clear - world.now, 0.0) + self._executor.transport.delay
        world.after(wait, lambda: self._executor.deliver(self, ended))

    def _vanish(self) -> None:
        """Its host is out of reach: it counts as ended, though nobody saw it end."""
        ended = WorkerEnded(-1, "is out of reach", self.worker.log, certain=False)
        self._executor.deliver(self, ended)

"""The workers of a run: which of them gets a stage, what each has, and whether it still shows life."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors.base import Executor, WorkerProcess
from prunectl.scheduler.items import Workload
from prunectl.scheduler.timeouts import Timeouts
from prunectl.store.records.messages import (
    AnyCommand,
    AnyMessage,
    Beat,
    RunStage,
    StopWorker,
    WorkerEnded,
)

Flags = tuple[str, bool]
"""(precision, deterministic): process-wide in torch."""


@dataclass(eq=False)
class Worker:
    """A worker and its stages."""

    process: WorkerProcess
    device: Device
    heard: float
    """When it last gave a sign of life, on the monotonic clock."""
    started: float = 0.0
    """When it was started, on that clock, too."""
    flags: Flags | None = None
    """Fixed by its first stage."""
    workload: Workload | None = None
    """Of its last stage: what it has warm."""
    running: set[str] = field(default_factory=set)
    """Its stages."""
    progressed: float = 0.0
    """When its stages last got on; beats alone are no progress."""
    turns: int | None = None
    """Of its last beat: grows as its stages get on."""
    ready: bool = False
    retiring: bool = False
    """Takes no more stages and ends when it has none."""
    worn: bool = False
    """A stage of it ran out of memory, which leaves the rest in pieces: it ends when it has no stage. Until then it
    takes more, since a process beside it would need a CUDA context of its own, 0.5 GB of what is short."""
    proven: bool = False
    """A stage of it was done."""
    unfit: bool = False
    """It has lost its device, or has other code than the scheduler, and is being ended for that."""
    cause: str | None = None
    """Why the scheduler ended it."""
    _unsent: list[AnyCommand] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Return its number, which names its log."""
        return self.process.number

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    @property
    def free(self) -> int:
        """Return the slots without a stage."""
        return 0 if self.retiring else self.device.slots_per_worker - len(self.running)

    def run(self, command: RunStage, flags: Flags, workload: Workload, now: float) -> None:
        """Give it a stage, at the monotonic time `now`."""
        self.flags, self.workload = flags, workload
        self.running.add(command.key)
        self.heard = self.progressed = now
        self.send(command)

    def send(self, command: AnyCommand) -> None:
        """Send a command; kept until the worker is ready to read it."""
        if self.ready:
            self.process.send(command)
        else:
            self._unsent.append(command)

    def hear(self, message: AnyMessage, now: float) -> None:
        """Take a message as a sign of life; a beat only where stages get on, or load what they need before their first
        step."""
        beat = message if isinstance(message, Beat) else Beat()
        if beat.turns is None or beat.turns != self.turns:
            self.heard = self.progressed = now
        elif beat.preparing:
            self.heard = now
        self.turns = beat.turns

    def take_up(self) -> None:
        """It is ready: send what it was told so far."""
        self.ready = True
        unsent, self._unsent = self._unsent, []
        for command in unsent:
            self.process.send(command)

    def is_silent(self, now: float, timeouts: Timeouts) -> bool:
        """Return whether it has stages and showed no life, or for all its life no progress, for too long."""
        silence = now - self.heard > (timeouts.hang if self.ready else timeouts.start)
        standstill = self.ready and now - self.progressed > timeouts.prepare
        return bool(self.running) and (silence or standstill)

    def retire(self) -> None:
        """Let the worker end as soon as it has no stage, and take no more."""
        self.retiring = True
        self.retire_if_idle()

    def retire_if_idle(self) -> None:
        """Let the worker end if it has no stage."""
        if not self.running:
            self.retiring = True
            self.dismiss()

    def dismiss(self) -> None:
        """Let an idle worker end."""
        self.cause = self.cause or "retired"
        self.process.end_input()

    def kill(self, cause: str) -> None:
        """Kill it; it gets no more stages while it dies."""
        self.retiring = True
        self.cause = self.cause or cause
        self.process.kill()


class Workers:
    """The living workers of a run."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._of: dict[WorkerProcess, Worker] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._of.values()))

    def __len__(self) -> int:
        return len(self._of)

    def find(self, device: Device, flags: Flags, workload: Workload, *, fresh: bool) -> Worker:
        """Return a worker of the device with a free slot, started if need be. The caller has counted slots.

        A `fresh` worker has had no stage before; the device's idle ones end.

        Raises:
            OSError: where no process can be started.
            StoreError: where its log cannot be written.
        """
        if fresh:
            for idle in self._idle(device):
                idle.retire()
        return self._choose(device, flags, workload) or self._launch(device)

    def _on(self, device: str) -> list[Worker]:
        return [worker for worker in self if worker.device.id == device]

    def _idle(self, device: Device) -> list[Worker]:
        mine = self._on(device.id)
        return [worker for worker in mine if not worker.running and not worker.retiring]

    def _choose(self, device: Device, flags: Flags, workload: Workload) -> Worker | None:
        mine = self._on(device.id)
        fitting = [worker for worker in mine if worker.free and worker.flags in (None, flags)]
        if fitting:
            # One that has the workload warm saves seconds of loading and compiling; of others the busy one, so
            # that idle ones stay free for stages with other flags.
            return max(fitting, key=lambda each: (each.workload == workload, bool(each.running)))
        for idle in self._idle(device)[:1]:  # one with other flags makes room
            idle.retire()
        return None

    def holding(self, device: Device) -> int:
        """Return how many workers of a device with a worker for each slot hold memory and will go on to, those without
        a stage included; 0 for other devices."""
        mine = self._on(device.id) if device.slots_per_worker == 1 else []
        return sum(not worker.retiring for worker in mine)

    def retire_surplus(self, device: Device, most: int) -> None:
        """Let idle workers of a device with a worker for each slot end until `most` are left: they hold memory."""
        mine = [worker for worker in self._on(device.id) if not worker.retiring]
        if device.slots_per_worker == 1 and len(mine) > most:
            for idle in self._idle(device)[: len(mine) - most]:
                idle.retire()

    def _launch(self, device: Device) -> Worker:
        # Numbers are used again, for logs are named by them: a run with many crashes leaves few files.
        taken = {worker.number for worker in self}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        process = self._executor.launch(number, device)
        now = self._executor.clock.monotonic()
        self._of[process] = Worker(process, device, now, started=now)
        return self._of[process]

    def retire_device(self, device: str) -> bool:
        """Let all workers of a device end as soon as they have no stage. Returns whether any are left."""
        mine = self._on(device)
        for worker in mine:
            if not worker.retiring:
                worker.retire()
        return bool(mine)

    def wait(self, timeout: float) -> list[tuple[Worker, AnyMessage]]:
        """Return what workers have said, waiting at most `timeout` seconds for the first of it."""
        heard = []
        for process, message in self._executor.wait(timeout):
            worker = self._of[process]
            worker.hear(message, self._executor.clock.monotonic())
            if isinstance(message, WorkerEnded):
                del self._of[process]
            heard.append((worker, message))
        return heard

    def unresponsive(self, timeouts: Timeouts) -> list[Worker]:
        """Return workers that have stages and show no life or progress."""
        now = self._executor.clock.monotonic()
        return [worker for worker in self if worker.is_silent(now, timeouts)]

    def stop(self) -> None:
        """Ask every worker to checkpoint and end."""
        for worker in self:
            worker.retiring = True
            if worker.ready:
                worker.send(StopWorker())
            else:
                worker.kill("stopped before it was ready")  # it has done nothing yet
            if not worker.running:
                worker.dismiss()

    def kill(self, cause: str) -> None:
        """Kill every worker."""
        for worker in self:
            worker.kill(cause)

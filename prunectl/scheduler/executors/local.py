"""Worker processes on the devices of this host: started, listened to, and ended with certainty."""

from __future__ import annotations

import selectors
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prunectl.child import module_command
from prunectl.scheduler.devices.base import Device, DeviceLayer, Usage
from prunectl.scheduler.devices.locks import DeviceLocks
from prunectl.scheduler.devices.system import SystemLayer
from prunectl.scheduler.executors.base import Clock, SystemClock, WorkerProcess
from prunectl.scheduler.executors.local_process import LocalProcess
from prunectl.store.paths import StorePaths
from prunectl.store.records.messages import AnyMessage, WorkerEnded

WORKER = module_command("prunectl.worker")
POLL_SECONDS = 0.5
"""Between looks for workers that ended with their output still open in a process of theirs; the others are noticed
at once, by its end."""


@dataclass(eq=False)
class LocalExecutor:
    """The devices of this host, and the workers of a run on them. They die with the thread that starts them."""

    paths: StorePaths
    devices: Sequence[Device]
    data: Path | str = "data"
    """Folder of the data sets; passed on to the workers."""
    command: Sequence[str] = WORKER
    """Starts a worker; the options of the worker's command line are added to it."""
    checkpoint_every: float | None = None
    """Seconds between checkpoints inside stages; None for the worker's own."""
    layer: DeviceLayer = field(default_factory=SystemLayer)
    share: bool = False
    """Use devices that other schedulers have locked, too."""
    clock: Clock = field(default_factory=SystemClock)
    workers_outlive: bool = field(default=False, init=False)
    """The kernel kills them with the scheduler, and releases their locks only then."""
    _workers: list[LocalProcess] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _next_poll: float = 0.0

    def __post_init__(self) -> None:
        self._locks = None if self.share else DeviceLocks()

    def lease(self, device: Device) -> str | None:
        """Lock the device, unless devices are shared. Returns None, or who has it."""
        return None if self._locks is None else self._locks.acquire(device)

    def release(self, device: Device) -> None:
        """Unlock the device."""
        if self._locks is not None:
            self._locks.release(device)

    def refresh_leases(self) -> None:
        """Keep the lock files: systemd removes files of /tmp after 10 days by default."""
        if self._locks is not None:
            self._locks.refresh()

    def usage(self, device: Device) -> Usage:
        """Return how busy the device is."""
        return self.layer.usage(device)

    def launch(self, number: int, device: Device) -> LocalProcess:
        """Start a worker process that sees only the device; raises OSError where none can be started."""
        command = [*self.command, "--store", str(self.paths.root), "--data", str(self.data)]
        command += ["--device", device.kind, "--slots", str(device.slots_per_worker)]
        if self.checkpoint_every is not None:
            command += ["--checkpoint-every", f"{self.checkpoint_every:g}"]
        log = self.paths.logs / f"worker-{number}.log"
        environment = {**device.environment(), "PRUNECTL_SHARING": str(self._sharing)}
        worker = LocalProcess.start(number, command, log, environment)
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    @property
    def _sharing(self) -> int:
        """Return how many workers with a CUDA device share the cores of this host, where all have stages."""
        # Of `auto` one for each device: what reads many images fills a device alone.
        cuda = [device for device in self.devices if device.kind == "cuda"]
        return sum(1 if device.auto else device.most_workers for device in cuda)

    def wake_by(self, descriptor: int) -> None:
        """Let `wait` return when this descriptor is readable; the caller reads it."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def wait(self, timeout: float) -> list[tuple[WorkerProcess, AnyMessage]]:
        """Return what workers have said, waiting at most `timeout` seconds for the first of it."""
        heard: list[tuple[WorkerProcess, AnyMessage]] = []
        for key, _ in self._selector.select(timeout):
            if key.data is not None:
                heard += self._listen(key.data)
        now = self.clock.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + POLL_SECONDS
            for worker in self._workers[:]:
                if worker.has_ended:
                    heard += self._listen(worker)
        return heard

    def _listen(self, worker: LocalProcess) -> list[tuple[WorkerProcess, AnyMessage]]:
        messages, closed = worker.read()
        heard: list[tuple[WorkerProcess, AnyMessage]] = [(worker, each) for each in messages]
        if closed or worker.has_ended:
            heard.append((worker, self._bury(worker)))
        return heard

    def _bury(self, worker: LocalProcess) -> WorkerEnded:
        self._selector.unregister(worker.stdout)
        self._workers.remove(worker)
        return worker.reap()

    def close(self) -> None:
        """Leave no process behind, whatever happened, and unlock the devices."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers[:]:
            self._bury(worker)
        self._selector.close()
        self.layer.close()
        if self._locks is not None:
            self._locks.release_all()

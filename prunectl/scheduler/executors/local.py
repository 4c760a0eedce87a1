"""The worker processes of this host: started, given stages, listened to, and ended with certainty."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors.worker_process import WorkerProcess
from prunectl.scheduler.timeouts import Timeouts
from prunectl.store.records.messages import AnyMessage, RunStage, StopWorker, WorkerEnded

POLL_SECONDS = 0.5
"""Between looks for workers that ended with their output still open in a process of theirs; the others are noticed
at once, by its end."""


@dataclass(eq=False)
class WorkerPool:
    """The workers of a run."""

    command: Sequence[str]
    """Starts a worker; `--device` and `--slots` of the worker protocol are added to it."""
    logs: Path
    clock: Callable[[], float] = time.monotonic
    workers: list[WorkerProcess] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _next_poll: float = 0.0

    def wake_by(self, descriptor: int) -> None:
        """Let `wait` return when this descriptor is readable; the caller reads it."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def assign(
        self,
        device: Device,
        key: str,
        keep: Sequence[int],
        flags: tuple[str, bool],
        workload: object,
        *,
        fresh: bool = False,
    ) -> WorkerProcess:
        """Give a stage to a worker of the device, starting one if need be. The caller has counted slots.

        A `fresh` worker has had no stage before; the device's idle ones end.

        Raises:
            OSError: where no process can be started.
        """
        if fresh:
            for idle in self._idle(device):
                idle.retire()
        worker = self._choose(device, flags, workload) or self._start(device)
        worker.flags = flags
        worker.workload = workload
        worker.running.add(key)
        worker.heard = worker.progressed = self.clock()
        worker.send(RunStage(key, tuple(keep)))
        return worker

    def _on(self, device: str) -> list[WorkerProcess]:
        return [worker for worker in self.workers if worker.device.id == device]

    def _idle(self, device: Device) -> list[WorkerProcess]:
        mine = self._on(device.id)
        return [worker for worker in mine if not worker.running and not worker.retiring]

    def _choose(
        self, device: Device, flags: tuple[str, bool], workload: object
    ) -> WorkerProcess | None:
        mine = self._on(device.id)
        fitting = [worker for worker in mine if worker.free and worker.flags in (None, flags)]
        if fitting:
            # One that has the workload warm saves seconds of loading and compiling; of others the busy one, so
            # that idle ones stay free for stages with other flags.
            return max(fitting, key=lambda each: (each.workload == workload, bool(each.running)))
        for idle in self._idle(device)[:1]:  # one with other flags makes room
            idle.retire()
        return None

    def _start(self, device: Device) -> WorkerProcess:
        # Numbers are used again, for logs are named by them: a run with many crashes leaves few files.
        taken = {worker.number for worker in self.workers}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        command = [*self.command, "--device", device.kind, "--slots", str(device.slots_per_worker)]
        log = self.logs / f"worker-{number}.log"
        worker = WorkerProcess.start(number, device, command, log, self.clock())
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        self.workers.append(worker)
        return worker

    def retire_device(self, device: str) -> bool:
        """Let all workers of a device end as soon as they have no stage. Returns whether any are left."""
        mine = self._on(device)
        for worker in mine:
            if not worker.retiring:
                worker.retire()
        return bool(mine)

    def wait(self, timeout: float) -> list[tuple[WorkerProcess, AnyMessage]]:
        """Return what workers have said, waiting at most `timeout` seconds for the first of it."""
        heard: list[tuple[WorkerProcess, AnyMessage]] = []
        for key, _ in self._selector.select(timeout):
            if key.data is not None:
                heard += self._listen(key.data)
        if self.clock() >= self._next_poll:
            self._next_poll = self.clock() + POLL_SECONDS
            for worker in self.workers[:]:
                if worker.process.poll() is not None:
                    heard += self._listen(worker)
        return heard

    def _listen(self, worker: WorkerProcess) -> list[tuple[WorkerProcess, AnyMessage]]:
        messages, closed = worker.read(self.clock())
        heard: list[tuple[WorkerProcess, AnyMessage]] = [(worker, each) for each in messages]
        if closed or worker.process.returncode is not None:
            heard.append((worker, self._bury(worker)))
        return heard

    def _bury(self, worker: WorkerProcess) -> WorkerEnded:
        self._selector.unregister(worker.stdout)
        self.workers.remove(worker)
        return worker.reap()

    def unresponsive(self, timeouts: Timeouts) -> list[WorkerProcess]:
        """Return workers that have stages and show no life, or for all their life no progress, for too long."""
        now = self.clock()
        return [
            worker
            for worker in self.workers
            if worker.running
            and (
                now - worker.heard > (timeouts.hang if worker.ready else timeouts.start)
                or (worker.ready and now - worker.progressed > timeouts.prepare)
            )
        ]

    def stop(self) -> None:
        """Ask every worker to checkpoint and end."""
        for worker in self.workers:
            worker.retiring = True
            if worker.ready:
                worker.send(StopWorker())
            else:
                worker.kill("stopped before it was ready")  # it has done nothing yet
            if not worker.running:
                worker.dismiss()

    def kill(self, cause: str | None = None) -> None:
        """Kill every worker."""
        for worker in self.workers:
            worker.kill(cause)

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        self.kill("the scheduler ended")
        for worker in self.workers[:]:
            self._bury(worker)
        self._selector.close()

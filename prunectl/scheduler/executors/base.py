"""What the scheduler needs of the machines that do its work: devices, workers on them, messages, and the time.

The scheduler knows nothing else of them, so that they may be processes of this host (`local`), a simulated world
(`simulated`), or later jobs of a cluster. Which stage goes to which worker is decided above this seam, in
`scheduler.workers`, for it is the same everywhere: warm data, process-wide flags, slots.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from prunectl.scheduler.devices.base import Device, Usage
from prunectl.store.records.messages import AnyCommand, AnyMessage


class Clock(Protocol):
    """The only source of time of a scheduler."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""

    def time(self) -> float:
        """Return Unix seconds, as records have them."""


class SystemClock:
    """The time of this host."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    def time(self) -> float:
        """Return Unix seconds, as records have them."""
        return time.time()


class WorkerProcess(Protocol):
    """A worker that the executor has started."""

    @property
    def number(self) -> int:
        """Return what names it: no other living worker of the run has the number."""

    @property
    def pid(self) -> int:
        """Return its process id on its host."""

    def send(self, command: AnyCommand) -> None:
        """Send it a command. One that hangs or is dead gets nothing: that is found out by `Executor.wait`."""

    def end_input(self) -> None:
        """Let it end: an idle worker at once, a busy one drops what it does."""

    def kill(self) -> None:
        """End it now, with all that it started."""

    def log_tail(self) -> str:
        """Return the end of what it wrote to its log."""


class Executor(Protocol):
    """Where stages run. Used by one scheduler, once."""

    @property
    def clock(self) -> Clock:
        """Return the time that all of it goes by."""

    @property
    def workers_outlive(self) -> bool:
        """Return whether workers may go on where their scheduler was killed, as on a host that is out of reach."""

    @property
    def devices(self) -> Sequence[Device]:
        """Return the devices that the run may use where nobody else does."""

    def lease(self, device: Device) -> str | None:
        """Take the device for this scheduler, or keep it. Returns None, or who has it.

        Raises:
            StoreError: where that cannot be found out.
        """

    def release(self, device: Device) -> None:
        """Leave the device, whose workers have ended, to others."""

    def refresh_leases(self) -> None:
        """Renew what holds the devices; called every few seconds."""

    def usage(self, device: Device) -> Usage:
        """Return how busy the device is."""

    def launch(self, number: int, device: Device) -> WorkerProcess:
        """Start a worker that sees only the device. It says `Ready` when it takes commands.

        Raises:
            OSError: where none can be started.
            StoreError: where its log cannot be written.
        """

    def wake_by(self, descriptor: int) -> None:
        """Let `wait` return when this descriptor is readable; the caller reads it."""

    def wait(self, timeout: float) -> list[tuple[WorkerProcess, AnyMessage]]:
        """Return what workers have said, in the order of each, waiting at most `timeout` seconds for the first of it.

        `WorkerEnded` is the last of a worker, and comes of each that ends, however it ends.
        """

    def close(self) -> None:
        """Leave no worker behind, whatever happened, and no device taken."""

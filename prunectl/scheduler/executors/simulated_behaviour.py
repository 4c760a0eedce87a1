"""How the workers of a simulated world behave: as good ones do, or as somebody who makes trouble wants it."""

from __future__ import annotations

from typing import Literal

from prunectl.scheduler.devices.base import Device
from prunectl.scheduler.executors.simulated_world import Process, World

EPOCH_STEPS = 10

Fate = Literal[
    "normal", "exception", "oom", "nonfinite", "device", "crash", "hang", "deaf", "liar", "ghost"
]
"""What becomes of an attempt at a stage. `deaf` goes on when it is to leave; `liar` says done without a result;
`ghost` goes on while its host is out of reach."""


class Behaviour:
    """How workers behave: the most harmless way. A subclass makes trouble."""

    code = "made up"
    """What workers that start now have loaded."""
    epoch_steps = EPOCH_STEPS
    """Optimizer steps of an epoch."""
    boot_seconds = 3.0
    epoch_seconds = 5.0
    beat_seconds = 5.0
    ghost_seconds = 60.0
    """After which a worker that its scheduler cannot reach ends itself."""

    echo = 0.0
    """Chance that what was said of an attempt is said again when the same worker has the next one."""

    def launch_fails(self, world: World) -> bool:
        """Return whether no worker can be started now."""
        return False

    def stillborn(self, world: World, device: Device) -> bool:
        """Return whether a worker ends before it is ready."""
        return False

    def fate(self, world: World, key: str, attempt: int, device: Device) -> Fate:
        """Return what becomes of an attempt, in the midst of its epochs."""
        return "normal"

    def began(self, process: Process, key: str, attempt: int) -> None:
        """Learn that an attempt has begun."""

    def ended(self, process: Process, key: str, attempt: int) -> None:
        """Learn that an attempt is over, however."""

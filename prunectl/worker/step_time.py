"""How long a step of a workload takes on a CPU core; torch-free, `worker.time_steps` measures it."""

from __future__ import annotations

import msgspec

from prunectl.child import module_command

COMMAND = module_command("prunectl.worker.time_steps")


class StepTime(msgspec.Struct, frozen=True):
    """What a few steps took, in seconds."""

    step: float
    """An optimizer step."""
    evaluation: float
    """The test images once: a forward pass is a third of a step's work."""
    at_least: bool = False
    """The steps were not over in time."""

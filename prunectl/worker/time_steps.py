"""`python -m prunectl.worker.time_steps DATA`: times a few steps on one CPU core.

Reads a stage from stdin. Prints when the steps begin, in Unix seconds, and in the end the stage's `StepTime`. The
stage's own data, network and settings, from fresh weights: masks change nothing of the time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec

from prunectl.spec.stage import Stage
from prunectl.store.records.base import encode
from prunectl.worker.step_time import StepTime
from prunectl.worker.trainer_cache import TrainerCache

MOST_STEPS = 20
SECONDS = 3.0
"""After which no more steps are begun, once there are two; the first one warms up and is left out."""
FORWARD = 1 / 3
"""Of a step's work: the backward pass multiplies twice as much."""


def measure(stage: Stage, data: Path, begin: Callable[[], object]) -> StepTime:
    """Time some steps of the stage; `begin` is called before the first.

    Raises what a worker would raise that gets it: DataError, MemoryError, …
    """
    trainer = TrainerCache(data, "cpu").borrow(stage)
    trainer.initialise(stage.seed, stage.iteration)
    begin()
    times = [time.monotonic()]
    until = min(stage.steps, MOST_STEPS)
    for _ in trainer.train(stage.lr, stage.seeds, stage.iteration, until, yield_every=1):
        times.append(time.monotonic())
        if len(times) > 2 and times[-1] - times[1] > SECONDS:
            break
    taken = [after - before for before, after in pairwise(times)]
    step = median(taken[1:] or taken)
    images = len(trainer.images.test_targets)
    return StepTime(step, FORWARD * step * images / stage.train.batch)


def main() -> None:
    """Measure the stage of stdin."""
    stage = msgspec.json.decode(sys.stdin.buffer.read(), type=Stage)
    found = measure(stage, Path(sys.argv[1]), lambda: print(time.time(), flush=True))
    sys.stdout.write(encode(found).decode() + "\n")


if __name__ == "__main__":
    main()

"""Stages that share a worker's process, in turns as `worker.main` lets them; one that has no memory is begun again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from prunectl.ml.datasets.registry import describe
from prunectl.spec.key import stage_key
from prunectl.spec.lr_schedule import constant
from prunectl.spec.settings import (
    DataSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from prunectl.spec.stage import Stage
from prunectl.store.paths import StorePaths
from prunectl.worker.run import StageControl, run
from prunectl.worker.trainer_cache import TrainerCache
from tests.support.records import write_spec


def spec(network: str, seed: int, steps: int, precision: Any = "fp32") -> Stage:
    """Return a stage on the digits, evaluated every fourth step."""
    about = describe("digits", ())
    train = TrainSettings(
        batch=64,
        evaluate_every=4,
        precision=precision,
        optimizer=OptimizerSettings(nesterov=True),
        normalize=NormalizeSettings("channel", about.mean, about.std),
    )
    shape = NetworkSettings(network, (1, 8, 8), 10)
    data = DataSettings("digits", about.fingerprint)
    return Stage(shape, data, train, constant(0.05, steps), seed)


@dataclass
class Sharing:
    """One worker's stages."""

    paths: StorePaths
    trainers: TrainerCache
    failures: list[str] = field(default_factory=list)
    """What was said each time that memory lacked."""

    def begin(self, stage: Stage) -> Iterator[bool]:
        """Begin an attempt."""
        key = stage_key(stage)
        write_spec(self.paths, key, stage)
        return run(key, self.paths, self.trainers, StageControl(yield_every=2))

    def turn(self, steps: Iterator[bool]) -> bool:
        """Give a stage a turn. Returns whether it goes on."""
        try:
            next(steps)
        except StopIteration:
            return False
        return True

    def turns_with_retries(self, stage: Stage) -> Iterator[None]:
        """Begin a stage until it is done; a turn at a time."""
        steps = self.begin(stage)
        while True:
            try:
                if not self.turn(steps):
                    return
            except torch.OutOfMemoryError as error:
                self.failures.append(str(error))
                assert len(self.failures) < 5
                steps = self.begin(stage)
            yield

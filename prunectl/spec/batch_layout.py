"""How images fill batches and batches fill epochs. Free of torch, because plans count steps with it too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from prunectl.spec.settings import TrainSettings


class Layout:
    """Where each step's batch lies in the endless stream of training images, `count` of them per epoch.

    With `straddle` batches follow on each other at full size, across epoch borders; without, an epoch's last batch
    is short, or left out (`drop_last`). Raises ValueError where the images do not make one batch.
    """

    def __init__(self, settings: TrainSettings, count: int) -> None:
        self.count = count
        self.batch = settings.batch
        self.straddle = settings.straddle
        whole = settings.drop_last and not settings.straddle
        self._per_epoch = count // self.batch if whole else -(-count // self.batch)
        if count < 1 or self._per_epoch < 1:
            raise ValueError(f"{count} images make no batch of {self.batch}")

    @property
    def per_epoch(self) -> Fraction:
        """Steps in an epoch; a whole number unless batches straddle epochs."""
        return Fraction(self.count, self.batch) if self.straddle else Fraction(self._per_epoch)

    def steps(self, epochs: int | Fraction) -> int:
        """Return the steps in so many epochs, a part of a step counting as one: 182 epochs of 50,000 images in
        straddling batches of 128 are 71,094."""
        return math.ceil(epochs * self.per_epoch)

    def sizes(self, steps: int) -> tuple[int, ...]:
        """Return the sizes of the first `steps` batches, each once, that of the first batch first."""
        ends = (0, self._per_epoch - 1)
        return tuple(dict.fromkeys(self.stretch(step)[1] for step in ends if step < steps))

    def stretch(self, step: int) -> tuple[int, int]:
        """Return the first position in the stream, and number of images, of the batch of step number `step`."""
        if self.straddle:
            return step * self.batch, self.batch
        epoch, index = divmod(step, self._per_epoch)
        first = index * self.batch
        return epoch * self.count + first, min(self.batch, self.count - first)

    def parts(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Split the stretch `start` … `end` − 1 of the stream into (epoch, first, last), each within its epoch."""
        while start < end:
            epoch, first = divmod(start, self.count)
            last = min(self.count, first + end - start)
            yield epoch, first, last
            start += last - first


def passes(images: int, micro_batch: int) -> tuple[int, ...]:
    """Return how many images of a batch go through the network at a time: `micro_batch`, 0 for all of them, and what
    that leaves; each once."""
    size = min(images, micro_batch or images)
    left = images % size
    return (size, left) if left else (size,)

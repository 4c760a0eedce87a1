"""Which images a training draws, and how each of them is cropped and flipped.

The images drawn form one stream, epoch after epoch, each epoch in an order of its own, and a step's batch is a
stretch of it (`prunectl.spec.batch_layout`). All that is random is drawn on the host, so any step can be the first.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from prunectl.ml.randomness import Offsets, crop_draws, epoch_offsets, epoch_order
from prunectl.spec.batch_layout import Layout
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import TrainSettings


class SampleOrder:
    """The stream of one set of training images, for any seeds and iteration. Positions count from its beginning."""

    def __init__(self, settings: TrainSettings, count: int, device: torch.device) -> None:
        self.layout = Layout(settings, count)
        self.augmentation = settings.augment
        self.device = device
        # A batch may straddle two epochs.
        self._order = functools.lru_cache(maxsize=2)(epoch_order)
        self._offsets = functools.lru_cache(maxsize=2)(epoch_offsets)

    def indices(self, seeds: Seeds, iteration: int, start: int, end: int) -> Tensor:
        """Return the numbers of the images at positions `start` … `end` − 1: int64 [n], on the host."""
        parts = self.layout.parts(start, end)
        count = self.layout.count
        return torch.cat([self._order(seeds.order, iteration, e, count)[a:b] for e, a, b in parts])

    def offsets(self, seeds: Seeds, iteration: int, start: int, end: int) -> Offsets | None:
        """Return padding offsets and flips of the same images, on the device; None where there are none."""
        count, pad = self.layout.count, self.augmentation.pad
        if not (pad or self.augmentation.flip):
            return None
        drawn = []
        for epoch, first, last in self.layout.parts(start, end):
            offsets = self._offsets(seeds.augment, iteration, epoch, count, pad)
            drawn.append([part[first:last] for part in offsets])
        joined = map(torch.cat, zip(*drawn, strict=True))
        return Offsets(*(uploaded(part, self.device) for part in joined))

    def crops(self, seeds: Seeds, iteration: int, start: int, end: int) -> list[list[float]] | None:
        """Return what random resized crops of the same images take; None where there are none."""
        if self.augmentation.crop == "none":
            return None
        parts = self.layout.parts(start, end)
        return torch.cat([crop_draws(seeds.augment, iteration, *part) for part in parts]).tolist()


def uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device, without waiting for what it still has to do."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)

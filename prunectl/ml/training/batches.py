"""The batches of a stage: which images, in which order, cropped how.

The images drawn form one stream, epoch after epoch, each epoch in an order of its own, and a step's batch is a
stretch of it (`layout`). The stream is gathered and augmented a block at a time, into one buffer that stays where
it is; blocks never show in the result.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from prunectl.ml.randomness import Offsets, epoch_offsets, epoch_order
from prunectl.ml.training.augment import augment
from prunectl.spec.batch_layout import Layout
from prunectl.spec.settings import TrainSettings

HOST_BLOCK = 2 << 20
DEVICE_BLOCK = 256 << 20
"""Bytes gathered at once: within a CPU's cache; on a GPU, so that small data sets take one gather per epoch."""


class Batches:
    """Serves the batches of one set of training images on one device."""

    def __init__(self, images: Tensor, labels: Tensor, settings: TrainSettings) -> None:
        """`images` are uint8 [n, channels, height, width], stored channels last; `labels` int64 [n]."""
        self.layout = Layout(settings, len(labels))
        self.augmentation = settings.augment
        self.pixels = images.permute(0, 2, 3, 1)
        self.labels = labels
        size = max(1, self.pixels[0].numel())
        budget = HOST_BLOCK if images.device.type == "cpu" else DEVICE_BLOCK
        room = max(1, min(budget // size, self.layout.count) // settings.batch) * settings.batch
        self._pixels = self.pixels.new_empty((room, *self.pixels.shape[1:]))
        self._labels = self.labels.new_empty(room)
        self._held: tuple[int, int, int, int] = (0, 0, 0, 0)
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    def get(self, seed: int, iteration: int, step: int) -> tuple[Tensor, Tensor]:
        """Step `step`'s pixels, uint8 [batch, height, width, channels], and labels; valid until the next call."""
        first, size = self.layout.stretch(step)
        held_seed, held_iteration, start, end = self._held
        if (seed, iteration) != (held_seed, held_iteration) or not start <= first <= end - size:
            start, end = first, first + len(self._labels)
            self._fill(seed, iteration, start)
            self._held = (seed, iteration, start, end)
        place = slice(first - start, first - start + size)
        return self._pixels[place], self._labels[place]

    def _fill(self, seed: int, iteration: int, start: int) -> None:
        done = 0
        for epoch, first, last in self.layout.parts(start, start + len(self._labels)):
            order, offsets = self._epoch(seed, iteration, epoch)
            chosen = order[first:last]
            into = slice(done, done + last - first)
            torch.index_select(self.labels, 0, chosen, out=self._labels[into])
            if offsets is None:
                torch.index_select(self.pixels, 0, chosen, out=self._pixels[into])
            else:
                own = Offsets(*(part[first:last] for part in offsets))
                drawn = self.pixels.index_select(0, chosen)
                how = self.augmentation
                self._pixels[into] = augment(drawn, own, how.pad, how.padding, how.flip)
            done = into.stop

    def _draw_epoch(
        self, seed: int, iteration: int, epoch: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor] | None]:
        """An epoch's order and offsets, on the device."""
        count, device = self.layout.count, self.labels.device
        order = _uploaded(epoch_order(seed, iteration, epoch, count), device)
        if not (self.augmentation.pad or self.augmentation.flip):
            return order, None
        drawn = epoch_offsets(seed, iteration, epoch, count, self.augmentation.pad)
        parts = (drawn.down, drawn.right, drawn.flip)
        down, right, flip = (_uploaded(part, device) for part in parts)
        return order, (down, right, flip)


def _uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for what it still has to do."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)

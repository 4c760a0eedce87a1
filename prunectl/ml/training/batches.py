"""Batches of training images: here those that are in memory; `streamed_batches` reads the others as they are used.

The stream of images (`sample_order`) is gathered and augmented a block at a time, into one buffer that stays where
it is; blocks never show in the result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunectl.ml.datasets.images import Images, Streamed
from prunectl.ml.training.augment import augment
from prunectl.ml.training.sample_order import SampleOrder, uploaded
from prunectl.ml.training.streamed_batches import StreamedBatches
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import TrainSettings

HOST_BLOCK = 2 << 20
DEVICE_BLOCK = 16 << 20
"""Bytes gathered at once: within a CPU's cache; on a GPU so few that all slots have room for five times as much, which
augmenting takes meanwhile, and so many that its launches do not count (an epoch of CIFAR: ten times some thirty)."""


class Batches:
    """Serves the batches of one set of training images on one device."""

    def __init__(self, images: Tensor, targets: Tensor, settings: TrainSettings) -> None:
        """`images` are uint8 [n, channels, height, width], stored channels last; `targets` [n, …]."""
        self.order = SampleOrder(settings, len(targets), targets.device)
        self.layout = self.order.layout
        self.pixels = images.permute(0, 2, 3, 1)
        self.targets = targets
        size = max(1, self.pixels[0].numel())
        budget = HOST_BLOCK if images.device.type == "cpu" else DEVICE_BLOCK
        room = max(1, min(budget // size, self.layout.count) // settings.batch) * settings.batch
        self._pixels = self.pixels.new_empty((room, *self.pixels.shape[1:]))
        self._targets = self.targets.new_empty((room, *self.targets.shape[1:]))
        self._held: tuple[Seeds, int, int, int] = (Seeds.of(0), 0, 0, 0)

    def get(self, seeds: Seeds, iteration: int, step: int) -> tuple[Tensor, Tensor]:
        """Return step `step`'s pixels, uint8 [batch, height, width, channels], and targets, on the device.

        They are valid until the next call.
        """
        first, size = self.layout.stretch(step)
        held_seeds, held_iteration, start, end = self._held
        if (seeds, iteration) != (held_seeds, held_iteration) or not start <= first <= end - size:
            start, end = first, first + len(self._targets)
            self._fill(seeds, iteration, start, end)
            self._held = (seeds, iteration, start, end)
        place = slice(first - start, first - start + size)
        return self._pixels[place], self._targets[place]

    def _fill(self, seeds: Seeds, iteration: int, start: int, end: int) -> None:
        chosen = uploaded(self.order.indices(seeds, iteration, start, end), self.targets.device)
        torch.index_select(self.targets, 0, chosen, out=self._targets)
        offsets = self.order.offsets(seeds, iteration, start, end)
        if offsets is None:
            torch.index_select(self.pixels, 0, chosen, out=self._pixels)
        else:
            how = self.order.augmentation
            pixels = self.pixels.index_select(0, chosen)
            self._pixels.copy_(augment(pixels, offsets, how.pad, how.padding, how.flip))


def open_source(images: Images | Streamed, settings: TrainSettings) -> Batches | StreamedBatches:
    """Return the batches of images that are on the training's device.

    Random resized crops are of images that differ in size, so they are made on the host, from files or from memory,
    whatever is held on the device.
    """
    if isinstance(images, Images) and settings.augment.crop == "none":
        return Batches(images.train_images, images.train_targets, settings)
    source = images.crop_source
    if isinstance(source, Tensor):
        source = source.cpu()
    return StreamedBatches(source, images.train_targets, images.loader, settings)

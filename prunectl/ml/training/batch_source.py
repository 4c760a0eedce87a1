"""Where the batches of a training come from: memory, or files that are read as they are used."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from prunectl.ml.datasets.image_files import HeldPictures
from prunectl.ml.datasets.images import Images
from prunectl.ml.datasets.streamed import Streamed
from prunectl.ml.training.batches import Batches
from prunectl.ml.training.streamed_batches import StreamedBatches
from prunectl.spec.batch_layout import Layout
from prunectl.spec.settings import TrainSettings


class Source(Protocol):
    """What the trainer asks of its training images."""

    layout: Layout

    def get(self, seed: int, iteration: int, step: int) -> tuple[Tensor, Tensor]:
        """Step `step`'s pixels, uint8 [batch, height, width, channels], and labels, on the device."""
        ...


def open_source(images: Images | Streamed, settings: TrainSettings) -> Source:
    """The batches of images that are on the training's device.

    Random parts of pictures differ in size, so they are cut from files or from memory on the host, whatever is held
    on the device.
    """
    if isinstance(images, Streamed):
        return StreamedBatches(images.train, images.train_labels, images.loader, settings)
    if settings.augment.crop == "none":
        return Batches(images.train_images, images.train_labels, settings)
    pictures = images.originals or HeldPictures(images.train_images.cpu())
    return StreamedBatches(pictures, images.train_labels, images.loader, settings)

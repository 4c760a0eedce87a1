"""Where the batches of a training come from: memory, or files that are read as they are used."""

from __future__ import annotations

from torch import Tensor

from prunectl.ml.datasets.images import Images, Streamed
from prunectl.ml.training.batches import Batches
from prunectl.ml.training.streamed_batches import StreamedBatches
from prunectl.spec.settings import TrainSettings

BatchSource = Batches | StreamedBatches


def open_source(images: Images | Streamed, settings: TrainSettings) -> BatchSource:
    """Return the batches of images that are on the training's device.

    Random resized crops are of images that differ in size, so they are made on the host, from files or from memory,
    whatever is held on the device.
    """
    if isinstance(images, Images) and settings.augment.crop == "none":
        return Batches(images.train_images, images.train_labels, settings)
    source = images.crop_source
    if isinstance(source, Tensor):
        source = source.cpu()
    return StreamedBatches(source, images.train_labels, images.loader, settings)

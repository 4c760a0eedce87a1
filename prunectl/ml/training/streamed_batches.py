"""Batches of training images that are read as they are used.

The same stream of images as `batches` serves, in the same order, with the same crops and flips, and to the bit.
Each sample is sent to the loading processes with the random draws of its own, so nothing depends on how many there
are, and any step can be the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from prunectl.ml.datasets.image_files import Sample
from prunectl.ml.datasets.listing import ImageFiles
from prunectl.ml.datasets.read_ahead import ImageLoader
from prunectl.ml.training.augment import augment
from prunectl.ml.training.sample_order import SampleOrder, uploaded
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import TrainSettings


class StreamedBatches:
    """Serves the batches of one set of training images to one device."""

    def __init__(
        self,
        images: Tensor | ImageFiles,
        targets: Tensor,
        loader: ImageLoader,
        settings: TrainSettings,
    ) -> None:
        """`images` are files, or uint8 [n, channels, height, width] on the host; `targets` [n, …], on the
        device."""
        self.order = SampleOrder(settings, len(targets), targets.device)
        self.layout = self.order.layout
        self.images = images
        self.targets = targets
        self.loader = loader
        self._stream: Iterator[Tensor] = iter(())
        self._next: tuple[int | Seeds, ...] = ()
        """Loader's turn, seeds, iteration and step of what `_stream` yields next."""

    def get(self, seeds: Seeds, iteration: int, step: int) -> tuple[Tensor, Tensor]:
        """Return step `step`'s pixels, uint8 [batch, height, width, channels], and targets, on the device.

        Raises DataError for an image that cannot be read.
        """
        if self._next != (self.loader.turn, seeds, iteration, step):
            self._stream = self.loader.stream(self._samples(seeds, iteration, step))
        # After an error the stream is over, and the next call begins another.
        self._next = ()
        pixels = next(self._stream)
        self._next = (self.loader.turn, seeds, iteration, step + 1)
        first, size = self.layout.stretch(step)
        stretch = (seeds, iteration, first, first + size)
        offsets = self.order.offsets(*stretch)
        if offsets is not None:
            how = self.order.augmentation
            pixels = augment(pixels, offsets, how.pad, how.padding, how.flip)
        chosen = uploaded(self.order.indices(*stretch), self.targets.device)
        return pixels, self.targets.index_select(0, chosen)

    def _samples(self, seeds: Seeds, iteration: int, step: int) -> Iterator[list[Sample]]:
        """Yield each step's samples, from `step` on, without end."""
        how = self.order.augmentation
        while True:
            first, size = self.layout.stretch(step)
            stretch = (seeds, iteration, first, first + size)
            images = [self._image(index) for index in self.order.indices(*stretch).tolist()]
            crops = self.order.crops(*stretch)
            if crops is None:
                yield [Sample(image) for image in images]
            else:
                drawn = zip(images, crops, strict=True)
                yield [Sample(image, draws, how.scale, how.ratio) for image, draws in drawn]
            step += 1

    def _image(self, index: int) -> str | NDArray[Any]:
        image = self.images[index]
        return image.contiguous().numpy() if isinstance(image, Tensor) else image

"""Batches of training images that are read as they are used.

The same stream of images as `batches` serves, in the same order and with the same crops and flips: where an image
has no random part, the same bits. What is random is drawn here, on the host, and sent along with the requests; so
nothing depends on how many processes read ahead, and any step can be the first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from prunectl.ml.datasets.image_files import Pictures, Request
from prunectl.ml.datasets.read_ahead import Loader, Stream
from prunectl.ml.datasets.streamed import fill
from prunectl.ml.randomness import Offsets, crop_draws, epoch_offsets, epoch_order
from prunectl.ml.training.augment import augment
from prunectl.spec.batch_layout import Layout
from prunectl.spec.settings import TrainSettings

Place = tuple[int, int, int]
"""Seed, iteration, step."""


class StreamedBatches:
    """Serves the batches of one set of training pictures to one device."""

    def __init__(
        self, pictures: Pictures, labels: Tensor, loader: Loader, settings: TrainSettings
    ) -> None:
        """`labels` are int64 [n], on the device that the images are for."""
        self.layout = Layout(settings, len(labels))
        self.augmentation = settings.augment
        self.pictures = pictures
        self.labels = labels
        self.loader = loader
        channels, height, width = loader.view.shape
        shape = (settings.batch, height, width, channels)
        self._pixels = torch.empty(shape, dtype=torch.uint8, device=labels.device)
        self._staged = _Staging(shape) if labels.device.type == "cuda" else None
        self._stream: Stream | None = None
        self._next: Place | None = None
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    def get(self, seed: int, iteration: int, step: int) -> tuple[Tensor, Tensor]:
        """Step `step`'s pixels, uint8 [batch, height, width, channels], and labels; valid until the next call.

        Raises DataError for a picture that cannot be read.
        """
        place = (seed, iteration, step)
        if self._stream is None or not self._stream.live or self._next != place:
            self._stream = self.loader.begin(self._requests(place))
        self._next = None
        first, size = self.layout.stretch(step)
        pixels = self._pixels[:size]
        if self._staged is None:
            fill(pixels, self._stream)
        else:
            self._staged.fill(pixels, self._stream)
        self._next = (seed, iteration, step + 1)
        return self._finished(pixels, seed, iteration, first)

    def _finished(
        self, pixels: Tensor, seed: int, iteration: int, start: int
    ) -> tuple[Tensor, Tensor]:
        """Crops and flips of the images from `start` in the stream on, and their labels."""
        how = self.augmentation
        chosen, offsets = [], []
        for epoch, first, last in self.layout.parts(start, start + len(pixels)):
            _, order, drawn = self._epoch(seed, iteration, epoch)
            chosen.append(order[first:last])
            offsets.append([part[first:last] for part in drawn])
        if how.flip or how.pad:
            own = Offsets(*(torch.cat(parts) for parts in zip(*offsets, strict=True)))
            pixels = augment(pixels, own, how.pad, how.padding, how.flip)
        return pixels, self.labels.index_select(0, torch.cat(chosen))

    def _requests(self, place: Place) -> Iterator[Request]:
        """Endless, from the first image of a step on. No request crosses from one step into another."""
        seed, iteration, step = place
        how = self.augmentation
        while True:
            first, size = self.layout.stretch(step)
            for start in range(first, first + size, self.loader.per_request):
                end = min(first + size, start + self.loader.per_request)
                references, draws = [], []
                for epoch, begin, last in self.layout.parts(start, end):
                    order, *_ = self._epoch(seed, iteration, epoch)
                    references += [self.pictures.reference(i) for i in order[begin:last].tolist()]
                    if how.crop == "random-resized":
                        draws.append(crop_draws(seed, iteration, epoch, begin, last))
                rows = torch.cat(draws).numpy() if draws else None
                yield Request(references, rows, how.scale, how.ratio)
            step += 1

    def _draw_epoch(
        self, seed: int, iteration: int, epoch: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """An epoch's order, on the host and on the device, and its offsets, on the device."""
        count, device = self.layout.count, self.labels.device
        order = epoch_order(seed, iteration, epoch, count)
        drawn = epoch_offsets(seed, iteration, epoch, count, self.augmentation.pad)
        there = (drawn.down.to(device), drawn.right.to(device), drawn.flip.to(device))
        return order, order.to(device), there


class _Staging:
    """Two pinned batches by turns, so that one is copied to the device while the next is gathered.

    A third would only let the host run further ahead of the device.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._turns = [
            (torch.empty(shape, dtype=torch.uint8, pin_memory=True), torch.cuda.Event())  # type: ignore[no-untyped-call]
            for _ in range(2)
        ]

    def fill(self, pixels: Tensor, stream: Stream) -> None:
        """As `streamed.fill`, for a tensor on the device; waits until the copy before last is done."""
        host, copied = self._turns[0]
        self._turns.reverse()
        copied.synchronize()
        fill(host[: len(pixels)], stream)
        pixels.copy_(host[: len(pixels)], non_blocking=True)
        copied.record()

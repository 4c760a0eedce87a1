"""A data set that is not held in memory: labels and pictures' places are, images are read when they are used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from prunectl.ml.datasets.image_files import Pictures, Request
from prunectl.ml.datasets.listing import View
from prunectl.ml.datasets.read_ahead import Loader, Stream, processes
from prunectl.spec.settings import Shape


@dataclass(frozen=True, eq=False)
class Streamed:
    """As `Images`, with pictures in the place of pixels. Labels are int64 [count], on the device it is `on`."""

    train: Pictures
    train_labels: Tensor
    test: Pictures
    test_labels: Tensor
    classes: int
    view: View
    validation: Pictures | None = None
    validation_labels: Tensor | None = None
    _on: dict[str, Streamed] = field(default_factory=dict, repr=False, init=False)
    _loaders: list[Loader] = field(default_factory=list, repr=False, init=False)

    @property
    def shape(self) -> Shape:
        """Channels, height, width of an image."""
        return self.view.shape

    @property
    def loader(self) -> Loader:
        """What reads the images for this device; one, however many trainings share it."""
        if not self._loaders:
            self._loaders.append(Loader(self.view, processes(self.train_labels.device)))
        return self._loaders[0]

    def on(self, device: str | torch.device) -> Streamed:
        """The same data for a device, its labels copied there once however many trainings share them."""
        device = torch.device(device)
        if device == self.train_labels.device:
            return self
        if str(device) not in self._on:
            held = self.validation_labels
            self._on[str(device)] = Streamed(
                self.train,
                self.train_labels.to(device),
                self.test,
                self.test_labels.to(device),
                self.classes,
                self.view,
                self.validation,
                None if held is None else held.to(device),
            )
        return self._on[str(device)]

    def parts(
        self, split: Literal["test", "validation"], size: int
    ) -> Iterator[tuple[Tensor, Tensor]] | None:
        """A split's images, uint8 [n, height, width, channels], and labels, `size` at a time; None where there is
        no such split."""
        pictures, labels = self.test, self.test_labels
        if split == "validation":
            if self.validation is None or self.validation_labels is None:
                return None
            pictures, labels = self.validation, self.validation_labels
        return self._parts(pictures, labels, size)

    def _parts(
        self, pictures: Pictures, labels: Tensor, size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        starts = range(0, len(labels), size)
        stream = self.loader.begin(
            request
            for start in starts
            for request in self._requests(pictures, start, min(len(labels), start + size))
        )
        channels, height, width = self.shape
        for start in starts:
            wanted = labels[start : start + size]
            pixels = torch.empty((len(wanted), height, width, channels), dtype=torch.uint8)
            fill(pixels, stream)
            yield pixels.to(labels.device), wanted

    def _requests(self, pictures: Pictures, start: int, end: int) -> Iterator[Request]:
        for first in range(start, end, self.loader.per_request):
            last = min(end, first + self.loader.per_request)
            yield Request([pictures.reference(index) for index in range(first, last)])


def fill(pixels: Tensor, stream: Stream) -> None:
    """Take as many images from the stream as there is room for; they end where a request ends."""
    done = 0
    while done < len(pixels):
        images = stream.take()
        pixels[done : done + len(images)] = images
        done += len(images)

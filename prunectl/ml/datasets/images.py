"""A data set in memory, as tensors, or to be streamed; with its validation split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunectl.errors import DataError
from prunectl.ml.datasets import folder
from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder, Progress, data_root
from prunectl.ml.datasets.image_files import PictureFiles, Pictures, hold
from prunectl.ml.datasets.known_folders import recall
from prunectl.ml.datasets.listing import Files, Listing, View
from prunectl.ml.datasets.read_ahead import Loader, processes
from prunectl.ml.datasets.registry import complete, find
from prunectl.ml.datasets.streamed import Streamed
from prunectl.ml.randomness import generator
from prunectl.spec.settings import DataSettings, Shape

HELD_BYTES = 2 << 30
"""Pictures of files are held in memory where their images are no more than this, unless told otherwise."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images are uint8 [count, channels, height, width], stored with the channels last; labels int64 [count]."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    validation_images: Tensor | None = None
    validation_labels: Tensor | None = None
    originals: Pictures | None = None
    """The training pictures as their files have them, where these are more than the images."""
    view: View | None = None
    """How the images were made from pictures, where they were."""
    _on: dict[str, Images] = field(default_factory=dict, repr=False, init=False)
    _loaders: list[Loader] = field(default_factory=list, repr=False, init=False)

    @property
    def shape(self) -> Shape:
        """Channels, height, width of an image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def loader(self) -> Loader:
        """What cuts random parts out of the pictures; one, however many trainings share it."""
        if not self._loaders:
            count = processes(self.train_labels.device)
            self._loaders.append(Loader(self.view or View(self.shape), count))
        return self._loaders[0]

    def parts(
        self, split: Literal["test", "validation"], size: int
    ) -> Iterator[tuple[Tensor, Tensor]] | None:
        """A split's images, uint8 [n, height, width, channels], and labels, `size` at a time; None where there is
        no such split."""
        images, labels = self.test_images, self.test_labels
        if split == "validation":
            if self.validation_images is None or self.validation_labels is None:
                return None
            images, labels = self.validation_images, self.validation_labels
        pixels = images.permute(0, 2, 3, 1)
        starts = range(0, len(labels), size)
        return ((pixels[start : start + size], labels[start : start + size]) for start in starts)

    def on(self, device: str | torch.device) -> Images:
        """The same images on a device, copied there once however many trainings share them."""
        device = torch.device(device)
        if device == self.train_images.device:
            return self
        if str(device) not in self._on:
            self._on[str(device)] = Images(
                self.train_images.to(device),
                self.train_labels.to(device),
                self.test_images.to(device),
                self.test_labels.to(device),
                self.classes,
                None if self.validation_images is None else self.validation_images.to(device),
                None if self.validation_labels is None else self.validation_labels.to(device),
                self.originals,
                self.view,
            )
        return self._on[str(device)]


def load(
    settings: DataSettings,
    root: Path | None = None,
    progress: Progress | None = None,
    *,
    download: bool = True,
) -> Images | Streamed:
    """Read a data set from `root` (default: `data_root()`), downloading what is missing where that is possible.

    Pictures in files are read now if their images fit `HELD_BYTES`, and whenever they are used if not.
    Raises DataError where files are missing or not what they should be, in one line that names them.
    """
    place = data_root(root)
    entry = find(settings.name)
    options = complete(
        settings.name,
        (recall(place, settings.fingerprint) if entry.local else {}) | dict(settings.options),
    )
    finder = Finder(settings.name, place, download, progress)
    description = entry.description
    if description is None and not entry.local:
        description = entry.implementation().describe(options)
    if description is not None:
        _check_fingerprint(settings, description.fingerprint)
    content: Arrays | Listing = entry.implementation().read(finder, options)
    if description is None:
        assert isinstance(content, Listing)
        description = folder.described(content)
        _check_fingerprint(settings, description.fingerprint)
    content.check(settings.name, description)
    if isinstance(content, Arrays):
        return hold_out(content, description.classes, settings)
    return _of_files(content, settings)


def _check_fingerprint(settings: DataSettings, found: str) -> None:
    if settings.fingerprint != found:
        raise DataError(
            f"{settings.name}: the data now has the fingerprint {found}, not {settings.fingerprint}"
        )


def hold_out(arrays: Arrays, classes: int, settings: DataSettings) -> Images:
    """Tensors of the arrays, with the validation images taken from where the settings say.

    Which images are held out depends on the data set's name and on the counts alone, so it is the same for all
    trials; both parts keep their order. Raises DataError where nothing would be left.
    """
    train = _tensors(arrays.train_images, arrays.train_labels)
    test = _tensors(arrays.test_images, arrays.test_labels)
    return _divided(*train, *test, classes, settings)


def _divided(
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    classes: int,
    settings: DataSettings,
    originals: Pictures | None = None,
    view: View | None = None,
) -> Images:
    train, test = (train_images, train_labels), (test_images, test_labels)
    source = train if settings.validation_from == "train" else test
    parts = _parts(settings, len(source[1]))
    if parts is None:
        return Images(*train, *test, classes, originals=originals, view=view)
    held, kept = parts
    validation = (_channels_last(source[0][held]), source[1][held])
    rest = (_channels_last(source[0][kept]), source[1][kept])
    if settings.validation_from == "test":
        return Images(*train, *rest, classes, *validation, originals=originals, view=view)
    if originals is not None:
        originals = originals.select(kept)
    return Images(*rest, *test, classes, *validation, originals=originals, view=view)


def _parts(settings: DataSettings, total: int) -> tuple[Tensor, Tensor] | None:
    """Numbers of the images held out of `total`, and of the others; None where none are."""
    if settings.validation_from == "none" or settings.validation_count == 0:
        return None
    count = settings.validation_count
    if not 0 < count < total:
        raise DataError(f"{settings.name}: {count} of {total} images held out for validation")
    purpose = ("validation", settings.name, settings.validation_from, count)
    order = torch.randperm(total, generator=generator(0, *purpose))
    return order[:count].sort().values, order[count:].sort().values


def _of_files(listing: Listing, settings: DataSettings) -> Images | Streamed:
    """Held in memory or streamed, as the listing says, or by size: which of them changes no number."""
    train, train_labels = _pictures(listing, listing.train)
    test, test_labels = _pictures(listing, listing.test)
    channels, height, width = listing.view.shape
    size = (len(train) + len(test)) * channels * height * width
    classes = len(listing.classes)
    if listing.held == "always" or (listing.held == "auto" and size <= HELD_BYTES):
        with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as threads:
            images = [hold(pictures, listing.view, threads.map) for pictures in (train, test)]
        held = (images[0], train_labels, images[1], test_labels)
        return _divided(*held, classes, settings, train, listing.view)
    from_train = settings.validation_from == "train"
    source, labels = (train, train_labels) if from_train else (test, test_labels)
    parts = _parts(settings, len(labels))
    if parts is None:
        return Streamed(train, train_labels, test, test_labels, classes, listing.view)
    out, kept = parts
    validation = (source.select(out), labels[out])
    rest = (source.select(kept), labels[kept])
    if from_train:
        return Streamed(*rest, test, test_labels, classes, listing.view, *validation)
    return Streamed(train, train_labels, *rest, classes, listing.view, *validation)


def _pictures(listing: Listing, files: Files) -> tuple[PictureFiles, Tensor]:
    return PictureFiles(str(listing.root), files.names), torch.tensor(files.labels)


def _tensors(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Copies, because what was read may be read-only memory."""
    pixels = torch.from_numpy(np.array(images, order="C", copy=True))
    return pixels.permute(0, 3, 1, 2), torch.from_numpy(labels.astype(np.int64))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)

"""A data set in memory, as tensors, with its validation split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunectl.core.datasets.arrays import Arrays
from prunectl.core.datasets.files import Finder, Progress, data_root
from prunectl.core.datasets.registry import complete, describe, find
from prunectl.core.randomness import generator
from prunectl.core.settings import DataSettings
from prunectl.errors import DataError


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
    _on: dict[str, Images] = field(default_factory=dict, repr=False, init=False)

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
            )
        return self._on[str(device)]


def load(
    settings: DataSettings,
    root: Path | None = None,
    progress: Progress | None = None,
    *,
    download: bool = True,
) -> Images:
    """Read a data set from `root` (default: `data_root()`), downloading what is missing where that is possible.

    Raises DataError where files are missing or not what they should be, in one line that names them.
    """
    description = describe(settings.name, settings.options)
    if settings.fingerprint != description.fingerprint:
        raise DataError(
            f"{settings.name}: the data now has the fingerprint {description.fingerprint}, "
            f"not {settings.fingerprint}"
        )
    finder = Finder(settings.name, data_root(root), download, progress)
    entry = find(settings.name)
    arrays: Arrays = entry.implementation().read(finder, complete(settings.name, settings.options))
    arrays.check(settings.name, description)
    return hold_out(arrays, description.classes, settings)


def hold_out(arrays: Arrays, classes: int, settings: DataSettings) -> Images:
    """Tensors of the arrays, with the validation images taken from where the settings say.

    Which images are held out depends on the data set's name and on the counts alone, so it is the same for all
    trials; both parts keep their order. Raises DataError where nothing would be left.
    """
    train = _tensors(arrays.train_images, arrays.train_labels)
    test = _tensors(arrays.test_images, arrays.test_labels)
    if settings.validation_from == "none" or settings.validation_count == 0:
        return Images(*train, *test, classes)
    source = train if settings.validation_from == "train" else test
    total, count = len(source[1]), settings.validation_count
    if not 0 < count < total:
        raise DataError(f"{settings.name}: {count} of {total} images held out for validation")
    purpose = ("validation", settings.name, settings.validation_from, count)
    order = torch.randperm(total, generator=generator(0, *purpose))
    held, kept = order[:count].sort().values, order[count:].sort().values
    validation = tuple(tensor[held] for tensor in source)
    rest = (_channels_last(source[0][kept]), source[1][kept])
    if settings.validation_from == "train":
        return Images(*rest, *test, classes, _channels_last(validation[0]), validation[1])
    return Images(*train, *rest, classes, _channels_last(validation[0]), validation[1])


def _tensors(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Copies, because what was read may be read-only memory."""
    pixels = torch.from_numpy(np.array(images, order="C", copy=True))
    return pixels.permute(0, 3, 1, 2), torch.from_numpy(labels.astype(np.int64))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)

"""A data set in memory as tensors, or as files to be streamed; with its validation split."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunectl.errors import DataError
from prunectl.ml.datasets.arrays import Arrays, check_targets
from prunectl.ml.datasets.files import Finder, Progress, data_root
from prunectl.ml.datasets.image_files import Sample, read_all
from prunectl.ml.datasets.known_folders import load_options
from prunectl.ml.datasets.listing import ImageFiles, ImageFolder, Preprocessing
from prunectl.ml.datasets.read_ahead import ImageLoader
from prunectl.ml.datasets.registry import Description, complete, describe, find
from prunectl.ml.randomness import generator
from prunectl.ml.tasks import registry as tasks
from prunectl.spec.settings import DataSettings, Shape


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Images and targets of a data set's splits.

    Targets are what the task declares (`ml.tasks.registry.Targets`), int64 [count] of classification, on the device
    that `on` names.
    """

    train_images: Tensor | ImageFiles
    train_targets: Tensor
    test_images: Tensor | ImageFiles
    test_targets: Tensor
    classes: int
    """Outputs of a network."""
    validation_images: Tensor | ImageFiles | None = None
    validation_targets: Tensor | None = None
    train_files: ImageFiles | None = None
    """The files of training images that are in memory, where they come from files."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """As of `Arrays` and `ImageFolder`."""
    _on: dict[torch.device, Self] = field(default_factory=dict, repr=False, init=False)

    @property
    def shape(self) -> Shape:
        """Channels, height, width of an image."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    @property
    def crop_source(self) -> Tensor | ImageFiles:
        """What random resized crops are taken from: the training images' files where there are any."""
        return self.train_images if self.train_files is None else self.train_files

    @functools.cached_property
    def loader(self) -> ImageLoader:
        """What reads image files and makes random resized crops; one, however many trainings share it."""
        source = self.crop_source
        if isinstance(source, ImageFiles):
            return ImageLoader(source.preprocessing, self.train_targets.device)
        return ImageLoader(Preprocessing(self.shape), self.train_targets.device)

    def on(self, device: str | torch.device) -> Self:
        """Return the same data on a device, copied there once however many trainings share it."""
        device = torch.device(device)
        if device == self.train_targets.device:
            return self
        if device not in self._on:
            tensors = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
            moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items()}
            self._on[device] = replace(self, **moved)
        return self._on[device]

    def parts(
        self, split: Literal["test", "validation"], size: int
    ) -> Iterator[tuple[Tensor, Tensor]] | None:
        """Return an iterator over a split's images, uint8 [n, height, width, channels], and targets.

        `size` images at a time; None where there is no such split.
        """
        images, targets = self.test_images, self.test_targets
        if split == "validation":
            if self.validation_images is None or self.validation_targets is None:
                return None
            images, targets = self.validation_images, self.validation_targets
        return zip(self._batches(images, size), torch.split(targets, size), strict=True)

    def _batches(self, images: Tensor | ImageFiles, size: int) -> Iterator[Tensor]:
        if isinstance(images, Tensor):
            return iter(torch.split(images.permute(0, 2, 3, 1), size))
        starts = range(0, len(images), size)
        return self.loader.stream(
            [Sample(images[index]) for index in range(start, min(len(images), start + size))]
            for start in starts
        )


@dataclass(frozen=True, eq=False)
class Images(ImageSplits):
    """Images in memory, uint8 [count, channels, height, width], stored channels last, on the targets' device."""

    train_images: Tensor
    test_images: Tensor
    validation_images: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Streamed(ImageSplits):
    """Images in files, which are read whenever they are used."""

    train_images: ImageFiles
    test_images: ImageFiles
    validation_images: ImageFiles | None = None


def load(
    settings: DataSettings,
    root: Path | None = None,
    progress: Progress | None = None,
    *,
    download: bool = True,
) -> Images | Streamed:
    """Read a data set from `root` (default: `data_root()`), downloading what is missing where that is possible.

    Image files are read now if their images are to be held (`ImageFolder.in_memory`), and whenever they are used if
    not: the numbers are the same. Raises DataError where files are missing or not what they should be, naming them.
    """
    root = data_root(root)
    entry = find(settings.name)
    known = load_options(root, settings.fingerprint) if entry.local else {}
    options = complete(settings.name, known | dict(settings.options))
    description = describe(settings.name, options, progress)
    if settings.fingerprint != description.fingerprint:
        found = f"{description.fingerprint}, not {settings.fingerprint}"
        raise DataError(f"{settings.name}: the data now has the fingerprint {found}")
    finder = Finder(settings.name, root, download, progress)
    content: Arrays | ImageFolder = entry.implementation().read(finder, options)
    content.check(settings.name, description)
    if isinstance(content, Arrays):
        images: Images | Streamed = _in_memory(content, description)
    else:
        images = _from_files(content, settings.name, description)
    return hold_out(replace(images, digests=content.digests), settings)


def _in_memory(arrays: Arrays, description: Description) -> Images:
    train, test = _pixels(arrays.train_images), _pixels(arrays.test_images)
    targets = [_targets(each, description) for each in (arrays.train_targets, arrays.test_targets)]
    return Images(train, targets[0], test, targets[1], description.classes)


def _pixels(images: NDArray[np.uint8]) -> Tensor:
    """Copy, because what was read may be read-only memory."""
    return torch.from_numpy(np.array(images, order="C", copy=True)).permute(0, 3, 1, 2)


def _targets(targets: NDArray[Any], description: Description) -> Tensor:
    """Copy, in the type that the data set's task wants."""
    return torch.from_numpy(targets.astype(tasks.find(description.task).targets.dtype))


def _from_files(folder: ImageFolder, name: str, description: Description) -> Images | Streamed:
    """Raises DataError for targets that do not suit the data set's task, and for images that cannot be read."""
    train, test = folder.train, folder.test
    read = np.asarray(folder.train_targets), np.asarray(folder.test_targets)
    check_targets(f"{name}: train targets", read[0], len(train), description)
    check_targets(f"{name}: test targets", read[1], len(test), description)
    targets = [_targets(each, description) for each in read]
    classes = description.classes
    if folder.in_memory:
        images = read_all(train), read_all(test)
        return Images(images[0], targets[0], images[1], targets[1], classes, train_files=train)
    return Streamed(train, targets[0], test, targets[1], classes)


def hold_out(images: Images | Streamed, settings: DataSettings) -> Images | Streamed:
    """Take the validation images out of the split that the settings name.

    Which images are held out depends on the data set's name and on the counts alone, so it is the same for all
    trials; both parts keep their order. Raises DataError where nothing would be left.
    """
    source, count = settings.validation_from, settings.validation_count
    if source == "none" or count == 0:
        return images
    targets = images.train_targets if source == "train" else images.test_targets
    if not 0 < count < len(targets):
        raise DataError(
            f"{settings.name}: {count} of {len(targets)} images held out for validation"
        )
    purpose = ("validation", settings.name, source, count)
    order = torch.randperm(len(targets), generator=generator(0, *purpose))
    held, kept = order[:count].sort().values, order[count:].sort().values
    whole = images.train_images if source == "train" else images.test_images
    changes: dict[str, Any] = {
        "validation_images": _select(whole, held),
        "validation_targets": targets[held],
        f"{source}_images": _select(whole, kept),
        f"{source}_targets": targets[kept],
    }
    if source == "train" and images.train_files is not None:
        changes["train_files"] = images.train_files.select(kept.tolist())
    return replace(images, **changes)


def _select(images: Tensor | ImageFiles, chosen: Tensor) -> Tensor | ImageFiles:
    if isinstance(images, ImageFiles):
        return images.select(chosen.tolist())
    return images[chosen].contiguous(memory_format=torch.channels_last)

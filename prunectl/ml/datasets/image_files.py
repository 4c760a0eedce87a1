"""From an image file, or an image in memory, to the uint8 tensor that a network is given.

A `Sample` carries all that the tensor depends on, random draws included, so the result does not depend on which
process makes it: this one, or one of several that read ahead.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from prunectl.errors import DataError
from prunectl.ml.datasets.decode import decode
from prunectl.ml.datasets.listing import ImageFiles, Preprocessing
from prunectl.ml.random_resized_crop import box


class Sample(NamedTuple):
    """One image that is to be made."""

    image: str | NDArray[Any]
    """A file's path, or the pixels themselves, uint8 [channels, height, width]."""
    draws: Sequence[float] | None = None
    """For a random resized crop: the values that `box` takes. None: as `Preprocessing` says."""
    scale: tuple[float, float] = (0.0, 0.0)
    ratio: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class ImageReader(Dataset[Tensor | DataError]):
    """A map-style data set indexed by samples instead of numbers.

    It holds no list of files, because every process that reads ahead has a copy: ImageNet's names are 150 MB.
    """

    preprocessing: Preprocessing

    def __getitem__(self, sample: Sample) -> Tensor | DataError:
        """Return the image, or what is wrong with its file.

        The DataLoader would pass an exception on with a traceback of the loading process in its message.
        """
        try:
            return self.read(sample)
        except DataError as error:
            return error

    def read(self, sample: Sample) -> Tensor:
        """Return the image, uint8 [height, width, channels]. Raises DataError, naming the file."""
        channels, *size = self.preprocessing.shape
        if isinstance(sample.image, str):
            pixels = decode(Path(sample.image), channels, self.preprocessing.decoding)
            image = torch.from_numpy(pixels).permute(2, 0, 1)
        else:
            image = torch.from_numpy(sample.image)
        if sample.draws is None:
            image = resize_and_crop(image, self.preprocessing)
        else:
            top, left, height, width = box(
                sample.draws, image.shape[1], image.shape[2], sample.scale, sample.ratio
            )
            part = image[:, top : top + height, left : left + width]
            image = resize(part, (size[0], size[1]), self.preprocessing.interpolation)
        return image.permute(1, 2, 0)


def resize(
    image: Tensor, size: tuple[int, int], interpolation: Literal["bilinear", "bicubic"]
) -> Tensor:
    """Scale an image [channels, height, width] to `size` (height, width), antialiased where it shrinks."""
    if image.shape[1:] == size:
        return image
    # torchvision takes a second or more to import, which data sets in memory need not wait for.
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    how = InterpolationMode(interpolation)
    out: Tensor = functional.resize(image, list(size), how, antialias=True)
    return out


def resize_and_crop(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Scale an image by its shorter side and crop its centre: uint8 [channels, height, width].

    torchvision's `resize` to one number rounds the longer side down, not to the nearest.
    """
    tall, wide = image.shape[1:]
    _, height, width = preprocessing.shape
    scale = max(height / tall, width / wide)
    if preprocessing.resize:
        scale = preprocessing.resize / min(tall, wide)
    size = (max(height, round(tall * scale)), max(width, round(wide * scale)))
    image = resize(image, size, preprocessing.interpolation)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return image[:, top : top + height, left : left + width]


def read_all(files: ImageFiles) -> Tensor:
    """Read all images without random crops: uint8 [count, channels, height, width], stored channels last.

    Raises DataError, naming the file that cannot be read.
    """
    count, channels, height, width = files.shape
    out = torch.empty((count, height, width, channels), dtype=torch.uint8)
    reader = ImageReader(files.preprocessing)
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as threads:
        samples = (Sample(files[index]) for index in range(count))
        for index, image in enumerate(threads.map(reader.read, samples)):
            out[index] = image
    return out.permute(0, 3, 1, 2)

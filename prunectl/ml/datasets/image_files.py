"""From a picture, of a file or in memory, to the uint8 image that a network is given.

Requests carry all that an image depends on, so that whoever answers them (this process, or one of several that read
ahead) knows nothing of data sets, and the answers do not depend on who gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunectl.errors import DataError
from prunectl.ml.datasets.listing import View
from prunectl.ml.random_resized_crop import box

Reference = str | NDArray[Any]
"""A file's path, or the pixels themselves, uint8 [channels, height, width]."""


class Pictures(Protocol):
    """Pictures of any sizes, by number."""

    def __len__(self) -> int: ...

    def reference(self, index: int) -> Reference:
        """What a request says to get it."""
        ...

    def select(self, chosen: Tensor) -> Pictures:
        """Some of them, in the order of the numbers `chosen`."""
        ...


@dataclass(frozen=True)
class PictureFiles:
    """Pictures in files: a folder, and names within it."""

    root: str
    names: list[str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def reference(self, index: int) -> Reference:
        return f"{self.root}/{self.names[index]}"

    def select(self, chosen: Tensor) -> PictureFiles:
        return PictureFiles(self.root, [self.names[index] for index in chosen.tolist()])


@dataclass(frozen=True, eq=False)
class HeldPictures:
    """Pictures in memory, on the CPU: uint8 [count, channels, height, width]."""

    pixels: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def reference(self, index: int) -> Reference:
        out: NDArray[Any] = self.pixels[index].contiguous().numpy()
        return out

    def select(self, chosen: Tensor) -> HeldPictures:
        return HeldPictures(self.pixels[chosen])


class Request(NamedTuple):
    """Some images that are to be made."""

    references: Sequence[Reference]
    draws: NDArray[Any] | None = None
    """For random parts: what `crops.box` takes, a row per picture. None for what `View` says."""
    scale: tuple[float, float] = (0.0, 0.0)
    ratio: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Reader:
    """Answers requests; small, because every process that reads ahead has its own."""

    view: View

    def __getitem__(self, request: Request) -> Tensor | DataError:
        """Images, uint8 [n, height, width, channels]; or what is wrong with a file, to be raised by the caller."""
        channels, height, width = self.view.shape
        out = torch.empty((len(request.references), height, width, channels), dtype=torch.uint8)
        try:
            for index, reference in enumerate(request.references):
                picture = self.picture(reference)
                shown = (
                    shown_whole(picture, self.view)
                    if request.draws is None
                    else self._part(picture, request.draws[index].tolist(), request)
                )
                out[index] = shown.permute(1, 2, 0)
        except DataError as error:
            return error
        return out

    def picture(self, reference: Reference) -> Tensor:
        """The whole picture as it is, uint8 [channels, height, width]. Raises DataError."""
        if isinstance(reference, str):
            return decode(Path(reference), self.view.shape[0])
        return torch.from_numpy(reference)

    def _part(self, picture: Tensor, draws: list[float], request: Request) -> Tensor:
        tall, wide = picture.shape[1:]
        top, left, tall, wide = box(draws, tall, wide, request.scale, request.ratio)
        part = picture[:, top : top + tall, left : left + wide]
        return resized(part, self.view.shape[1:], self.view.interpolation)


def resized(
    picture: Tensor, size: tuple[int, int], interpolation: Literal["bilinear", "bicubic"]
) -> Tensor:
    """A picture scaled to (height, width), smoothed where it shrinks."""
    if picture.shape[1:] == size:
        return picture
    # Seconds to import, which data sets in memory need not wait for.
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    how = InterpolationMode(interpolation)
    out: Tensor = functional.resize(picture, list(size), how, antialias=True)
    return out


def shown_whole(picture: Tensor, view: View) -> Tensor:
    """A picture scaled by its shorter side, and its middle: uint8 [channels, height, width]."""
    tall, wide = picture.shape[1:]
    _, height, width = view.shape
    scale = view.resize / min(tall, wide) if view.resize else max(height / tall, width / wide)
    size = (max(height, round(tall * scale)), max(width, round(wide * scale)))
    picture = resized(picture, size, view.interpolation)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return picture[:, top : top + height, left : left + width]


def decode(path: Path, channels: int) -> Tensor:
    """A file's picture by Pillow, uint8 [channels, height, width]. Raises DataError, naming the file.

    torchvision's own decoders are on their way out of it, and a second decoder would be second numbers.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            pixels = np.array(opened.convert("RGB" if channels == 3 else "L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: {text}") from error
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)


def hold(pictures: PictureFiles, view: View, apply: Callable[..., Any] = map) -> Tensor:
    """All images as they are shown, uint8 [count, channels, height, width], stored channels last.

    `apply` is `map`, or one that works ahead and keeps the order. Raises DataError.
    """
    channels, height, width = view.shape
    out = torch.empty((len(pictures), height, width, channels), dtype=torch.uint8)
    reader = Reader(view)
    requests = (Request([pictures.reference(index)]) for index in range(len(pictures)))
    for index, image in enumerate(apply(reader.__getitem__, requests)):
        if isinstance(image, DataError):
            raise image
        out[index] = image[0]
    return out.permute(0, 3, 1, 2)

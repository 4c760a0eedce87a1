"""Random crops and flips of whole batches, and the conversion of bytes to floats.

Pixels stay uint8, [n, height, width, channels], until they are normalised: padding is of raw pixels, so a border
of zeros becomes (0 − mean)/std, as it does where PIL images are padded. What is random is drawn on the host
(`randomness.epoch_offsets`), a value of its own for every image.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from prunectl.ml.randomness import Offsets
from prunectl.spec.settings import NormalizeSettings


def pad_pixels(pixels: Tensor, pad: int, padding: Literal["zero", "reflect"]) -> Tensor:
    """Add `pad` rows and columns on every side; reflecting leaves out the border itself.

    Raises ValueError where the images are too small to reflect.
    """
    if padding == "reflect":
        height, width = pixels.shape[1:3]
        rows, columns = _reflected(height, pad, pixels), _reflected(width, pad, pixels)
        return pixels.index_select(1, rows).index_select(2, columns)
    return torch.nn.functional.pad(pixels, (0, 0, pad, pad, pad, pad))


def _reflected(size: int, pad: int, like: Tensor) -> Tensor:
    if pad >= size:
        raise ValueError(f"cannot reflect {pad} pixels of {size}")
    index = torch.arange(-pad, size + pad, device=like.device).abs()
    return (size - 1) - (size - 1 - index).abs()


def crop(padded: Tensor, down: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """Cut from each image the window of height × width whose corner is its (down, right).

    All windows are one strided view, and one gather copies the chosen ones row by row.
    """
    n, tall, wide, channels = padded.shape
    image, row, column, _ = padded.contiguous().stride()
    windows = padded.contiguous().as_strided(
        (n, tall - height + 1, wide - width + 1, height, width * channels),
        (image, row, column, row, 1),
    )
    chosen = windows[torch.arange(n, device=padded.device), down, right]
    return chosen.view(n, height, width, channels)


def augment(
    pixels: Tensor, offsets: Offsets, pad: int, padding: Literal["zero", "reflect"], flip: bool
) -> Tensor:
    """Pad, crop back to the old size, then mirror: image k by the k-th offsets.

    `pixels` and the result are uint8 [n, height, width, channels].
    """
    height, width = pixels.shape[1:3]
    if pad:
        padded = pad_pixels(pixels, pad, padding)
        pixels = crop(padded, offsets.down, offsets.right, height, width)
    if flip:
        pixels = torch.where(offsets.flip[:, None, None, None], pixels.flip(2), pixels)
    return pixels


class Normalizer:
    """Turns bytes into the floats that a network is given, on one device."""

    def __init__(
        self, settings: NormalizeSettings, shape: tuple[int, int, int], device: torch.device
    ) -> None:
        """`shape` is (channels, height, width). Raises ValueError for constants of another channel count."""
        channels, height, width = shape
        self.shape = (height, width, channels)
        self.per_image = settings.kind == "image"
        if not self.per_image:
            if not len(settings.mean) == len(settings.std) == channels:
                raise ValueError(f"normalize: {channels} channels need as many means and stds")
            # One constant per byte of an image: broadcasting three channels innermost is 20 times slower.
            pixels = height * width
            mean = torch.tensor(settings.mean, dtype=torch.float64).mul(255).repeat(pixels)
            scale = torch.tensor(settings.std, dtype=torch.float64).mul(255).reciprocal()
            self.mean = mean.float().to(device)
            self.scale = scale.repeat(pixels).float().to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Convert uint8 [n, height, width, channels] to float32 [n, channels, height, width], stored channels last."""
        flat = pixels.reshape(len(pixels), -1).float()
        if self.per_image:
            # TensorFlow's per_image_standardization, which works on raw pixels 0 … 255: its lower bound of the
            # deviation is 1/√count grey levels, and the deviation is that of the population.
            deviation, mean = torch.std_mean(flat, dim=1, correction=0, keepdim=True)
            flat = (flat - mean) / deviation.clamp(min=flat.shape[1] ** -0.5)
        else:
            flat.sub_(self.mean).mul_(self.scale)
        return flat.view(len(pixels), *self.shape).permute(0, 3, 1, 2)

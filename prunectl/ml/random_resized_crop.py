"""Random resized crops (Szegedy et al. 2015): which part of an image is scaled to the network's input. Free of torch.

A crop covers a random share of the image's area at a random aspect ratio, at a random place. What is random is
drawn before the image's size is known, a fixed number of values per image, so that the crop is a function of the
draws and of the size alone. torchvision's `RandomResizedCrop` draws from the global generator, after it knows the size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

ATTEMPTS = 10
"""Shapes tried before the centre is taken: as torchvision does; TensorFlow's ten are from memory."""
DRAWS = 2 * ATTEMPTS + 2
"""Values drawn per image, uniform in [0, 1): (area, ratio) for each attempt, then the place."""

Box = tuple[int, int, int, int]
"""Top, left, height, width in pixels."""


def box(
    draws: Sequence[float],
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """Return the part of an image of height × width that the draws choose.

    Its area is uniform within `scale` times the image's, the logarithm of its ratio (width over height) uniform
    within `ratio`'s. Where none of the shapes fits, it is the largest one at the centre whose ratio is allowed.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(ATTEMPTS):
        size, shape = draws[2 * attempt : 2 * attempt + 2]
        area = height * width * (scale[0] + (scale[1] - scale[0]) * size)
        aspect = math.exp(low + (high - low) * shape)
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            return _place(draws[-2], height - tall), _place(draws[-1], width - wide), tall, wide
    wide, tall = width, height
    if width / height < ratio[0]:
        tall = max(1, min(height, round(width / ratio[0])))
    elif width / height > ratio[1]:
        wide = max(1, min(width, round(height * ratio[1])))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _place(draw: float, room: int) -> int:
    # A draw just below 1 times room + 1 can round up to room + 1.
    return min(room, int(draw * (room + 1)))

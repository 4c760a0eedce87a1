"""Images generated from a seed, of any shape and number: for tests, demonstrations and timings.

Each class has a smooth pattern. An image is its class's pattern at a random strength and a random (cyclic) shift,
under a weaker pattern of some other class and under noise: learnable, but not by comparing single pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from prunectl.errors import DataError
from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder, Progress
from prunectl.ml.datasets.registry import Description, OptionValue, whole
from prunectl.text import size

WAVES = 3
"""Plane waves in a class's pattern, per channel."""
NOISE = 48
"""Noise is uniform within ± this many grey levels."""
MOST_BYTES = 1 << 40
"""Of images and patterns, which are held in memory; as many as ImageNet's take 0.2 of it."""


def describe(options: Mapping[str, OptionValue], progress: Progress | None = None) -> Description:
    """Return what the options say; the statistics are those of patterns around mid-grey.

    Raises DataError for more than `MOST_BYTES`.
    """
    values = {name: whole(options, name) for name in options}
    channels = values["channels"]
    shape = (channels, values["height"], values["width"])
    # A float for each pixel of each class's pattern, and a byte for each of each image.
    bytes_ = math.prod(shape) * (4 * values["classes"] + values["train"] + values["test"])
    if bytes_ > MOST_BYTES:
        raise DataError(
            f"dataset synthetic: classes and images of {'×'.join(map(str, shape))} take {size(bytes_)}, "
            f"at most {size(MOST_BYTES)} are made"
        )
    return Description(
        shape=shape,
        classes=values["classes"],
        train=values["train"],
        test=values["test"],
        mean=(0.5,) * channels,
        std=(0.2,) * channels,
        fingerprint="synthetic-1",
    )


def read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays:
    """Generate the images: the same for the same options, whatever numpy's version.

    RandomState is the generator of numpy whose streams are promised never to change.
    """
    about = describe(options)
    random = np.random.RandomState(whole(options, "seed"))
    patterns = _patterns(random, about)
    train = _draw(random, patterns, about.train)
    return Arrays(*train, *_draw(random, patterns, about.test))


def _patterns(random: np.random.RandomState, about: Description) -> NDArray[np.float32]:
    """Return one pattern per class within ± 1: [classes, height, width, channels]."""
    channels, height, width = about.shape
    rows = np.arange(height)[:, None] / height
    columns = np.arange(width)[None, :] / width
    out = np.zeros((about.classes, height, width, channels), np.float32)
    for index in range(about.classes):
        for channel in range(channels):
            for _ in range(WAVES):
                # Whole periods, so that a cyclic shift leaves no seam
                down, right = random.randint(-3, 4, 2)
                phase = random.uniform(0, 2 * np.pi)
                out[index, :, :, channel] += np.sin(
                    2 * np.pi * (down * rows + right * columns) + phase
                )
    return out / np.float32(WAVES)


def _draw(
    random: np.random.RandomState, patterns: NDArray[np.float32], count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return `count` images [count, height, width, channels] and their labels."""
    classes, height, width, channels = patterns.shape
    labels = random.randint(0, classes, count)
    images = np.empty((count, height, width, channels), np.uint8)
    for start in range(0, count, 1024):
        own = labels[start : start + 1024]
        n = len(own)
        other = random.randint(0, classes, n)
        strength = random.uniform(50, 100, (2, n, 1, 1, 1)).astype(np.float32)
        shift = random.randint(0, (1 + height // 8, 1 + width // 8), (n, 2))
        rows = (np.arange(height) + shift[:, :1]) % height
        columns = (np.arange(width) + shift[:, 1:]) % width
        pixels = patterns[own[:, None, None], rows[:, :, None], columns[:, None, :]] * strength[0]
        pixels += patterns[other] * strength[1] * np.float32(0.4)
        pixels += random.randint(128 - NOISE, 129 + NOISE, pixels.shape, np.int16)
        images[start : start + n] = pixels.clip(0, 255)
    return images, labels

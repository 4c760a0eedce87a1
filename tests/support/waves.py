"""Data of a task that prunectl does not have: the test of the seam copies this file to ml/datasets/waves.py.

Four pixels a, b, c, d of an image, over 255, are mapped to (sin 3a + bc, d − a).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.registry import OptionValue

TRAIN, TEST = 256, 100


def read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays:
    """Make the images; no file is needed."""
    random = np.random.RandomState(0)
    return Arrays(*_draw(random, TRAIN), *_draw(random, TEST))


def _draw(
    random: np.random.RandomState, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    images = random.randint(0, 256, (count, 2, 2, 1)).astype(np.uint8)
    a, b, c, d = (images.reshape(count, 4) / 255).T
    return images, np.stack([np.sin(3 * a) + b * c, d - a], axis=1)

"""The 1,797 handwritten digits of 8×8 pixels that come with the package (digits.npz, digits.licence.txt).

tests/support/make_digits.py makes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.registry import OptionValue

FILE = Path(__file__).with_name("digits.npz")
NAMES = ("train_images", "train_labels", "test_images", "test_labels")
"""Of its arrays."""


def read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays:
    """Read the packaged file, which holds the split too."""
    with np.load(FILE, allow_pickle=False) as content:
        images, labels, test_images, test_labels = (content[name] for name in NAMES)
    return Arrays(images[..., None], labels, test_images[..., None], test_labels)

"""The 1,797 handwritten digits of 8×8 pixels that come with the package (digits.npz, digits.licence.txt).

The file holds the arrays under the names of `Arrays`' fields; tests/support/make_digits.py makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.registry import OptionValue

FILE = Path(__file__).with_name("digits.npz")


def read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays:
    """Read the packaged file, which holds the split too."""
    with np.load(FILE, allow_pickle=False) as content:
        arrays = dict(content)
    return Arrays(**{k: v[..., None] if k.endswith("images") else v for k, v in arrays.items()})

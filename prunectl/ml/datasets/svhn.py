"""Street View House Numbers (Netzer et al. 2011), format 2: cropped digits in MATLAB files.

torchvision's class hashes 250 MB at every start, does not say which file is damaged, and reads by SciPy (`matlab`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunectl.errors import DataError
from prunectl.ml.datasets import published
from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder, torchvision_download
from prunectl.ml.datasets.matlab import read_arrays
from prunectl.ml.datasets.registry import OptionValue
from prunectl.ml.datasets.regular_file import read_bounded

FILES = ("train_32x32.mat", "test_32x32.mat")
MOST_BYTES = published.most_bytes("svhn")
"""Of a file, and of an array in it."""


def read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays:
    """Read both files; see `Finder.folder` for where they are looked for.

    Raises DataError where they are not the published ones.
    """
    folder = locate(find)
    digests = published.check(find.name, [folder / name for name in FILES], find.progress)
    return replace(read_folder(folder), digests=digests)


def locate(find: Finder) -> Path:
    """Return the folder that holds the files. Raises DataError."""

    def download(root: Path) -> None:
        for split in ("train", "test"):
            torchvision_download("SVHN", root / "svhn", split=split)

    return find.folder(FILES, ["svhn"], download)


def read_folder(folder: Path) -> Arrays:
    """Read a folder's files, whatever they hold. Raises DataError for one that is not in the format."""
    return Arrays(*read_mat(folder / FILES[0]), *read_mat(folder / FILES[1]))


def read_mat(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images [n, 32, 32, 3] and labels [n] of one file, whose label 10 is the digit 0. Raises DataError."""
    try:
        content = read_arrays(read_bounded(path, MOST_BYTES), {"X", "y"}, MOST_BYTES)
        images, labels = content["X"], content["y"].reshape(-1)
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"X is {images.dtype} {images.shape}, not uint8 of four dimensions")
        if not np.isin(labels, range(1, 11)).all():
            raise ValueError("labels are not 1 to 10")
    except (zlib.error, OSError, EOFError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else None
        raise DataError(f"{path}: not a file of SVHN images: {text or error}") from error
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels.astype(np.int64) % 10

"""Street View House Numbers (Netzer et al. 2011), format 2: cropped digits in MATLAB files.

torchvision's class calls SciPy alike, but hashes 250 MB at every start and does not say which file is damaged.
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
from prunectl.ml.datasets.registry import OptionValue

FILES = ("train_32x32.mat", "test_32x32.mat")


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
    from scipy.io.matlab import MatReadError, loadmat

    try:
        content = loadmat(path)
        images = np.asarray(content["X"], np.uint8).transpose(3, 0, 1, 2)
        labels = np.asarray(content["y"], np.int64).reshape(-1) % 10
    except (MatReadError, zlib.error, OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a file of SVHN images: {error}") from error
    return np.ascontiguousarray(images), labels

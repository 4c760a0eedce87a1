"""MNIST and Fashion-MNIST: files in the IDX format (LeCun et al. 1998), plain or gzipped, read where they lie.

torchvision's reader gives the same bytes but does not serve: it takes unpacked files alone (Debian's are gzipped, and
not ours to unpack), names no damaged file, and takes twice the time (0.06 s for Fashion-MNIST), 1 s of import besides.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunectl.errors import DataError
from prunectl.ml.datasets import published
from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder, present, torchvision_download
from prunectl.ml.datasets.inflate import gunzipped
from prunectl.ml.datasets.registry import OptionValue
from prunectl.ml.datasets.regular_file import read_bounded

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
"""torchvision's classes, which are also the folders it downloads into."""
MOST_BYTES = published.most_bytes("mnist")
"""Of what one file holds."""
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist installs its files."""


def read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays:
    """Read all four files; see `Finder.folder` for where they are looked for.

    Raises DataError where they are not the published ones.
    """
    folder = locate(find)
    digests = published.check(find.name, _paths(folder), find.progress)
    return replace(read_folder(folder), digests=digests)


def locate(find: Finder) -> Path:
    """Return the folder that holds the files. Raises DataError.

    In the data root itself those of the other data set with the same file names are passed over.
    """
    return find.folder(
        FILES,
        [f"{CLASSES[find.name]}/raw", find.name],
        lambda root: torchvision_download(CLASSES[find.name], root),
        compressed=True,
        fallbacks=[DEBIAN] if find.name == "fashion-mnist" else [],
        suits=lambda place: (
            place != find.root or not published.are_anothers(find.name, _paths(place))
        ),
    )


def read_folder(folder: Path) -> Arrays:
    """Read the four files of a folder, whatever they hold. Raises DataError for one that is not in the format."""
    images, labels, test_images, test_labels = map(read_file, _paths(folder))
    return Arrays(images[..., None], labels, test_images[..., None], test_labels)


def read_idx(data: bytes) -> NDArray[np.uint8]:
    """Return the array of one uncompressed IDX file of bytes. Raises ValueError where it is not one."""
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError("not an IDX file of bytes")
    rank = data[3]
    if rank not in (1, 3):
        raise ValueError(f"an array of {rank} dimensions, neither labels (1) nor images (3)")
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    if len(data) != 4 + 4 * rank + math.prod(shape):
        raise ValueError(f"{len(data)} bytes do not hold an array of shape {shape}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def read_file(path: Path) -> NDArray[np.uint8]:
    """Return the array of one file, plain or gzipped. Raises DataError."""
    try:
        if path.suffix == ".gz":
            return read_idx(b"".join(gunzipped(path, MOST_BYTES)))
        return read_idx(read_bounded(path, MOST_BYTES))
    except (OSError, ValueError, EOFError, zlib.error) as error:
        text = error.strerror if isinstance(error, OSError) else None
        raise DataError(f"{path}: {text or error}") from error


def _paths(folder: Path) -> list[Path]:
    return [path for name in FILES if (path := present(folder, name, compressed=True)) is not None]

"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the "python version", pickles made by Python 2.

torchvision's classes give the same arrays but do not serve: they hand a file to `pickle.load` once its MD5 is right,
take one folder name alone, and take twice the time (3.1 s, with 180 MB to hash, against 1.6 s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunectl.errors import DataError
from prunectl.ml.datasets import published
from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder, torchvision_download
from prunectl.ml.datasets.pickled_arrays import as_array, parse_pickle
from prunectl.ml.datasets.registry import OptionValue
from prunectl.ml.datasets.regular_file import read_bounded

LAYOUT = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]),
    "cifar100": ("cifar-100-python", ["train"], ["test"]),
}
LABELS = {"cifar10": b"labels", "cifar100": b"fine_labels"}

MOST_BYTES = published.most_bytes("cifar10")
"""Of one file."""


def read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays:
    """Read all batches; see `Finder.folder` for where they are looked for.

    Raises DataError where they are not the published ones.
    """
    folder = locate(find)
    _, train, test = LAYOUT[find.name]
    paths = [folder / batch for batch in (*train, *test)]
    digests = published.check(find.name, paths, find.progress)
    return replace(read_folder(find.name, folder), digests=digests)


def locate(find: Finder) -> Path:
    """Return the folder that holds the batches. Raises DataError."""
    inner, train, test = LAYOUT[find.name]
    kind = find.name.upper()
    return find.folder(
        [*train, *test], [inner, find.name], lambda root: torchvision_download(kind, root)
    )


def read_folder(name: str, folder: Path) -> Arrays:
    """Read a folder's batches, whatever they hold. Raises DataError for one that is not in the format."""
    _, train, test = LAYOUT[name]
    return Arrays(*_join(folder, train, LABELS[name]), *_join(folder, test, LABELS[name]))


def read_batch(path: Path, label: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images [n, 32, 32, 3] and labels [n] of one file. Raises DataError."""
    try:
        batch = parse_pickle(read_bounded(path, MOST_BYTES))
        if not isinstance(batch, dict):
            raise ValueError("no dictionary")
        pixels, labels = as_array(batch[b"data"]).reshape(-1, 3, 32, 32), batch[label]
        if not isinstance(labels, list) or not all(type(each) is int for each in labels):
            raise ValueError("labels are no list of numbers")
        return pixels.transpose(0, 2, 3, 1), np.array(labels, np.int64)
    except (OSError, LookupError, ValueError, OverflowError) as error:
        text = error.strerror if isinstance(error, OSError) else None
        raise DataError(f"{path}: not a batch of CIFAR images: {text or error}") from error


def _join(
    folder: Path, names: list[str], label: bytes
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = zip(*(read_batch(folder / name, label) for name in names), strict=True)
    return np.concatenate(images), np.concatenate(labels)

"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the "python version", pickles made by Python 2.

torchvision's classes give the same arrays but do not serve: they hand a file to `pickle.load` once its MD5 is right,
take one folder name alone, and take twice the time (3.1 s, with 180 MB to hash, against 1.6 s).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.errors import DataError
from prunectl.ml.datasets import published
from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.files import Finder, torchvision_download
from prunectl.ml.datasets.registry import OptionValue

LAYOUT = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]),
    "cifar100": ("cifar-100-python", ["train"], ["test"]),
}
LABELS = {"cifar10": b"labels", "cifar100": b"fine_labels"}

ALLOWED = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""What a pickled array of numpy consists of."""


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles containers of numpy arrays, and refuses everything else: a data file runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few functions of `ALLOWED`. Raises UnpicklingError for others."""
        # numpy before 2.0, and so Python 2's, called the module numpy.core.
        current = "numpy._core.multiarray" if module == "numpy.core.multiarray" else module
        if (current, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which no image needs")
        return super().find_class(current, name)


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
        with path.open("rb") as file:
            batch = ArrayUnpickler(file, encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        return pixels.transpose(0, 2, 3, 1), np.asarray(batch[label], np.int64)
    except (OSError, pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a batch of CIFAR images: {error}") from error


def _join(
    folder: Path, names: list[str], label: bytes
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = zip(*(read_batch(folder / name, label) for name in names), strict=True)
    return np.concatenate(images), np.concatenate(labels)

"""Make digits.npz from scikit-learn's copy of the data: python -m tests.support.make_digits

scikit-learn ships the test part of UCI's "Optical Recognition of Handwritten Digits": 1,797 images of 8×8 pixels,
each the number of ink dots, 0 … 16, in a block of 4×4. These become bytes as (255·v + 8) // 16. One image in five
of each class, by a fixed permutation, is the test set: 1,437 to train, 360 to test.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunectl.ml.datasets.digits import FILE

TEST = 360


def split(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return True where an image is of the test set: TEST in all, each class by its share, largest remainders first."""
    random = np.random.RandomState(0)
    counts = np.bincount(labels)
    shares = counts * TEST / len(labels)
    take = np.floor(shares).astype(int)
    short = TEST - take.sum()
    take[np.argsort(take - shares, kind="stable")[:short]] += 1
    test = np.zeros(len(labels), bool)
    for digit, wanted in enumerate(take):
        test[random.permutation(np.flatnonzero(labels == digit))[:wanted]] = True
    return test


def content() -> dict[str, NDArray[np.uint8]]:
    """Return the arrays of the file: images [n, 8, 8] and labels [n], as bytes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    images = ((255 * bunch.images.astype(np.int64) + 8) // 16).astype(np.uint8)
    test = split(labels)
    return {
        "train_images": images[~test],
        "train_labels": labels[~test].astype(np.uint8),
        "test_images": images[test],
        "test_labels": labels[test].astype(np.uint8),
    }


def write(path: Path) -> None:
    """Write the file; members carry no times, so that its bytes depend on the content alone."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in content().items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1998, 7, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())


if __name__ == "__main__":
    write(FILE)

"""What readers of data sets in memory return, and the check that it is what the registry says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.errors import DataError
from prunectl.ml.datasets.registry import Description


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set as it was read, without any validation split."""

    train_images: NDArray[np.uint8]
    """[count, height, width, channels]"""
    train_labels: NDArray[Any]
    """[count], integers from 0"""
    test_images: NDArray[np.uint8]
    test_labels: NDArray[Any]

    def check(self, name: str, description: Description) -> None:
        """Raise DataError where counts, shapes or labels are not those described."""
        channels, height, width = description.shape
        for split, images, labels, count in (
            ("train", self.train_images, self.train_labels, description.train),
            ("test", self.test_images, self.test_labels, description.test),
        ):
            wanted = (count, height, width, channels)
            if images.shape != wanted or images.dtype != np.uint8:
                found = f"{images.dtype} {images.shape}"
                raise DataError(f"{name}: {split} images are {found}, not uint8 {wanted}")
            if labels.shape != (count,):
                raise DataError(f"{name}: {labels.shape} {split} labels for {count} images")
            if count and not 0 <= int(labels.min()) <= int(labels.max()) < description.classes:
                found = f"{labels.min()} … {labels.max()}"
                raise DataError(f"{name}: {split} labels {found} of {description.classes} classes")

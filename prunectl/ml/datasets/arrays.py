"""What readers of data sets in memory return, and the check that it is what the registry says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.errors import DataError
from prunectl.ml.datasets.registry import Description
from prunectl.ml.tasks.registry import find


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set as it was read, without any validation split."""

    train_images: NDArray[np.uint8]
    """[count, height, width, channels]"""
    train_labels: NDArray[Any]
    """[count], integers from 0; of another task what its `Targets` say"""
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
            check_labels(f"{name}: {split} labels", labels, count, description)


def check_labels(what: str, labels: NDArray[Any], count: int, description: Description) -> None:
    """Raise DataError, beginning with `what`, where the labels of `count` images do not suit the data set's task."""
    targets, outputs = find(description.task).targets, description.classes
    wanted = targets.shape(count, outputs)
    if labels.shape != wanted or not np.can_cast(labels.dtype, targets.dtype, "same_kind"):
        found = f"{labels.dtype} {labels.shape}"
        raise DataError(f"{what} are {found}, not {targets.dtype} {wanted}")
    if targets.dtype != "int64":
        if not np.isfinite(labels).all():
            raise DataError(f"{what} are not all finite")
    elif count and not 0 <= int(labels.min()) <= int(labels.max()) < outputs:
        raise DataError(f"{what} {labels.min()} … {labels.max()} of {outputs} classes")

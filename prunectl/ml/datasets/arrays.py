"""What readers of data sets in memory return, and the check that it is what the registry says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    train_targets: NDArray[Any]
    """What the data set's task declares (`ml.tasks.registry.Targets`): of classification [count], integers from 0"""
    test_images: NDArray[np.uint8]
    test_targets: NDArray[Any]
    digests: Mapping[str, str] = field(default_factory=dict)
    """What the files hold that they were read from, by name; none where there are no files."""

    def check(self, name: str, description: Description) -> None:
        """Raise DataError where counts, shapes or targets are not those described."""
        channels, height, width = description.shape
        for split, images, targets, count in (
            ("train", self.train_images, self.train_targets, description.train),
            ("test", self.test_images, self.test_targets, description.test),
        ):
            wanted = (count, height, width, channels)
            if images.shape != wanted or images.dtype != np.uint8:
                found = f"{images.dtype} {images.shape}"
                raise DataError(f"{name}: {split} images are {found}, not uint8 {wanted}")
            check_targets(f"{name}: {split} targets", targets, count, description)


def check_targets(what: str, targets: NDArray[Any], count: int, description: Description) -> None:
    """Raise DataError, beginning with `what`, where the targets of `count` images do not suit the data set's task."""
    declared, outputs = find(description.task).targets, description.classes
    wanted = declared.shape(count, outputs)
    if targets.shape != wanted or not np.can_cast(targets.dtype, declared.dtype, "same_kind"):
        found = f"{targets.dtype} {targets.shape}"
        raise DataError(f"{what} are {found}, not {declared.dtype} {wanted}")
    if declared.dtype != "int64":
        if not np.isfinite(targets).all():
            raise DataError(f"{what} are not all finite")
    elif count and not 0 <= int(targets.min()) <= int(targets.max()) < outputs:
        raise DataError(f"{what} {targets.min()} … {targets.max()} of {outputs} classes")

"""Read what networks predict of their test sets: `stages/<key>/predictions.safetensors`.

One tensor, `predictions`: for each test item, in the order of the test set's labels, the number of the class that the
stage's last network takes it for, uint16. It is written with torch, by worker/checkpoint.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunectl.spec.ranges import MOST_ITEMS
from prunectl.spec.stage import Stage
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_spec
from prunectl.store.tensors import CheckedFile, CorruptFile, read_checked

if TYPE_CHECKING:
    import numpy

    Classes = numpy.ndarray[Any, numpy.dtype[numpy.uint16]]

TENSOR = "predictions"
MOST_BYTES = 2 * MOST_ITEMS + 4096
"""Of the file: its header has some 400."""


def read_predictions(stage: StagePaths, result: Result) -> Classes | None:
    """Read the predictions that a stage's result names. Returns None where it names none.

    Raises FileNotFoundError as is, StoreError where they cannot be read, CorruptFile where they are not what the
    result names, or none.
    """
    path = stage.predictions
    named = result.digests.get(path.name)
    if named is None:
        return None
    checked = read_checked(path)
    if checked.checksum != named or checked.stage != stage.key:
        raise CorruptFile(f"{path} is not the file that its stage's result names")
    found = predicted(checked)
    if found is None:
        raise CorruptFile(f"{path} holds something else than predictions")
    return found


def predicted(checked: CheckedFile) -> Classes | None:
    """Return the predictions of a file that was read, uint16 [items]; None where it holds something else."""
    found = checked.arrays.get(TENSOR)
    is_it = found is not None and len(checked.arrays) == 1 and found.dtype == "uint16"
    return found if is_it and found is not None and found.ndim == 1 else None


def dense_key(paths: StorePaths, key: str, stage: Stage) -> str:
    """Return the key of the dense network that a stage's network was pruned from; its own where it prunes nothing.

    Raises FileNotFoundError and StoreError where a stage in between cannot be read.
    """
    while stage.mask is not None:
        key = stage.mask.parent
        stage = read_spec(paths.stage(key)).stage
    return key


def agreement(one: Classes, other: Classes) -> float | None:
    """Return for how many items both networks predict the same class, in percent; None where they are of other sets."""
    return (
        100 * int((one == other).sum()) / len(one)
        if one.shape == other.shape and len(one)
        else None
    )

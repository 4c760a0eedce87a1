"""Every task, torch-free. A new one is a file with a class (see `base`) and an entry here.

Classes are made from TrainSettings and the network's number of outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunectl.ml.resolve import lookup
from prunectl.spec.task import CLASSIFICATION, DEFAULT_TASK, TaskMetrics


@dataclass(frozen=True)
class Targets:
    """What a data set of a task holds beside each image."""

    dtype: Literal["int64", "float32"]
    """Integers are numbers of classes, from 0; floats are any finite numbers."""
    per_output: bool = False
    """A value for each of the network's outputs, instead of one for the image."""

    def shape(self, images: int, outputs: int) -> tuple[int, ...]:
        """Return the shape of the targets of so many images."""
        return (images, outputs) if self.per_output else (images,)


@dataclass(frozen=True)
class TaskEntry:
    """One name of the registry."""

    reference: str
    """Of the class, for `resolve`."""
    measures: TaskMetrics
    """The score first."""
    targets: Targets
    settings: tuple[str, ...] = ()
    """Keys of a recipe that only the tasks that name them use."""
    fewest_outputs: int = 1


_ENTRIES = {
    DEFAULT_TASK: TaskEntry(
        "prunectl.ml.tasks.classification:Classification",
        CLASSIFICATION,
        Targets("int64"),
        settings=("label_smoothing",),
        fewest_outputs=2,
    ),
}


def names() -> list[str]:
    """Return the names a recipe may use."""
    return list(_ENTRIES)


def find(name: str) -> TaskEntry:
    """Return the entry of a name. Raises UnknownName."""
    return lookup("task", name, _ENTRIES)


def unused_settings(name: str) -> list[str]:
    """Return the keys of a recipe that other tasks use and this one does not, sorted. Raises UnknownName."""
    used = set(find(name).settings)
    return sorted({key for entry in _ENTRIES.values() for key in entry.settings} - used)

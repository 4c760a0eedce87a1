"""Every task, torch-free. A new one is a file with a class (see `base`) and an entry here.

Classes are made from TrainSettings and a number of classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunectl.ml.resolve import lookup
from prunectl.spec.task import CLASSIFICATION, DEFAULT_TASK, TaskMetrics


@dataclass(frozen=True)
class TaskEntry:
    """One name of the registry."""

    reference: str
    """Of the class, for `resolve`."""
    measures: TaskMetrics
    """The score first."""


_ENTRIES = {
    DEFAULT_TASK: TaskEntry("prunectl.ml.tasks.classification:Classification", CLASSIFICATION),
}


def names() -> list[str]:
    """Return the names a recipe may use."""
    return list(_ENTRIES)


def find(name: str) -> TaskEntry:
    """Return the entry of a name. Raises UnknownName."""
    return lookup("task", name, _ENTRIES)

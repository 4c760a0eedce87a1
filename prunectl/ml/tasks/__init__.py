"""Tasks: what a network is trained to do, and what is measured of it. A task is one class and one line here."""

from __future__ import annotations

from collections.abc import Callable

from prunectl.errors import UnknownName
from prunectl.ml.tasks.base import Metrics, Task
from prunectl.ml.tasks.classification import Classification
from prunectl.spec.settings import TrainSettings

__all__ = ["Classification", "Metrics", "Task", "find", "names"]

_TASKS: dict[str, Callable[[TrainSettings, int], Task]] = {"classification": Classification}


def names() -> list[str]:
    """The tasks there are."""
    return list(_TASKS)


def find(name: str) -> Callable[[TrainSettings, int], Task]:
    """Makes the task from the training settings and the number of classes. Raises UnknownName."""
    try:
        return _TASKS[name]
    except KeyError:
        raise UnknownName("task", name, _TASKS) from None

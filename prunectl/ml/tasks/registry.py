"""Every task, torch-free. A new one is a file with a class (see `base`) and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prunectl.ml.resolve import lookup, resolve
from prunectl.spec.settings import TrainSettings

if TYPE_CHECKING:
    from prunectl.ml.tasks.base import Task

_REFERENCES = {
    "classification": "prunectl.ml.tasks.classification:Classification",
}


def names() -> list[str]:
    """The names of all tasks."""
    return list(_REFERENCES)


def find(name: str) -> str:
    """The reference of a task, for `resolve`. Raises UnknownName."""
    return lookup("task", name, _REFERENCES)


def load(name: str) -> Callable[[TrainSettings, int], Task]:
    """What makes the task from training settings and a number of classes; imports torch. Raises UnknownName."""
    make: Callable[[TrainSettings, int], Task] = resolve(find(name))
    return make

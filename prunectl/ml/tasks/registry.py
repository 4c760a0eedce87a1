"""Every task, torch-free. A new one is a file with a class (see `base`) and a line here.

Classes are made from TrainSettings and a number of classes.
"""

from __future__ import annotations

from prunectl.ml.resolve import lookup

REFERENCES = {
    "classification": "prunectl.ml.tasks.classification:Classification",
}


def find(name: str) -> str:
    """Return the reference of a task, for `resolve`. Raises UnknownName."""
    return lookup("task", name, REFERENCES)

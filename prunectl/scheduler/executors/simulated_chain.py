"""What a stage of a simulated world "computes": a chain of hashes, a link an epoch.

It begins with the contents of the files that the stage starts from: so a stage that was resumed from the wrong
checkpoint, or began before its parent was done, ends in other bytes.
"""

from __future__ import annotations

import hashlib

import msgspec

from prunectl.spec.stage import Stage
from prunectl.store.records.result import Result


class ChainState(msgspec.Struct):
    """The content of a checkpoint."""

    step: int
    value: str


class Missing(Exception):
    """A file of another stage is not there; `key` is that stage's."""

    def __init__(self, key: str) -> None:
        super().__init__(f"a file of stage {key[:12]} is missing")
        self.key = key


def link(value: str, what: str) -> str:
    """Return the next link of a chain."""
    return hashlib.sha256(f"{value} {what}".encode()).hexdigest()


def next_value(value: str, step: int) -> str:
    """Return the link of a stage's chain after the epoch that ends at a step."""
    return link(value, f"epoch {step}")


def result_of(key: str, stage: Stage, value: str, epochs: int) -> Result:
    """Return the result of a stage that ended in a value."""
    score = int(value[:6], 16) % 10_000 / 100
    return Result(
        key=key, steps=stage.steps, epochs=epochs, loss=score / 100, score=score,
        metrics={"accuracy": score}, seconds=float(stage.steps),
    )  # fmt: skip

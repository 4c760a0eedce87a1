"""What the trainer asks of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """Averages over images."""

    loss: float
    count: int
    """Images averaged over."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """In the units that the task declares, by name; without those that were not measured."""
    skipped: int = 0
    """Steps of a training in fp16 that changed nothing, because gradients had overflowed."""


class Task(Protocol):
    """Loss and measures of a batch, of `outputs`, [n, outputs] as the network gives them, and `targets` as declared.

    Everything returned stays on the device.
    """

    counted: tuple[str, ...]
    """Names of what `training_sums` returns."""
    measured: tuple[str, ...]
    """Names of what `evaluation_sums` returns."""

    def loss(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return what is minimised: the mean over the batch, float32, 0-dim."""
        ...

    def training_sums(self, outputs: Tensor, targets: Tensor, /) -> dict[str, Tensor]:
        """Return sums over the batch, 0-dim; computed at every training step, so they must be cheap."""
        ...

    def evaluation_sums(self, outputs: Tensor, targets: Tensor, /) -> dict[str, Tensor]:
        """Return ``loss`` and others, sums over the batch; computed when evaluating."""
        ...

    def metrics(self, sums: Mapping[str, float], count: int) -> Measured:
        """Compute averages from sums over `count` images; what is not among the sums was not measured."""
        ...


@runtime_checkable
class Classifier(Task, Protocol):
    """A task whose targets are classes, one an item: what is predicted of each test item is kept with its networks."""

    def predict(self, outputs: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return the class that each item is taken for, int64 [n], and its probability, float32 [n]."""
        ...

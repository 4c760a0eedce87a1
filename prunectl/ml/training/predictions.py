"""What a network predicts of each test item: collected on the device while it is evaluated, copied to the host once.

A batch's classes and probabilities go into tensors that stay where they are, so that a CUDA graph may write them, and
from there to the items' places: two copies on the device, no wait.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prunectl.ml.tasks.base import Classifier
from prunectl.ml.training.transfer import download

BINS = 15
"""Of the expected calibration error: Guo et al.'s number."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of each item of the test set, in its order; on the CPU."""

    classes: Tensor
    """The class that it is taken for, int64 [items], as accuracy counts it."""
    confidences: Tensor
    """The probability of that class, float32 [items]; not finite where the network's outputs are not."""

    def calibration_error(self, labels: Tensor) -> float | None:
        """Return `calibration_error` against the items' true classes, int64 [items]."""
        return calibration_error(self.confidences, self.classes == labels)


def calibration_error(confidences: Tensor, right: Tensor) -> float | None:
    """Return the expected calibration error in percent; None where a confidence is not finite.

    With n items in M = 15 bins of the top-1 probability, the m-th from (m − 1)/M to m/M, that included, it is
    Σ |Bm|/n · |acc(Bm) − conf(Bm)| (Guo et al. 2017, On Calibration of Modern Neural Networks, ICML, equation 3). Sums
    are of float64, item by item: the same bits on every machine.

    Args:
        confidences: float [n], probabilities.
        right: bool [n], whether the prediction is right.
    """
    if not bool(torch.isfinite(confidences).all()):
        return None
    values = confidences.double()
    places = (values * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    gaps = torch.bincount(places, right.double() - values, minlength=BINS)
    total: float = sum(map(abs, gaps.tolist()))
    return min(100 * total / len(values), 100.0)


class Collector:
    """Collects the predictions of one network, batch by batch, in tensors of its device."""

    def __init__(self, task: Classifier, batch: int, device: torch.device) -> None:
        """`batch` is the most items that `add` is given at once."""
        self._task = task
        self._batch = self._empty(batch, device)
        self._all = self._empty(0, device)
        self._count = 0

    @staticmethod
    def _empty(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        classes = torch.zeros(count, dtype=torch.int64, device=device)
        return classes, torch.zeros(count, dtype=torch.float32, device=device)

    def changed(self) -> tuple[Tensor, ...]:
        """Return the tensors that `add` changes, which never move."""
        return self._batch

    def add(self, outputs: Tensor) -> None:
        """Predict a batch. Must not read anything back from the device: it is recorded with the batch's evaluation."""
        for place, value in zip(self._batch, self._task.predict(outputs), strict=True):
            place[: len(value)].copy_(value)

    def begin(self, items: int) -> None:
        """Begin with a test set of so many items."""
        self._count = 0
        if len(self._all[0]) != items:
            self._all = self._empty(items, self._batch[0].device)

    def keep(self, count: int) -> None:
        """Keep what was predicted of the last batch, of so many items, as that of the next items of the set."""
        for whole, batch in zip(self._all, self._batch, strict=True):
            whole[self._count : self._count + count].copy_(batch[:count])
        self._count += count

    def read(self) -> Predictions:
        """Return what was kept of the whole set. Waits for the device once."""
        return Predictions(*download(self._all))

"""Classification: cross-entropy, accuracy, top-5 accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from prunectl.ml.tasks.base import Measured
from prunectl.spec.settings import TrainSettings


class Classification:
    """Trains with label smoothing where the recipe asks for it; evaluates the plain cross-entropy."""

    counted: tuple[str, ...] = ("correct",)

    def __init__(self, settings: TrainSettings, classes: int) -> None:
        self.smoothing = settings.label_smoothing
        self.top5 = classes > 5
        self.measured: tuple[str, ...] = ("loss", "correct", *(["top5"] if self.top5 else []))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in float32, whatever precision the network ran in."""
        return cross_entropy(outputs.float(), labels, label_smoothing=self.smoothing)

    def training_sums(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``correct``: images whose most likely class is right."""
        return {"correct": (outputs.argmax(1) == labels).sum()}

    def evaluation_sums(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``loss``, ``correct`` and, where there are more than five classes, ``top5``."""
        logits = outputs.float()
        losses = cross_entropy(logits, labels, reduction="none")
        sums = {"loss": losses.sum(dtype=torch.float64), **self.training_sums(logits, labels)}
        if self.top5:
            sums["top5"] = (logits.topk(5, dim=1).indices == labels[:, None]).sum()
        return sums

    def predict(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the most likely class, as ``correct`` counts it, and its softmax in float32.

        Where outputs are NaN that is the class of the first of them, with a probability of NaN.
        """
        logits = outputs.float()
        return logits.argmax(1), logits.softmax(1).amax(1)

    def metrics(self, sums: Mapping[str, float], count: int) -> Measured:
        """Averages; accuracies in percent of the true number of images."""
        measured = {"accuracy": "correct", "top5": "top5"}
        percent = {
            name: 100 * sums[counted] / count
            for name, counted in measured.items()
            if counted in sums
        }
        return Measured(sums["loss"] / count, count, percent)

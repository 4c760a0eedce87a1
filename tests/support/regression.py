"""A task that prunectl does not have: the test of the seam copies this file to ml/tasks/regression.py.

Minimises the mean squared error over all outputs; measures its root and the mean absolute error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from prunectl.ml.tasks.base import Measured
from prunectl.spec.settings import TrainSettings


class Regression:
    """Targets are one number per output."""

    counted: tuple[str, ...] = ("squared", "absolute")
    measured: tuple[str, ...] = ("loss", "squared", "absolute")

    def __init__(self, settings: TrainSettings, outputs: int) -> None:
        self.outputs = outputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error in float32, whatever precision the network ran in."""
        return mse_loss(outputs.float(), targets)

    def training_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``squared`` and ``absolute``: errors, each image's averaged over its outputs."""
        error = (outputs.float() - targets) / self.outputs
        return {
            "squared": error.square().sum(dtype=torch.float64) * self.outputs,
            "absolute": error.abs().sum(dtype=torch.float64),
        }

    def evaluation_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The same, with the squares as the loss."""
        sums = self.training_sums(outputs, targets)
        return {"loss": sums["squared"], **sums}

    def metrics(self, sums: Mapping[str, float], count: int) -> Measured:
        """Averages, and the root of the squares'."""
        rmse, mae = math.sqrt(sums["squared"] / count), sums["absolute"] / count
        return Measured(sums["loss"] / count, count, {"rmse": rmse, "mae": mae})

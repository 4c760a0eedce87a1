"""Evaluating a network on a whole split of its data set."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from prunectl.ml.datasets.images import Images, Streamed
from prunectl.ml.tasks.base import Measured, Task
from prunectl.ml.training.augment import Normalizer
from prunectl.ml.training.cuda_graphs import CaptureFailed, Graphs, Recorder
from prunectl.ml.training.torch_flags import autocast
from prunectl.spec.settings import Shape

BATCH = {"cpu": 250, "cuda": 2000}
"""Images evaluated at once; part of the numerics, because sums depend on it in their last bits."""
VALUES = {"cpu": 32 * 224 * 224 * 3, "cuda": 256 * 224 * 224 * 3}
"""Values of input evaluated at once, which makes it fewer images where they are large; so part of them, too."""


def batch_size(shape: Shape, device: torch.device) -> int:
    """Images of a shape that are evaluated at once."""
    fit = VALUES.get(device.type, 1 << 24) // math.prod(shape)
    return max(1, min(BATCH.get(device.type, 1000), fit))


class Evaluator:
    """Sums a task's measures over a split, in tensors that never move."""

    def __init__(
        self,
        module: nn.Module,
        task: Task,
        normalize: Normalizer,
        precision: str,
        device: torch.device,
    ) -> None:
        self.module = module
        self.task = task
        self.normalize = normalize
        self.precision = precision
        self.device = device
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.totals = {name: zero.clone() for name in task.measured}
        self.graphs: Graphs | None = None

    def capture(self, record: Recorder) -> None:
        """Do batches by CUDA graphs from now on."""
        self.graphs = Graphs(self.add, self.totals.values, record)

    def evaluate(
        self, images: Images | Streamed, split: Literal["test", "validation"], notes: list[str]
    ) -> Measured | None:
        """Metrics over a split, in evaluation mode; None where there is no such split. Waits for the device once.

        What has to be said about graphs goes into `notes`.
        """
        parts = images.parts(split, batch_size(images.shape, self.device))
        if parts is None:
            return None
        training = self.module.training
        self.module.eval()
        for total in self.totals.values():
            total.zero_()
        count = 0
        for pixels, targets in parts:
            self._add_by_graph(pixels, targets, notes)
            count += len(targets)
        self.module.train(training)
        return self.task.metrics(read_sums(self.totals), count)

    def _add_by_graph(self, pixels: Tensor, targets: Tensor, notes: list[str]) -> None:
        """Evaluate one batch, by its graph where there is one."""
        if self.graphs is not None:
            try:
                self.graphs.run(pixels, targets)
                return
            except CaptureFailed as error:
                self.graphs = None
                notes.append(f"evaluation runs eagerly, not as CUDA graphs: {error}")
        self.add(pixels, targets)

    @torch.no_grad()
    def add(self, pixels: Tensor, targets: Tensor) -> None:
        """Evaluate one batch."""
        with autocast(self.device, self.precision):
            outputs = self.module(self.normalize(pixels))
        for name, value in self.task.evaluation_sums(outputs, targets).items():
            self.totals[name].add_(value)


def read_sums(sums: dict[str, Tensor]) -> dict[str, float]:
    """Read all values with one wait for the device."""
    return dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))

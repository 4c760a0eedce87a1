"""Evaluating a network on a whole split of its data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from prunectl.ml.datasets.images import Images, Streamed
from prunectl.ml.output_shapes import Call
from prunectl.ml.tasks.base import Classifier, Measured, Task
from prunectl.ml.training.augment import Normalizer
from prunectl.ml.training.cuda_graphs import CaptureFailed, Graphs, Recorder
from prunectl.ml.training.precision import Precision
from prunectl.ml.training.predictions import Collector, Predictions
from prunectl.spec.settings import Shape

CPU_BATCH = 250
CPU_VALUES = 32 * 224 * 224 * 3
"""Images, and values of input, evaluated at once on a CPU."""
CUDA_BATCHES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
CUDA_BYTES = 256 << 20
"""Images, and bytes of the largest activation in float32, evaluated at once on a CUDA device. The numbers divide the
size of most test sets: what is left over would need a graph of its own. With 2,000 images of WRN-16-8, 1 GiB an
activation, 5 GiB would be held for evaluations alone."""


def batch_size(called: Sequence[Call], shape: Shape, device: torch.device) -> int:
    """Return how many images of a shape are evaluated at once by a network that calls these modules.

    It depends on nothing else of the device than its kind, and is part of the numerics: sums depend on it in their
    last bits.
    """
    if device.type != "cuda":
        return max(1, min(CPU_BATCH, CPU_VALUES // math.prod(shape)))
    outputs = [math.prod(size) for _, size in called]
    fit = CUDA_BYTES // (4 * max(math.prod(shape), *outputs))
    return max((size for size in CUDA_BATCHES if size <= fit), default=1)


class Evaluator:
    """Sums a task's measures over a split, and collects what is predicted of the test set. Its tensors never move."""

    def __init__(
        self,
        precision: Precision,
        task: Task,
        normalize: Normalizer,
        batch: int,
    ) -> None:
        """`batch` images are evaluated at once."""
        self.precision = precision
        self.module = precision.module
        self.batch = batch
        self.task = task
        self.normalize = normalize
        device = next(self.module.parameters()).device
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.totals = {name: zero.clone() for name in task.measured}
        self._collector = Collector(task, batch, device) if isinstance(task, Classifier) else None
        self.graphs: Graphs | None = None

    def capture(self, record: Recorder) -> None:
        """Do batches by CUDA graphs from now on."""
        self.graphs = Graphs(self.add, self.changed, record)

    def changed(self) -> list[Tensor]:
        """Return all tensors that `add` changes."""
        predicted = () if self._collector is None else self._collector.changed()
        return [*self.totals.values(), *predicted]

    def evaluate(
        self, images: Images | Streamed, split: Literal["test", "validation"], notes: list[str]
    ) -> Measured | None:
        """Metrics over a split, in evaluation mode; None where there is no such split. Waits for the device once.

        What has to be said about graphs goes into `notes`. What is predicted of the test set can be asked for until it
        is evaluated again.
        """
        parts = images.parts(split, self.batch)
        if parts is None:
            return None
        collector = self._collector if split == "test" else None
        if collector is not None:
            collector.begin(len(images.test_targets))
        training = self.module.training
        self.module.eval()
        for total in self.totals.values():
            total.zero_()
        count = 0
        for pixels, targets in parts:
            self._add_by_graph(pixels, targets, notes)
            if collector is not None:
                collector.keep(len(targets))
            count += len(targets)
        self.module.train(training)
        return self.task.metrics(read_sums(self.totals), count)

    def predictions(self) -> Predictions | None:
        """Return what the last evaluation of the test set predicted; None where the task predicts no classes.

        Waits for the device once.
        """
        return None if self._collector is None else self._collector.read()

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
        self.precision.cast()
        outputs = self.precision.forward(self.normalize(pixels))
        for name, value in self.task.evaluation_sums(outputs, targets).items():
            self.totals[name].add_(value)
        if self._collector is not None:
            self._collector.add(outputs)


def read_sums(sums: dict[str, Tensor]) -> dict[str, float]:
    """Read all values with one wait for the device."""
    return dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))

"""Training one network: the one code path for every device.

Stages run on a `Trainer` one after another: it is built once per network, data set and recipe, and a stage begins by
copying into its tensors, which never move. The step itself reads only tensors (pixels, targets, learning rate, masks)
and never waits for the device; nothing in it is random. A CPU calls it; on CUDA it is recorded as a graph and
replayed (`cuda_graphs`), or called too where that cannot be done.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Concatenate, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from prunectl.ml.datasets.images import Images, Streamed
from prunectl.ml.output_shapes import calls
from prunectl.ml.randomness import generator
from prunectl.ml.resolve import resolve
from prunectl.ml.tasks import registry as tasks
from prunectl.ml.tasks.base import Classifier, Measured, Task
from prunectl.ml.training.augment import Normalizer
from prunectl.ml.training.batches import open_source
from prunectl.ml.training.cuda_graphs import (
    AHEAD,
    CaptureFailed,
    DeviceSlot,
    Graphs,
    SharedMemory,
)
from prunectl.ml.training.evaluation import Evaluator, batch_size, read_sums
from prunectl.ml.training.lr_log import LrLog
from prunectl.ml.training.masking import Masking
from prunectl.ml.training.module import Builder, builder, fused, placed
from prunectl.ml.training.optimizer import Optimizer, kernels
from prunectl.ml.training.precision import LOW, Precision
from prunectl.ml.training.predictions import Predictions
from prunectl.ml.training.state import TrainingState, check
from prunectl.ml.training.transfer import download, upload
from prunectl.spec import lr_schedule
from prunectl.spec.batch_layout import Layout
from prunectl.spec.lr_schedule import Schedule
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import NetworkSettings, TrainSettings

P = ParamSpec("P")
R = TypeVar("R")


def _queued(method: Callable[Concatenate[Trainer, P], R]) -> Callable[Concatenate[Trainer, P], R]:
    """Make a method queue its work on the device in the trainer's slot."""

    @functools.wraps(method)
    def call(self: Trainer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.slot.queue():
            return method(self, *args, **kwargs)

    return call


class Trainer:
    """Trains and evaluates one network on one data set; see the module's docstring."""

    def __init__(
        self,
        network: NetworkSettings | Builder,
        settings: TrainSettings,
        images: Images | Streamed,
        device: str | torch.device = "cpu",
        task: str = "classification",
        *,
        graphs: bool = True,
        fuse: bool = False,
    ) -> None:
        """`network` names one of `ml.networks`, or builds any module of one's own.

        The weights are arbitrary until `initialise` or `load`. On CUDA steps are captured unless `graphs` is False,
        and with `fuse` torch.compile fuses the network's kernels in them first: faster, with other last bits.
        """
        self.device = torch.device(device)
        self.settings = settings
        self._test_targets = images.test_targets  # on the host, where they were read
        self.images = images.on(self.device)
        self._build = builder(network)
        self._notes: list[str] = []
        self.slot = DeviceSlot(self.device)
        with contextlib.ExitStack() as undo:
            undo.callback(self.slot.close)  # nobody can close what was not made
            with self.slot.queue():
                self._allocate(task)
            self._capture(graphs, fuse)
            undo.pop_all()

    def _allocate(self, task: str) -> None:
        """Make everything a step reads and writes, where it will stay."""
        settings, images = self.settings, self.images
        module = self._build(None)
        # Before it is placed: what goes wrong here is the network's fault, not the device's.
        called = calls(module, images.shape) if self._asks(settings) else []
        self.module = placed(module, self.device)
        self.task: Task = resolve(tasks.find(task).reference)(settings, images.classes)
        self.batches = open_source(self.images, settings)
        self.normalize = Normalizer(settings.normalize, self.images.shape, self.device)
        self.parameters = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        self.precision = Precision(self.module, settings.precision, called, self.device)
        self.optimizer = Optimizer(
            self.parameters, settings.optimizer, scaled=settings.precision == "fp16"
        )
        self._masking = Masking(self.parameters, kernels(self.parameters), self.optimizer.momenta)
        self.step = 0
        """Optimizer steps done in this stage."""
        self._tensors = {n: t.detach() for n, t in self.module.state_dict(keep_vars=True).items()}
        self._lr: float | None = None
        self._lr_log = LrLog(self.optimizer.lr)
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        own = ("loss", "skipped") if self.optimizer.loss_scale else ("loss",)
        self._sums = {name: zero.clone() for name in (*own, *self.task.counted)}
        self._count = 0
        self.evaluator = Evaluator(
            self.precision,
            self.task,
            self.normalize,
            batch_size(called, images.shape, self.device),
        )

    def _asks(self, settings: TrainSettings) -> bool:
        """Return whether it matters which modules the network calls."""
        return self.device.type == "cuda" or settings.precision in LOW

    def _capture(self, graphs: bool, fuse: bool) -> None:
        """Choose how steps are done."""
        self._fused: Callable[[Tensor], Tensor] | None = None
        self._training: Graphs | None = None
        if self.device.type != "cuda":
            return
        if fuse:
            self._fused = fused(self.module)
        if graphs:
            self._training = Graphs(self._step, self._changed, self.slot.record)
            self.evaluator.capture(SharedMemory.of(self.device).record)

    @property
    def mode(self) -> str:
        """How steps are done now: ``eager`` or ``graph``, ``+fused`` where torch.compile fuses kernels."""
        how = "eager" if self._training is None else "graph"
        return how if self._fused is None else f"{how}+fused"

    def notes(self) -> list[str]:
        """Return what the log should say about how steps are done, since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Free graphs, device memory and stream; the trainer must not be used again."""
        self.slot.close()
        self.evaluator.graphs = None
        # Graphs and steps refer to each other: emptied, what they hold is free without waiting for the collector.
        vars(self).clear()

    @property
    def layout(self) -> Layout:
        """How steps and epochs relate."""
        return self.batches.layout

    # --- states ---------------------------------------------------------------------------------

    @_queued
    @torch.no_grad()
    def initialise(self, seed: int, iteration: int) -> None:
        """Draw fresh weights from (seed, iteration); a fresh optimizer, no masks, step 0."""
        fresh = self._build(generator(seed, "init", iteration)).state_dict()
        self.set_masks(None)
        self.load(TrainingState(weights=fresh), optimizer=False)

    @_queued
    @torch.no_grad()
    def load(self, state: TrainingState, *, optimizer: bool = True) -> None:
        """Copy a state into place, step and accumulators included; the masks stay as they are, and are applied.

        Without `optimizer` the optimizer begins fresh. Raises ValueError, having changed nothing, where the state
        is of something else.
        """
        check(self._tensors, state.weights, "weights")
        pairs = [(tensor, state.weights[name]) for name, tensor in self._tensors.items()]
        if optimizer:
            own = self.optimizer.state()
            check(own, state.optimizer, "optimizer state")
            pairs += [(tensor, state.optimizer[name]) for name, tensor in own.items()]
        else:
            self.optimizer.reset()
        zero = torch.zeros(())
        pairs += [(own, state.accumulators.get(name, zero)) for name, own in self._sums.items()]
        upload(pairs)
        self._masking.clear()
        self.step = state.step
        self._lr = None
        self._lr_log.restart()
        self._count = int(state.accumulators.get("count", 0))

    @_queued
    @torch.no_grad()
    def state(self) -> TrainingState:
        """Return copies of everything, wherever the training stands."""
        self._masking.clear()
        parts = (self._tensors, self.optimizer.state(), self._sums)
        copies = iter(download([tensor for part in parts for tensor in part.values()]))
        weights, optimizer, sums = ({name: next(copies) for name in part} for part in parts)
        count = torch.tensor(self._count, dtype=torch.float64)
        return TrainingState(weights, optimizer, self.step, {**sums, "count": count})

    @_queued
    @torch.no_grad()
    def set_masks(self, masks: dict[str, Tensor] | None) -> None:
        """Prune: weights whose mask is False become zero and stay zero, and so do their momenta.

        Layers without a mask stay whole; None takes all masks away. Raises ValueError for a mask that fits no
        layer.
        """
        self._masking.set(masks)

    # --- training -------------------------------------------------------------------------------

    def train(
        self, schedule: Schedule, seeds: Seeds, iteration: int, until: int, yield_every: int = 16
    ) -> Iterator[bool]:
        """Do steps `self.step` … `until` − 1 of a stage, yielding True after every `yield_every` of them.

        `schedule` is the stage's own, its step 0 the first of the stage. Whenever it has yielded or been closed,
        everything else may be asked of the trainer (state, metrics, evaluate) without changing what comes after.
        It yields False where the device is behind and nothing was done: others may go on meanwhile. The steps
        are queued then, not over; `idle` tells. Raises IndexError where the schedule is shorter than `until`.
        """
        if until > lr_schedule.length(schedule):
            raise IndexError(f"step {until} of a schedule of {lr_schedule.length(schedule)} steps")
        first, rates = self.step, lr_schedule.rates(schedule, self.step)
        while self.step < until:
            while self.slot.ahead() >= AHEAD:
                yield False
            with self.slot.queue():
                for _ in range(min(yield_every, until - self.step)):
                    self._advance(next(rates), seeds, iteration)
                self.slot.mark()
            if (self.step - first) % yield_every == 0:
                yield True

    def _advance(self, lr: float, seeds: Seeds, iteration: int) -> None:
        """Queue one step."""
        if lr != self._lr:
            self.optimizer.lr.fill_(lr)
            self._lr_log.changed(self.step)
            self._lr = lr
        if not self.module.training:
            self.module.train()
        pixels, targets = self.batches.get(seeds, iteration, self.step)
        self._do(pixels, targets)
        self._count += len(targets)
        self.step += 1

    def _do(self, pixels: Tensor, targets: Tensor) -> None:
        """Do the step, by its graph where there is one."""
        while self._training is not None:
            try:
                self._training.run(pixels, targets, self._masking.variant)
                return
            except CaptureFailed as error:
                self._degrade(error)
        self._step(pixels, targets)

    def _degrade(self, error: CaptureFailed) -> None:
        """Give up what made recording fail: the fusion first, then the graphs."""
        self.precision.collect()
        for parameter in self.parameters.values():
            parameter.grad = None
        if self._fused is not None:
            self._fused = None
            assert self._training is not None, "it is what failed"
            self._training.forget()  # graphs of other batches and masks are fused, too
            self._notes.append(f"steps run without fused kernels: {error}")
        else:
            self._training = self.evaluator.graphs = None
            self._notes.append(f"steps run eagerly, not as CUDA graphs: {error}")

    def _changed(self) -> list[Tensor]:
        """Return all tensors that a step changes."""
        # A network of one's own may keep buffers that are no part of its state.
        more = [b for name, b in self.module.named_buffers() if name not in self._tensors]
        return [
            *self._tensors.values(),
            *self.optimizer.state().values(),
            *self._sums.values(),
            *more,
        ]

    def idle(self) -> bool:
        """Return whether the device has done all steps so far. Does not wait."""
        return self.slot.ahead() == 0

    def _step(self, pixels: Tensor, targets: Tensor) -> None:
        """Forward, backward, update, mask, accumulate. Must not read anything back from the device, nor change
        anything but tensors: a replay of it changes nothing else."""
        total = len(targets)
        size = self.settings.micro_batch or total
        if self._fused is None:
            self.precision.cast()
        for start in range(0, total, size):
            self._backward(pixels[start : start + size], targets[start : start + size], total)
        self.optimizer.step()
        with torch.no_grad():
            self._masking.apply()
            if self.optimizer.loss_scale:
                self._sums["skipped"].add_(self.optimizer.loss_scale.found)

    def _backward(self, pixels: Tensor, targets: Tensor, total: int) -> None:
        """Do forward and backward of images that are part of a batch of `total`; gradients and metrics add up."""
        count = len(targets)
        outputs = self.precision.forward(self.normalize(pixels), self._fused)
        loss = self.task.loss(outputs, targets)
        # Each part's mean weighs as much as it has images, so that the sum is the mean over the batch.
        part = loss if count == total else loss * (count / total)
        if self.optimizer.loss_scale:
            part = part * self.optimizer.loss_scale.scale
        part.backward()  # type: ignore[no-untyped-call]
        self.precision.collect()
        with torch.no_grad():
            self._sums["loss"].add_(loss.detach(), alpha=count)
            for name, value in self.task.training_sums(outputs.detach(), targets).items():
                self._sums[name].add_(value)

    @_queued
    def lrs_applied(self) -> list[tuple[int, float]]:
        """Return changes of the learning rate since the last call, as (step, rate), read from what the steps used."""
        return self._lr_log.take()

    # --- measuring ------------------------------------------------------------------------------

    @_queued
    def metrics(self, reset: bool = True) -> Measured:
        """Return averages over the training batches since the last reset, each under the weights of its step.

        The loss is the one minimised. NaN where there were no batches. A step that was skipped counts as any other.
        Waits for the device once.
        """
        sums, count = read_sums(self._sums), self._count
        if reset:
            for total in self._sums.values():
                total.zero_()
            self._count = 0
        if count == 0:
            return Measured(float("nan"), 0)
        measured = self.task.metrics(sums, count)
        return replace(measured, skipped=int(sums.get("skipped", 0)))

    @_queued
    @torch.no_grad()
    def evaluate(self, split: Literal["test", "validation"]) -> Measured | None:
        """Return metrics of the present weights over a whole split; None where there is no such split.

        Changes nothing that training depends on. Waits for the device once.
        """
        return self.evaluator.evaluate(self.images, split, self._notes)

    @_queued
    def predictions(self) -> Predictions | None:
        """Return what the last evaluation of the test set predicted; None where the task predicts no classes.

        Waits for the device once.
        """
        return self.evaluator.predictions()

    @property
    def labels(self) -> Tensor | None:
        """The classes of the test set, int64 [items], on the CPU; None where the task predicts no classes."""
        if not isinstance(self.task, Classifier):
            return None
        return self._test_targets.cpu()

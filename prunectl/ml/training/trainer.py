"""Training one network: the one code path for every device.

A `Trainer` is an engine that stages are run on one after another: it is built once per network, data set and
recipe, and a stage begins by copying into its tensors, which never move. The step itself reads only tensors
(pixels, labels, learning rate, masks) and never waits for the device; nothing in it is random. A CPU calls it; on
CUDA it is recorded as a graph and replayed (`capture`), or called too where that cannot be done.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Concatenate, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from prunectl.ml.datasets.images import Images
from prunectl.ml.datasets.streamed import Streamed
from prunectl.ml.randomness import generator
from prunectl.ml.tasks import registry as tasks
from prunectl.ml.tasks.base import Metrics, Task
from prunectl.ml.training.augment import Normalizer
from prunectl.ml.training.batch_source import open_source
from prunectl.ml.training.cuda_graphs import AHEAD, CaptureFailed, Graphs, Lane
from prunectl.ml.training.lr_log import RateLog
from prunectl.ml.training.masking import Zeros
from prunectl.ml.training.optimizer import Optimizer, kernels
from prunectl.ml.training.state import State, check, copied
from prunectl.spec import lr_schedule as schedules
from prunectl.spec.batch_layout import Layout
from prunectl.spec.lr_schedule import Schedule
from prunectl.spec.settings import NetworkSettings, TrainSettings

__all__ = ["Builder", "Metrics", "State", "Trainer"]

Builder = Callable[[torch.Generator | None], nn.Module]
"""Makes the network: freshly initialised from the generator, or with any values where that is None."""

EVALUATION_BATCH = {"cpu": 250, "cuda": 2000}
"""Images evaluated at once; part of the numerics, because sums depend on it in their last bits."""
EVALUATION_VALUES = {"cpu": 32 * 224 * 224 * 3, "cuda": 256 * 224 * 224 * 3}
"""Values of input evaluated at once, which makes it fewer images where they are large; so part of them, too."""

P = ParamSpec("P")
R = TypeVar("R")


def _queued(
    method: Callable[Concatenate[Trainer, P], R],
) -> Callable[Concatenate[Trainer, P], R]:
    """A method whose work on the device goes into the trainer's own queue."""

    def call(self: Trainer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lane.queue():
            return method(self, *args, **kwargs)

    functools.update_wrapper(call, method)
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
        """`network` names one of `core.networks`, or builds any module of one's own.

        The weights are arbitrary until `initialise` or `load`. On CUDA steps are captured unless `graphs` is False,
        and with `fuse` torch.compile fuses the network's kernels in them first: faster, with other last bits.
        """
        self.device = torch.device(device)
        self.settings = settings
        self.images = images.on(self.device)
        self._build = _builder(network)
        self._notes: list[str] = []
        self.lane = Lane(self.device)
        with self.lane.queue():
            self._allocate(task)
        self._capture(graphs, fuse)

    def _allocate(self, task: str) -> None:
        """Everything a step reads and writes, where it will stay."""
        settings, images = self.settings, self.images
        self.module = _placed(self._build(None), self.device)
        self.task: Task = tasks.load(task)(settings, images.classes)
        self.batches = open_source(self.images, settings)
        self.normalize = Normalizer(settings.normalize, self.images.shape, self.device)
        self.parameters = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        self.optimizer = Optimizer(self.parameters, settings.optimizer)
        self._zeros = Zeros(self.parameters, kernels(self.parameters), self.optimizer.momenta)
        self.step = 0
        """Optimizer steps done in this stage."""
        self._tensors = {n: t.detach() for n, t in self.module.state_dict(keep_vars=True).items()}
        self._rate: float | None = None
        self._rates = RateLog(self.optimizer.lr)
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        self._sums = {name: zero.clone() for name in ("loss", *self.task.counted)}
        self._count = 0
        self._totals = {name: zero.clone() for name in self.task.measured}

    def _capture(self, graphs: bool, fuse: bool) -> None:
        """Choose how steps are done."""
        self._forward: Callable[[Tensor], Tensor] = self.module
        self._training: Graphs | None = None
        self._evaluation: Graphs | None = None
        if self.device.type != "cuda":
            return
        if fuse:
            self._forward = fused(self.module)
        if graphs:
            self._training = Graphs(self._step, self._changed, self.lane.record)
            self._evaluation = Graphs(self._evaluate_batch, self._totals.values, self.lane.record)

    @property
    def mode(self) -> str:
        """How steps are done now: ``eager`` or ``graph``, ``+fused`` where torch.compile fuses kernels."""
        how = "eager" if self._training is None else "graph"
        return how if self._forward is self.module else f"{how}+fused"

    def notes(self) -> list[str]:
        """What should be said about how steps are done, in words, since last asked."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Let go of graphs, device memory and stream; the trainer is not to be used again."""
        self.lane.close()
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
        """Fresh weights from (seed, iteration), a fresh optimizer, no masks, step 0."""
        fresh = self._build(generator(seed, "init", iteration)).state_dict()
        self.set_masks(None)
        self.load(State(weights=fresh), optimizer=False)

    @_queued
    @torch.no_grad()
    def load(self, state: State, *, optimizer: bool = True) -> None:
        """Copy a state into place, step and accumulators included; the masks stay as they are, and are applied.

        Without `optimizer` the optimizer begins fresh. Raises ValueError, having changed nothing, where the state
        is of something else.
        """
        check(self._tensors, state.weights, "weights")
        if optimizer:
            self.optimizer.load(state.optimizer)
        else:
            self.optimizer.reset()
        for name, tensor in self._tensors.items():
            tensor.copy_(state.weights[name])
        self._zeros.clear()
        self.step = state.step
        self._rate = None
        self._rates.restart()
        for name, total in self._sums.items():
            total.copy_(state.accumulators.get(name, torch.zeros(())))
        self._count = int(state.accumulators.get("count", 0))

    @_queued
    @torch.no_grad()
    def state(self) -> State:
        """Copies of everything, wherever the training stands."""
        self._zeros.clear()
        return State(
            weights=copied(self._tensors),
            optimizer=copied(self.optimizer.state()),
            step=self.step,
            accumulators={
                **copied(self._sums),
                "count": torch.tensor(self._count, dtype=torch.float64),
            },
        )

    @_queued
    @torch.no_grad()
    def set_masks(self, masks: dict[str, Tensor] | None) -> None:
        """Prune: weights whose mask is False become zero and stay zero, and so do their momenta.

        Layers without a mask stay whole; None takes all masks away. Raises ValueError for a mask that fits no
        layer.
        """
        self._zeros.set(masks)

    # --- training -------------------------------------------------------------------------------

    def train(
        self, schedule: Schedule, seed: int, iteration: int, until: int, yield_every: int = 16
    ) -> Iterator[bool]:
        """Do steps `self.step` … `until` − 1 of a stage, yielding True after every `yield_every` of them.

        `schedule` is the stage's own, its step 0 the first of the stage. Whenever it has yielded or been closed,
        everything else may be asked of the trainer (state, metrics, evaluate) without changing what comes after.
        It yields False where the device is behind and nothing was done: others may go on meanwhile. The steps
        are queued then, not over; `idle` tells. Raises IndexError where the schedule is shorter than `until`.
        """
        if until > schedules.length(schedule):
            raise IndexError(f"step {until} of a schedule of {schedules.length(schedule)} steps")
        first, rates = self.step, schedules.rates(schedule, self.step)
        while self.step < until:
            while self.lane.ahead() >= AHEAD:
                yield False
            with self.lane.queue():
                for _ in range(min(yield_every, until - self.step)):
                    self._advance(next(rates), seed, iteration)
                self.lane.mark()
            if (self.step - first) % yield_every == 0:
                yield True

    def _advance(self, rate: float, seed: int, iteration: int) -> None:
        """Queue one step."""
        if rate != self._rate:
            self.optimizer.lr.fill_(rate)
            self._rates.changed(self.step)
            self._rate = rate
        if not self.module.training:
            self.module.train()
        pixels, labels = self.batches.get(seed, iteration, self.step)
        self._do(pixels, labels)
        self._count += len(labels)
        self.step += 1

    def _do(self, pixels: Tensor, labels: Tensor) -> None:
        """The step, by its graph where there is one."""
        if self._training is not None:
            try:
                self._training.run(pixels, labels, self._zeros.variant)
                return
            except CaptureFailed as error:
                self._degrade(error)
                self._do(pixels, labels)
                return
        self._step(pixels, labels)

    def _degrade(self, error: CaptureFailed) -> None:
        """Do without what made recording fail: the fusion first, then the graphs."""
        for parameter in self.parameters.values():
            parameter.grad = None
        if self._forward is not self.module:
            self._forward = self.module
            self._notes.append(f"steps run without fused kernels: {error}")
        else:
            self._training = self._evaluation = None
            self._notes.append(f"steps run eagerly, not as CUDA graphs: {error}")

    def _changed(self) -> list[Tensor]:
        """All tensors that a step changes."""
        return [*self._tensors.values(), *self.optimizer.state().values(), *self._sums.values()]

    def idle(self) -> bool:
        """Whether the device has done all steps so far. Does not wait."""
        return self.lane.ahead() == 0

    def _step(self, pixels: Tensor, labels: Tensor) -> None:
        """Forward, backward, update, mask, accumulate. Must not read anything back from the device, nor change
        anything but tensors: a replay of it changes nothing else."""
        total = len(labels)
        size = self.settings.micro_batch or total
        for start in range(0, total, size):
            self._backward(pixels[start : start + size], labels[start : start + size], total)
        self.optimizer.step()
        with torch.no_grad():
            self._zeros.apply()

    def _backward(self, pixels: Tensor, labels: Tensor, total: int) -> None:
        """Forward and backward of images that are part of a batch of `total`; gradients and metrics add up."""
        count = len(labels)
        with self._precision():
            outputs = self._forward(self.normalize(pixels))
        loss = self.task.loss(outputs, labels)
        # Each part's mean weighs as much as it has images, so that the sum is the mean over the batch.
        part = loss if count == total else loss * (count / total)
        part.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self._sums["loss"].add_(loss.detach(), alpha=count)
            for name, value in self.task.training_sums(outputs.detach(), labels).items():
                self._sums[name].add_(value)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        """bf16 by autocast, with a context of its own for every step.

        The cache of autocast keeps casts of weights beyond their change in place, so it is off.
        """
        if self.settings.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    @_queued
    def lrs_applied(self) -> list[tuple[int, float]]:
        """Changes of the learning rate since last asked, as (step, rate), read from what the steps used."""
        return self._rates.take()

    # --- measuring ------------------------------------------------------------------------------

    @_queued
    def metrics(self, reset: bool = True) -> Metrics:
        """Averages over the training batches since the last reset, each under the weights of its step.

        The loss is the one minimised. NaN where there were no batches. Waits for the device once.
        """
        sums, count = _read(self._sums), self._count
        if reset:
            for total in self._sums.values():
                total.zero_()
            self._count = 0
        if count == 0:
            return Metrics(loss=float("nan"), accuracy=float("nan"), count=0)
        return self.task.metrics(sums, count)

    @_queued
    @torch.no_grad()
    def evaluate(self, split: Literal["test", "validation"]) -> Metrics | None:
        """Metrics of the present weights over a whole split, in evaluation mode; None where there is no such.

        Changes nothing that training depends on. Waits for the device once.
        """
        parts = self.images.parts(split, self._evaluation_batch())
        if parts is None:
            return None
        training = self.module.training
        self.module.eval()
        for total in self._totals.values():
            total.zero_()
        count = 0
        for pixels, labels in parts:
            self._measure(pixels, labels)
            count += len(labels)
        self.module.train(training)
        return self.task.metrics(_read(self._totals), count)

    def _evaluation_batch(self) -> int:
        """Images evaluated at once: fewer where they are large."""
        fit = EVALUATION_VALUES.get(self.device.type, 1 << 24) // math.prod(self.images.shape)
        return max(1, min(EVALUATION_BATCH.get(self.device.type, 1000), fit))

    def _measure(self, pixels: Tensor, labels: Tensor) -> None:
        """Evaluate one batch, by its graph where there is one."""
        if self._evaluation is not None:
            try:
                self._evaluation.run(pixels, labels)
                return
            except CaptureFailed as error:
                self._evaluation = None
                self._notes.append(f"evaluation runs eagerly, not as CUDA graphs: {error}")
        self._evaluate_batch(pixels, labels)

    @torch.no_grad()
    def _evaluate_batch(self, pixels: Tensor, labels: Tensor) -> None:
        with self._precision():
            outputs = self.module(self.normalize(pixels))
        for name, value in self.task.evaluation_sums(outputs, labels).items():
            self._totals[name].add_(value)


def _builder(network: NetworkSettings | Builder) -> Builder:
    if not isinstance(network, NetworkSettings):
        return network
    from prunectl.ml import networks

    def build(source: torch.Generator | None) -> nn.Module:
        return networks.build(network, source)

    return build


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    """On the device, with convolutions' weights in the layout of the images, channels last."""
    module = module.to(device)
    if any(parameter.ndim == 4 for parameter in module.parameters()):
        module = module.to(memory_format=torch.channels_last)
    return module


def fused(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The module with its kernels fused by torch.compile, for shapes that do not change."""
    import torch._dynamo

    # One code object serves all networks of a family; past the limit torch would go on unfused without a word.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 256)
    compiled: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False)
    return compiled


def _read(sums: dict[str, Tensor]) -> dict[str, float]:
    """All values with one wait for the device."""
    return dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))

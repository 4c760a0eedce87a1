"""Training one network: the one code path for every device.

A `Trainer` is an engine that stages are run on one after another: it is built once per network, data set and
recipe, and a stage begins by copying into its tensors, which never move. The step itself reads only tensors
(pixels, labels, learning rate, masks) and never waits for the device; nothing in it is random.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from prunectl.core import schedule as schedules
from prunectl.core import tasks
from prunectl.core.augment import Normalizer
from prunectl.core.datasets.images import Images
from prunectl.core.datasets.streamed import Streamed
from prunectl.core.layout import Layout
from prunectl.core.optimize import Optimizer, kernels
from prunectl.core.randomness import generator
from prunectl.core.rates import RateLog
from prunectl.core.schedule import Schedule
from prunectl.core.settings import NetworkSettings, TrainSettings
from prunectl.core.source import open_source
from prunectl.core.state import State, check, copied
from prunectl.core.tasks import Metrics, Task
from prunectl.core.zeros import Zeros

__all__ = ["Builder", "Metrics", "State", "Trainer"]

Builder = Callable[[torch.Generator | None], nn.Module]
"""Makes the network: freshly initialised from the generator, or with any values where that is None."""

EVALUATION_BATCH = {"cpu": 250, "cuda": 2000}
"""Images evaluated at once; part of the numerics, because sums depend on it in their last bits."""
EVALUATION_VALUES = {"cpu": 32 * 224 * 224 * 3, "cuda": 256 * 224 * 224 * 3}
"""Values of input evaluated at once, which makes it fewer images where they are large; so part of them, too."""


class Trainer:
    """Trains and evaluates one network on one data set; see the module's docstring."""

    def __init__(
        self,
        network: NetworkSettings | Builder,
        settings: TrainSettings,
        images: Images | Streamed,
        device: str | torch.device = "cpu",
        task: str = "classification",
    ) -> None:
        """`network` names one of `core.networks`, or builds any module of one's own.

        The weights are arbitrary until `initialise` or `load`.
        """
        self.device = torch.device(device)
        self.settings = settings
        self.images = images.on(self.device)
        self._build = _builder(network)
        self.module = _placed(self._build(None), self.device)
        self.task: Task = tasks.find(task)(settings, images.classes)
        self.batches = open_source(self.images, settings)
        self.normalize = Normalizer(settings.normalize, self.images.shape, self.device)
        self.parameters = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        self.optimizer = Optimizer(self.parameters, settings.optimizer)
        self._zeros = Zeros(self.parameters, kernels(self.parameters), self.optimizer.of)
        self.step = 0
        """Optimizer steps done in this stage."""
        self._tensors = {n: t.detach() for n, t in self.module.state_dict(keep_vars=True).items()}
        self._rate: float | None = None
        self._rates = RateLog(self.optimizer.rate)
        names = ("loss", *self.task.counted, "count")
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        self._sums = {name: zero.clone() for name in names}

    @property
    def layout(self) -> Layout:
        """How steps and epochs relate."""
        return self.batches.layout

    # --- states ---------------------------------------------------------------------------------

    @torch.no_grad()
    def initialise(self, seed: int, iteration: int) -> None:
        """Fresh weights from (seed, iteration), a fresh optimizer, no masks, step 0."""
        fresh = self._build(generator(seed, "init", iteration)).state_dict()
        self.set_masks(None)
        self.load(State(weights=fresh), optimizer=False)

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
        self._rates.restart(state.step)
        for name, total in self._sums.items():
            total.copy_(state.accumulators.get(name, torch.zeros(())))

    @torch.no_grad()
    def state(self) -> State:
        """Copies of everything, wherever the training stands."""
        self._zeros.clear()
        return State(
            weights=copied(self._tensors),
            optimizer=copied(self.optimizer.slots()),
            step=self.step,
            accumulators=copied(self._sums),
        )

    @torch.no_grad()
    def set_masks(self, masks: dict[str, Tensor] | None) -> None:
        """Prune: weights whose mask is False become zero and stay zero, and so do their momenta.

        Layers without a mask stay whole; None takes all masks away. Raises ValueError for a mask that fits no
        layer.
        """
        self._zeros.set(masks)

    def reset_optimizer(self) -> None:
        """As if no step had been made: zero momenta."""
        self.optimizer.reset()

    # --- training -------------------------------------------------------------------------------

    def train(
        self, schedule: Schedule, seed: int, iteration: int, until: int, yield_every: int = 16
    ) -> Iterator[None]:
        """Do steps `self.step` … `until` − 1 of a stage, yielding after every `yield_every` of them.

        `schedule` is the stage's own, its step 0 the first of the stage. Whenever it has yielded or been closed,
        everything else may be asked of the trainer (state, metrics, evaluate) without changing what comes after.
        Raises IndexError where the schedule is shorter than `until`.
        """
        if until > schedules.length(schedule):
            raise IndexError(f"step {until} of a schedule of {schedules.length(schedule)} steps")
        steps = range(self.step, until)
        for step, rate in zip(steps, schedules.rates(schedule, self.step), strict=False):
            if rate != self._rate:
                self.optimizer.rate.fill_(rate)
                self._rate = rate
            if not self.module.training:
                self.module.train()
            self._step(*self.batches.get(seed, iteration, step))
            self._rates.counted()
            self.step = step + 1
            if (self.step - steps.start) % yield_every == 0:
                yield

    def _step(self, pixels: Tensor, labels: Tensor) -> None:
        """Forward, backward, update, mask, accumulate. Must not read anything back from the device."""
        total = len(labels)
        size = self.settings.micro_batch or total
        for start in range(0, total, size):
            self._backward(pixels[start : start + size], labels[start : start + size], total)
        self._rates.note()
        self.optimizer.step()
        with torch.no_grad():
            self._zeros.apply()

    def _backward(self, pixels: Tensor, labels: Tensor, total: int) -> None:
        """Forward and backward of images that are part of a batch of `total`; gradients and metrics add up."""
        count = len(labels)
        with self._precision():
            outputs = self.module(self.normalize(pixels))
        loss = self.task.loss(outputs, labels)
        # Each part's mean weighs as much as it has images, so that the sum is the mean over the batch.
        part = loss if count == total else loss * (count / total)
        part.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self._sums["loss"].add_(loss.detach(), alpha=count)
            for name, value in self.task.training_sums(outputs.detach(), labels).items():
                self._sums[name].add_(value)
            self._sums["count"].add_(count)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        """bf16 by autocast, with a context of its own for every step.

        The cache of autocast keeps casts of weights beyond their change in place, so it is off.
        """
        if self.settings.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    def rates_applied(self) -> list[tuple[int, float]]:
        """Changes of the learning rate since last asked, as (step, rate), read from what the steps used."""
        return self._rates.take()

    # --- measuring ------------------------------------------------------------------------------

    def metrics(self, reset: bool = True) -> Metrics:
        """Averages over the training batches since the last reset, each under the weights of its step.

        The loss is the one minimised. NaN where there were no batches. Waits for the device once.
        """
        sums = _read(self._sums)
        if reset:
            for total in self._sums.values():
                total.zero_()
        count = int(sums.pop("count"))
        if count == 0:
            return Metrics(loss=float("nan"), accuracy=float("nan"), count=0)
        return self.task.metrics(sums, count)

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
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        totals: dict[str, Tensor] = {}
        count = 0
        for pixels, wanted in parts:
            with self._precision():
                outputs = self.module(self.normalize(pixels))
            for name, value in self.task.evaluation_sums(outputs, wanted).items():
                totals[name] = totals.get(name, zero) + value
            count += len(wanted)
        self.module.train(training)
        return self.task.metrics(_read(totals), count)

    def _evaluation_batch(self) -> int:
        """Images evaluated at once: fewer where they are large."""
        fit = EVALUATION_VALUES.get(self.device.type, 1 << 24) // math.prod(self.images.shape)
        return max(1, min(EVALUATION_BATCH.get(self.device.type, 1000), fit))


def _builder(network: NetworkSettings | Builder) -> Builder:
    if not isinstance(network, NetworkSettings):
        return network
    from prunectl.core import networks

    def build(source: torch.Generator | None) -> nn.Module:
        return networks.build(network, source)

    return build


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    """On the device, with convolutions' weights in the layout of the images, channels last."""
    module = module.to(device)
    if any(parameter.ndim == 4 for parameter in module.parameters()):
        module = module.to(memory_format=torch.channels_last)
    return module


def _read(sums: dict[str, Tensor]) -> dict[str, float]:
    """All values with one wait for the device."""
    return dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))

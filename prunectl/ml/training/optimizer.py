"""SGD and Adam whose state never moves in memory: a stage begins by zeroing it or copying into it.

A step is torch's functional `sgd` or `adam` with fused kernels, on every device. They alone take the learning rate
from a tensor without reading it back (foreach SGD calls .item(), and foreach Adam refuses a tensor), which a captured
step needs; on a CPU they are also one pass over memory. Momentum buffers exist from the start, as zeros: the same
bits as buffers made at the first step, without a first step that differs.

The classes `torch.optim.SGD` and `Adam` end in the same functions, but making the first one imports torch._dynamo and
SymPy: 1.5 to 1.9 s and 159 MiB in every worker process (torch 2.14). Calling the private kernels directly would save
about 15 μs of a step (LeNet-300-100: 1 % of 1.3 ms).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from prunectl.ml.training.loss_scale import LossScale
from prunectl.spec.settings import OptimizerSettings


def kernels(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The weights of convolutions and dense layers: all parameters that are not vectors."""
    return {name: parameter for name, parameter in parameters.items() if parameter.ndim > 1}


class Optimizer:
    """An optimizer over named parameters, with one learning rate for all of them."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        settings: OptimizerSettings,
        *,
        scaled: bool = False,
    ) -> None:
        """`scaled`: gradients are those of a loss that was multiplied by `loss_scale`."""
        self.parameters = dict(parameters)
        self.settings = settings
        device = next(iter(self.parameters.values())).device
        self.lr = torch.zeros((), device=device)
        """The learning rate that the next step uses: float32, 0-dim, filled in place."""
        self.loss_scale = LossScale(device) if scaled else None
        self._state = {name: _zero_state(p, settings) for name, p in self.parameters.items()}
        decayed = self.parameters if settings.decay == "all" else kernels(self.parameters)
        rest = [name for name in self.parameters if name not in decayed]
        self._groups = [(list(decayed), settings.weight_decay), (rest, 0.0)]
        """Names of parameters, and their weight decay."""

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients, and release those.

        A parameter without a gradient, which the loss does not depend on, stays as it is; and so does everything
        but the scale where a scaled gradient overflowed.
        """
        found: Tensor | None = None
        if self.loss_scale is not None:
            gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
            found = self.loss_scale.unscale(gradients)
        for names, weight_decay in self._groups:
            moved = [name for name in names if self.parameters[name].grad is not None]
            if moved:
                self._update(moved, weight_decay, found)
        if self.loss_scale is not None:
            self.loss_scale.update()
        for parameter in self.parameters.values():
            parameter.grad = None

    def _update(self, names: list[str], weight_decay: float, found: Tensor | None) -> None:
        """Update parameters, unless `found`, a tensor, is 1."""
        settings = self.settings
        parameters: list[Tensor] = [self.parameters[name] for name in names]
        gradients = [p.grad for p in parameters if p.grad is not None]
        state = {
            part: [self._state[name][part] for name in names] for part in self._state[names[0]]
        }
        if settings.name == "sgd":
            sgd(
                parameters,
                gradients,
                [*state.get("momentum_buffer", [])],
                fused=True,
                found_inf=found,
                lr=self.lr,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                weight_decay=weight_decay,
                dampening=0.0,
                maximize=False,
            )
        else:
            adam(
                parameters,
                gradients,
                state["exp_avg"],
                state["exp_avg_sq"],
                [],
                state["step"],
                fused=True,
                found_inf=found,
                lr=self.lr,
                beta1=settings.beta1,
                beta2=settings.beta2,
                eps=settings.eps,
                weight_decay=weight_decay,
                amsgrad=False,
                maximize=False,
            )

    def state(self) -> dict[str, Tensor]:
        """The state itself, not copies, by part and parameter, as in ``momentum_buffer/conv.weight``; the loss scale's
        parts by their names alone."""
        parts = {
            f"{part}/{name}": tensor
            for name, state in self._state.items()
            for part, tensor in state.items()
        }
        return parts | (self.loss_scale.state() if self.loss_scale else {})

    def reset(self) -> None:
        """Make the state in place what it was before the first step."""
        for state in self._state.values():
            for tensor in state.values():
                tensor.zero_()
        if self.loss_scale is not None:
            self.loss_scale.reset()

    def momenta(self, parameter: str) -> list[Tensor]:
        """The parts of the state that have the shape of the parameter."""
        shape = self.parameters[parameter].shape
        return [tensor for tensor in self._state[parameter].values() if tensor.shape == shape]


def _zero_state(parameter: nn.Parameter, settings: OptimizerSettings) -> dict[str, Tensor]:
    def zeros() -> Tensor:
        return torch.zeros_like(parameter, requires_grad=False)

    if settings.name == "sgd":
        return {"momentum_buffer": zeros()} if settings.momentum else {}
    step = torch.zeros((), device=parameter.device)
    return {"step": step, "exp_avg": zeros(), "exp_avg_sq": zeros()}

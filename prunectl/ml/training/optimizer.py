"""SGD and Adam, arranged so that nothing moves in memory: a stage begins by zeroing or copying into place.

A step is one call of torch's fused kernels, the same that `torch.optim` ends in, on every device: they alone take the
learning rate from a tensor without reading it back (the foreach kernels call .item(), and foreach Adam refuses a
tensor), which a captured step needs; on a CPU they are also one pass over memory. Momentum buffers are there from
the start, as zeros: the same bits as buffers made at the first step, without a first step that differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunectl.ml.training.state import check
from prunectl.spec.settings import OptimizerSettings


def kernels(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The weights of convolutions and dense layers: all parameters that are not vectors."""
    return {name: parameter for name, parameter in parameters.items() if parameter.ndim > 1}


@dataclass(frozen=True)
class _Group:
    """Parameters with one weight decay, and their slots in the same order."""

    parameters: list[Tensor]
    slots: dict[str, list[Tensor]]
    decay: float

    def moved(self) -> _Group:
        """Those that have a gradient: a parameter the loss does not depend on stays as it is."""
        which = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        slots = {slot: [tensors[i] for i in which] for slot, tensors in self.slots.items()}
        return _Group([self.parameters[i] for i in which], slots, self.decay)


class Optimizer:
    """An optimizer over named parameters, with one learning rate for all of them."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: OptimizerSettings) -> None:
        self.parameters = dict(parameters)
        self.settings = settings
        device = next(iter(self.parameters.values())).device
        self.rate = torch.zeros((), device=device)
        """The learning rate that the next step uses: float32, 0-dim, filled in place."""
        self._state = {name: _fresh(value, settings) for name, value in self.parameters.items()}
        decayed = self.parameters if settings.decay == "all" else kernels(self.parameters)
        rest = {name: p for name, p in self.parameters.items() if name not in decayed}
        self._groups = [
            self._group(names, decay)
            for names, decay in ((decayed, settings.weight_decay), (rest, 0.0))
            if names
        ]

    def _group(self, names: Mapping[str, nn.Parameter], decay: float) -> _Group:
        states = [self._state[name] for name in names]
        slots = {slot: [state[slot] for state in states] for slot in states[0]}
        return _Group(list(names.values()), slots, decay)

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients, which are then let go of."""
        update = self._sgd if self.settings.name == "sgd" else self._adam
        for group in self._groups:
            gradients = [p.grad for p in group.parameters if p.grad is not None]
            if len(gradients) == len(group.parameters):
                update(group, gradients)
            elif gradients:
                update(group.moved(), gradients)
            for parameter in group.parameters:
                parameter.grad = None

    def _sgd(self, group: _Group, gradients: list[Tensor]) -> None:
        torch._fused_sgd_(
            group.parameters,
            gradients,
            group.slots.get("momentum_buffer", []),
            weight_decay=group.decay,
            momentum=self.settings.momentum,
            lr=self.rate,
            dampening=0.0,
            nesterov=self.settings.nesterov,
            maximize=False,
            is_first_step=False,
        )

    def _adam(self, group: _Group, gradients: list[Tensor]) -> None:
        torch._foreach_add_(group.slots["step"], 1)
        torch._fused_adam_(
            group.parameters,
            gradients,
            group.slots["exp_avg"],
            group.slots["exp_avg_sq"],
            [],
            group.slots["step"],
            lr=self.rate,
            beta1=self.settings.beta1,
            beta2=self.settings.beta2,
            weight_decay=group.decay,
            eps=self.settings.eps,
            amsgrad=False,
            maximize=False,
        )

    def slots(self) -> dict[str, Tensor]:
        """The state itself, by ``slot/parameter``, as in ``momentum_buffer/conv.weight``."""
        return {
            f"{slot}/{name}": tensor
            for name, state in self._state.items()
            for slot, tensor in state.items()
        }

    def reset(self) -> None:
        """As if no step had been made."""
        for tensor in self.slots().values():
            tensor.zero_()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state made by the same settings into place. Raises ValueError where it is of others."""
        slots = self.slots()
        check(slots, state, "optimizer state")
        for name, tensor in slots.items():
            tensor.copy_(state[name])

    def of(self, parameter: str) -> list[Tensor]:
        """The parts of the state that have the shape of the parameter: its momenta."""
        shape = self.parameters[parameter].shape
        return [tensor for tensor in self._state[parameter].values() if tensor.shape == shape]


def _fresh(parameter: nn.Parameter, settings: OptimizerSettings) -> dict[str, Tensor]:
    if settings.name == "sgd":
        buffer = torch.zeros_like(parameter, requires_grad=False)
        return {"momentum_buffer": buffer} if settings.momentum else {}
    return {
        "step": torch.zeros((), device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, requires_grad=False),
        "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
    }

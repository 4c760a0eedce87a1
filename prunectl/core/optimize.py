"""SGD and Adam, arranged so that nothing moves in memory: a stage begins by zeroing or copying into place.

torch's fused kernels are used on every device: they alone take the learning rate from a tensor without reading it
back (the foreach kernels call .item(), and foreach Adam refuses a tensor), which a captured step needs; on a CPU
they are also one pass over memory. They are given momentum buffers from the start, as zeros: the same bits as
buffers made at the first step, without a first step that differs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunectl.core.settings import OptimizerSettings
from prunectl.core.state import check


def kernels(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The weights of convolutions and dense layers: all parameters that are not vectors."""
    return {name: parameter for name, parameter in parameters.items() if parameter.ndim > 1}


class Optimizer:
    """An optimizer over named parameters, with one learning rate for all of them."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: OptimizerSettings) -> None:
        self.parameters = dict(parameters)
        device = next(iter(self.parameters.values())).device
        self.rate = torch.zeros((), device=device)
        """The learning rate that the next step uses: float32, 0-dim, filled in place."""
        self._optimizer = self._make(self._groups(settings), settings)
        for parameter in self.parameters.values():
            self._optimizer.state[parameter] = self._fresh(parameter, settings)

    def _groups(self, settings: OptimizerSettings) -> list[dict[str, object]]:
        decayed = self.parameters if settings.decay == "all" else kernels(self.parameters)
        rest = [p for name, p in self.parameters.items() if name not in decayed]
        groups: list[dict[str, object]] = [
            {"params": list(decayed.values()), "weight_decay": settings.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def _make(
        self, groups: list[dict[str, object]], settings: OptimizerSettings
    ) -> torch.optim.Optimizer:
        if settings.name == "sgd":
            return torch.optim.SGD(
                groups,
                lr=self.rate,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                fused=True,
            )
        betas = (settings.beta1, settings.beta2)
        return torch.optim.Adam(groups, lr=self.rate, betas=betas, eps=settings.eps, fused=True)

    @staticmethod
    def _fresh(parameter: nn.Parameter, settings: OptimizerSettings) -> dict[str, Tensor]:
        if settings.name == "sgd":
            buffer = torch.zeros_like(parameter, requires_grad=False)
            return {"momentum_buffer": buffer} if settings.momentum else {}
        return {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
        }

    def step(self) -> None:
        """One update from the gradients, which are then let go of."""
        self._optimizer.step()
        for parameter in self.parameters.values():
            parameter.grad = None

    def slots(self) -> dict[str, Tensor]:
        """The state itself, by ``slot/parameter``, as in ``momentum_buffer/conv.weight``."""
        return {
            f"{slot}/{name}": tensor
            for name, parameter in self.parameters.items()
            for slot, tensor in self._optimizer.state[parameter].items()
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
        owner = self.parameters[parameter]
        return [t for t in self._optimizer.state[owner].values() if t.shape == owner.shape]

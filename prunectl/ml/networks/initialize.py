"""Fresh weights from a given CPU generator, and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Standard deviation of N(0, 1) cut off at ±2: √(1 − 4φ(2) / (2Φ(2) − 1)).
_CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))

Draw = Callable[[Tensor, torch.Generator], object]


class Undrawn(TorchFunctionMode):
    """Within it, layers are made without drawing the values that torch would give them.

    Those draws would move the global generator on the CPU, and load sympy for 0.6 s on the meta device.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # Both the methods of tensors and the functions of nn.init, which call the methods unseen.
        if func.__name__.endswith(("uniform_", "normal_")):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _he_uniform(weight: Tensor, generator: torch.Generator) -> None:
    """U(±√(6 / fan-in)): variance 2 / fan-in (He et al. 2015)."""
    limit = math.sqrt(6 / weight[0].numel())
    weight.uniform_(-limit, limit, generator=generator)


def _he_normal(weight: Tensor, generator: torch.Generator) -> None:
    """N(0, 2 / fan-in), not truncated (He et al. 2015)."""
    weight.normal_(0, math.sqrt(2 / weight[0].numel()), generator=generator)


def _pytorch(weight: Tensor, generator: torch.Generator) -> None:
    """U(±1 / √fan-in): torch's kaiming_uniform_ with a = √5, the default of Conv2d and Linear."""
    limit = 1 / math.sqrt(weight[0].numel())
    weight.uniform_(-limit, limit, generator=generator)


def _renda2020(weight: Tensor, generator: torch.Generator) -> None:
    """Convolutions: normal cut off at two sigmas with variance 1 / fan-in after the cut. Dense: N(0, 0.01²).

    Renda et al. call TensorFlow 1's variance_scaling_initializer() for convolutions. That its defaults are
    scale 1.0, fan-in, truncated normal is documented for TensorFlow 2 and from memory for 1: unverified.
    """
    if weight.dim() == 2:
        weight.normal_(0, 0.01, generator=generator)
        return
    sigma = math.sqrt(1 / weight[0].numel()) / _CUT
    nn.init.trunc_normal_(weight, 0, sigma, -2 * sigma, 2 * sigma, generator=generator)


_DRAWS: dict[str, Draw] = {
    "he-uniform": _he_uniform,
    "he-normal": _he_normal,
    "pytorch": _pytorch,
    "renda2020": _renda2020,
}


@torch.no_grad()
def initialise(network: nn.Module, initializer: str, generator: torch.Generator) -> None:
    """Give every layer of `network` fresh values, in place and on whatever device it is.

    Kernels are drawn by `initializer` (see `NetworkSettings`) in the order of the layers, on the CPU, in float32.
    Biases are 0 (``pytorch``: U(±1 / √fan-in), after their kernel), BatchNorm is the identity.
    Raises ValueError for a generator that is not on the CPU: it would give other numbers.
    """
    if generator.device.type != "cpu":
        raise ValueError(f"initialisation is drawn on the CPU, not on {generator.device}")
    draw = _DRAWS[initializer]
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = torch.empty(module.weight.shape, device="cpu")
            draw(weight, generator)
            module.weight.copy_(weight)
            if module.bias is not None:
                bias = torch.zeros(module.bias.shape, device="cpu")
                if initializer == "pytorch":
                    limit = 1 / math.sqrt(weight[0].numel())
                    bias.uniform_(-limit, limit, generator=generator)
                module.bias.copy_(bias)
        elif isinstance(module, nn.BatchNorm2d):
            _identity(module)


@torch.no_grad()
def blank(network: nn.Module) -> None:
    """Zero kernels and biases, BatchNorm the identity: defined values without drawing any."""
    for parameter in network.parameters():
        parameter.zero_()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            _identity(module)


def _identity(norm: nn.BatchNorm2d) -> None:
    norm.weight.fill_(1)
    norm.bias.zero_()
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.zero_()
        norm.running_var.fill_(1)

"""The layers of a network that have kernels, and which of them may be pruned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from torch import nn

from prunectl.ml.network_summary import Layer, Role, without

_SHORTCUTS = {"shortcut", "downsample"}  # ours and torchvision's


def layer_name(parameter: str) -> str:
    """The layer of a kernel: ``stem.conv.weight`` to ``stem.conv``."""
    return parameter.removesuffix(".weight")


def layers(network: nn.Module) -> list[Layer]:
    """Every convolution and dense layer, in the order the network is built in, which is from input to output."""
    found: list[tuple[str, Literal["conv", "dense"]]] = [
        (name, "conv" if isinstance(module, nn.Conv2d) else "dense")
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    return [
        Layer(name, kind, _role(name, place, len(found)))
        for place, (name, kind) in enumerate(found)
    ]


def _role(name: str, place: int, count: int) -> Role:
    if place == 0:
        return "first"
    if place == count - 1:
        return "last"
    return "shortcut" if _SHORTCUTS.intersection(name.split(".")) else "hidden"


def prunable_layers(network: nn.Module, exclude: Collection[str] = ()) -> list[Layer]:
    """The layers whose kernels may be pruned: all of them but those that `exclude` names by role or name.

    The first layer's and the shortcuts' kernels included, no biases and no BatchNorm; their number of weights is what
    densities are fractions of. Raises UnknownName as `without`.
    """
    return without(layers(network), exclude)


def batchnorm_names(network: nn.Module) -> set[str]:
    """Names of BatchNorm's parameters and running statistics in a state dict."""
    return {
        f"{name}.{inner}"
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for inner in module.state_dict()
    }

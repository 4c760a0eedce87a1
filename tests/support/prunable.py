"""The prunable kernels of a network, and masks for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from prunectl.ml.pruning.layers import prunable_layers


def prunable(network: nn.Module, exclude: Collection[str] = ()) -> dict[str, nn.Parameter]:
    """The kernels that may be pruned, by parameter name (``stages.0.1.conv1.weight``), in order."""
    return {
        layer.parameter: network.get_parameter(layer.parameter)
        for layer in prunable_layers(network, exclude)
    }


def some_masks(parameters: Mapping[str, Tensor], density: float = 0.3) -> dict[str, Tensor]:
    """Masks that keep about this share of each kernel, always the same weights."""
    source = torch.Generator().manual_seed(9)
    return {
        name: torch.rand(weight.shape, generator=source) < density
        for name, weight in parameters.items()
        if weight.ndim > 1
    }

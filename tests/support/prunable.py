"""The prunable kernels of a network."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from prunectl.ml.pruning.layers import prunable_layers


def prunable(network: nn.Module, exclude: Collection[str] = ()) -> dict[str, nn.Parameter]:
    """The kernels that may be pruned, by parameter name (``stages.0.1.conv1.weight``), in order."""
    return {
        layer.parameter: network.get_parameter(layer.parameter)
        for layer in prunable_layers(network, exclude)
    }

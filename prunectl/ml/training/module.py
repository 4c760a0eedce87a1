"""The network that a trainer trains: made, placed on its device, fused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from prunectl.ml.networks.build import build
from prunectl.spec.settings import NetworkSettings

Builder = Callable[[torch.Generator | None], nn.Module]
"""Makes the network: freshly initialised from the generator, or with any values where that is None."""


def builder(network: NetworkSettings | Builder) -> Builder:
    """Return what makes the network: the one that settings name, or the builder itself."""
    return partial(build, network) if isinstance(network, NetworkSettings) else network


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a module to the device, with convolutions' weights in the layout of the images, channels last."""
    module = module.to(device)
    if any(parameter.ndim == 4 for parameter in module.parameters()):
        module = module.to(memory_format=torch.channels_last)
    return module


def fused(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the module's forward with kernels fused by torch.compile, for shapes that do not change."""
    import torch._dynamo

    # One code object serves all networks of a family; past the limit torch would go on unfused without a word.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 256)
    compiled: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False)
    return compiled

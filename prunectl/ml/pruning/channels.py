"""Masks of whole channels: a convolution's filters, a dense layer's input features (Mikler 2021)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from prunectl.errors import UnknownName
from prunectl.ml.network_summary import Layer
from prunectl.ml.pruning.channel_graph import norms, readers
from prunectl.ml.pruning.scores import highest_alive, winners
from prunectl.spec.density import Competition, kept


def channel_magnitudes(kernels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return per layer each channel's mean magnitude, float32, pruned weights counting 0.

    Summed in float64: what the order of the sum, which may differ between machines, changes is rounded away.
    """
    return {
        name: _channels_first(kernel).abs().double().mean(dim=1).float()
        for name, kernel in kernels.items()
    }


def keep_channels(
    scores: Mapping[str, Tensor], alive: Mapping[str, Tensor], plan: Sequence[Competition]
) -> dict[str, Tensor]:
    """Return masks that keep whole channels by descending score until the next would pass a competition's count.

    `scores` hold one number per channel, `alive` the masks before.
    """
    sizes = {name: _channels_first(mask).sum(dim=1) for name, mask in alive.items()}
    kept_channels = winners(scores, sizes, plan, _fitting)
    return {name: _weights_of(keep, alive[name]) for name, keep in kept_channels.items()}


def _fitting(scores: Tensor, sizes: Tensor, count: int) -> Tensor:
    """Return a mask of the channels that hold `count` weights together, or the next fewer."""
    # Dead channels have nothing to keep; they go last so that they cannot stand in a live one's place.
    order = torch.argsort(torch.where(sizes > 0, scores, -torch.inf), descending=True, stable=True)
    keep = torch.zeros(scores.shape, dtype=torch.bool)
    keep[order[sizes[order].cumsum(0) <= count]] = True
    return keep


def drop_filters(
    network: nn.Module,
    prunable: Collection[Layer],
    scores: Mapping[str, Tensor],
    alive: Mapping[str, Tensor],
    ratios: Mapping[str, str],
) -> dict[str, Tensor]:
    """Li et al. 2017: of each named layer's dense filters, the given fraction is gone, smallest L1 norms first.

    The mean orders a layer's filters as their L1 norm does. Filters kept are round(count·(1 − fraction)). The
    next convolution's inputs from filters that are gone go with them, as in Li et al.; only so are the densities
    Renda et al. published met (ResNet-110-A: 0.977263). Raises UnknownName for a layer that is not prunable.
    """
    kernels = {layer.name: layer.parameter for layer in prunable}
    for name in ratios:
        if name not in kernels:
            raise UnknownName("layer", name, kernels)
    reader = readers(network)
    result = dict(alive)
    for name, ratio in ratios.items():
        kernel = kernels[name]
        left = _channels_first(alive[kernel]).any(dim=1)
        count = kept(len(left), 1 - Fraction(ratio))
        keep = highest_alive(scores[kernel], left, min(count, int(left.sum())))
        result[kernel] = _weights_of(keep, result[kernel])
        if reader.get(name) in kernels:
            inputs = kernels[reader[name]]
            result[inputs] = result[inputs] & keep.view(1, -1, 1, 1)
    return result


def dead_channels(network: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return masks for the BatchNorm parameters of channels whose filter is entirely pruned.

    A filter of zeros makes a constant, β − γμ/σ, of its channel; with γ and β masked too, the channel is zero.
    Only where a BatchNorm directly follows the convolution, and only those with a dead channel are in the result.
    For granularity ``channel`` and for ratios: neither paper does this where single weights are pruned.
    """
    result: dict[str, Tensor] = {}
    for conv, norm in norms(network).items():
        mask = masks.get(f"{conv}.weight")
        if mask is None:
            continue
        channels = mask.flatten(1).any(dim=1).cpu()
        if not channels.all():
            result[f"{norm}.weight"] = channels
            result[f"{norm}.bias"] = channels.clone()
    return result


def _channels_first(kernel: Tensor) -> Tensor:
    """The kernel as [channels, weights of each]."""
    return kernel.flatten(1) if kernel.dim() == 4 else kernel.t()


def _weights_of(channels: Tensor, alive: Tensor) -> Tensor:
    """The alive weights of the channels that are kept."""
    shape = [-1, 1, 1, 1] if alive.dim() == 4 else [1, -1]
    return alive & channels.view(shape)

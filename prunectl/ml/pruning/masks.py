"""Masks: which weights are kept. Exact counts, deterministic ties, and masks that only shrink.

A mask is a boolean CPU tensor per prunable kernel, True where the weight is kept. Scores are float32 whatever the
weights are; what is kept are the k highest of those still alive, equal scores in flat order (layers in the
network's order, row-major within a layer), as a stable descending argsort would have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunectl.errors import PrunectlError
from prunectl.ml.network_summary import Layer
from prunectl.ml.pruning.channels import channel_magnitudes, drop_filters, keep_channels
from prunectl.ml.pruning.layers import layer_name, prunable_layers
from prunectl.ml.pruning.scores import highest_alive, score, winners
from prunectl.spec.density import Competition, competitions, kept
from prunectl.spec.settings import PruneSettings

Masks = dict[str, Tensor]
"""By parameter name; absent names are whole."""


class NonFiniteWeights(PrunectlError):
    """Weights to be scored hold NaN or infinity: training has diverged, and nothing is pruned from that."""


def next_masks(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    parent_masks: Mapping[str, Tensor] | None,
    settings: PruneSettings,
    generator: torch.Generator | None = None,
) -> Masks:
    """Return the masks that `settings` keep of `weights`, within `parent_masks`.

    `network` gives names and roles only and may be on the meta device; `weights` hold at least its prunable
    kernels by parameter name, on any device and in any precision, and are not changed. Parent masks of anything
    else (BatchNorm, from `dead_channels`) are ignored. `generator` is a CPU generator for criteria that draw.

    With granularity ``weight``, exactly round(N·density) weights are kept, N counting the dense prunable ones.
    With ``channel``, whole channels are kept by descending mean score until the next would pass that number: the
    density reached is at most the one asked for, and a layer with less room than one channel loses all of them
    (see `dead_layers`). `settings.ratios` overrule density, scope and granularity: of
    the layers they name whole filters go, and the next convolution's inputs from these.

    Raises NonFiniteWeights, ImpossibleDensity where the density cannot be met, UnknownName for a layer or
    criterion.
    """
    chosen = prunable_layers(network, settings.exclude)
    kernels = {layer.parameter: weights[layer.parameter].detach().cpu() for layer in chosen}
    for name, kernel in kernels.items():
        if not torch.isfinite(kernel).all():
            raise NonFiniteWeights(f"{layer_name(name)} holds weights that are not finite")
    alive = {name: _parent(name, kernel, parent_masks or {}) for name, kernel in kernels.items()}
    masked = {name: kernel.float() * alive[name] for name, kernel in kernels.items()}
    if settings.ratios:
        scores = score(channel_magnitudes(masked), settings.criterion, generator)
        return drop_filters(network, chosen, scores, alive, dict(settings.ratios))
    plan = _competitions(chosen, alive, settings)
    if settings.granularity == "channel":
        scores = score(channel_magnitudes(masked), settings.criterion, generator)
        return keep_channels(scores, alive, plan)
    return winners(score(masked, settings.criterion, generator), alive, plan, highest_alive)


def dead_layers(masks: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the layers that have no weight left."""
    return [layer_name(name) for name, mask in masks.items() if mask.dim() > 1 and not mask.any()]


def _parent(name: str, kernel: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
    if name not in parents:
        return torch.ones(kernel.shape, dtype=torch.bool)
    mask = parents[name].cpu().bool()
    if mask.shape != kernel.shape:
        raise ValueError(f"{name}: a mask of {tuple(mask.shape)} for {tuple(kernel.shape)}")
    return mask


def _competitions(
    chosen: Sequence[Layer], alive: Mapping[str, Tensor], settings: PruneSettings
) -> list[Competition]:
    sizes = {name: mask.numel() for name, mask in alive.items()}
    left = {name: int(mask.sum()) for name, mask in alive.items()}
    total = kept(sum(sizes.values()), settings.density)
    if settings.granularity == "channel":
        # Whole channels may already have left fewer than the next density asks for: then nothing is cut.
        total = min(total, sum(left.values()))
    ends = [layer.parameter for layer in chosen if layer.role in ("first", "last")]
    return competitions(sizes, left, ends, settings.scope, total)

"""Layers, weights and cost of a network, found in milliseconds by sending an empty batch through it.

Cost is counted in MACs: one multiply-add per weight of a convolution or dense layer and position of its output,
for one image; kernels are counted whole at padded borders. BatchNorm, biases, activations, pooling and additions
count nothing. (Renda et al.'s counter includes more: 41,886,986 for their ResNet-20, where this one says
41,075,328.) A pruned weight saves its MACs wherever it sits; whether a device runs faster for it is another
question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from prunectl.errors import PrunectlError, UnknownName
from prunectl.ml.criteria import registry as criteria
from prunectl.ml.networks.build import skeleton
from prunectl.ml.pruning.channel_graph import readers
from prunectl.ml.pruning.layers import Layer, layers, prunable_layers
from prunectl.spec.density import competitions, kept
from prunectl.spec.settings import NetworkSettings, PruneSettings


class NetworkMisfit(PrunectlError):
    """A network that cannot take the data's images or does not give the outputs asked for."""


@dataclass(frozen=True)
class LayerInfo(Layer):
    """A convolution or dense layer with its size and cost."""

    shape: tuple[int, ...]
    """[out, in, height, width] or [out, in]."""
    weights: int
    """Of the kernel alone, without bias."""
    macs: int
    prunable: bool


@dataclass(frozen=True)
class NetworkSummary:
    """A network's layers in order, and what they add up to."""

    parameters: int
    """Trainable ones: kernels, biases, BatchNorm's γ and β."""
    layers: tuple[LayerInfo, ...]

    @property
    def prunable(self) -> int:
        """Weights that densities are fractions of."""
        return sum(layer.weights for layer in self.layers if layer.prunable)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image through the dense network."""
        return sum(layer.macs for layer in self.layers)

    def weights_kept(self, masks: Mapping[str, Tensor]) -> int:
        """Prunable weights that the masks keep; a layer without a mask is whole."""
        return self.prunable - sum(_pruned(masks, layer) for layer in self.layers if layer.prunable)

    def macs_kept(self, masks: Mapping[str, Tensor]) -> int:
        """Multiply-adds of one image with the weights that are kept."""
        return sum(
            layer.macs // layer.weights * (layer.weights - _pruned(masks, layer))
            for layer in self.layers
        )

    def parameters_kept(self, masks: Mapping[str, Tensor]) -> int:
        """Trainable parameters that are not masked, BatchNorm's of dead channels included in the masks."""
        return self.parameters - sum(int((~mask.bool()).sum()) for mask in masks.values())


def _pruned(masks: Mapping[str, Tensor], layer: LayerInfo) -> int:
    mask = masks.get(layer.parameter)
    return 0 if mask is None else mask.numel() - int(mask.sum())


@lru_cache(maxsize=256)
def summarise(settings: NetworkSettings, exclude: tuple[str, ...] = ()) -> NetworkSummary:
    """Summarise a network, with `exclude` (see `ml.pruning.layers`) not prunable.

    Raises UnknownName for the network or an excluded layer, NetworkMisfit where the network cannot take images of
    `settings.shape` or `settings.classes` is below 1.
    """
    if settings.classes < 1 or min(settings.shape) < 1:
        raise _misfit(settings, "there must be at least one output and one pixel")
    try:
        network = skeleton(settings, "cpu")
    except (ValueError, RuntimeError) as error:
        raise _misfit(settings, str(error)) from error
    outputs = _output_shapes(network, settings)
    chosen = {layer.name for layer in prunable_layers(network, exclude)}
    infos = []
    for layer in layers(network):
        shape = tuple(network.get_parameter(layer.parameter).shape)
        weights = torch.Size(shape).numel()
        positions = outputs[layer.name][2:].numel()
        infos.append(
            LayerInfo(
                **vars(layer),
                shape=shape,
                weights=weights,
                macs=weights * positions,
                prunable=layer.name in chosen,
            )
        )
    return NetworkSummary(sum(p.numel() for p in network.parameters()), tuple(infos))


def check(network: NetworkSettings, prune: PruneSettings) -> int:
    """Return how many weights `prune` would keep of the dense network: exactly, but for channels, where it is at most
    that many.

    Raises here what a worker would raise when it prunes: UnknownName for a criterion or a layer,
    ImpossibleDensity for a scope without room, and all that `summarise` raises.
    """
    criteria.find(prune.criterion)
    summary = summarise(network, prune.exclude)
    chosen = [layer for layer in summary.layers if layer.prunable]
    if prune.ratios:
        for name, ratio in prune.ratios:
            if name not in {layer.name for layer in chosen}:
                raise UnknownName("layer", name, [layer.name for layer in chosen])
            kept(1, ratio)
        return _kept_by_ratios(chosen, dict(prune.ratios), _readers(network))
    sizes = {layer.parameter: layer.weights for layer in chosen}
    ends = [layer.parameter for layer in chosen if layer.role in ("first", "last")]
    count = kept(summary.prunable, prune.density)
    competitions(sizes, sizes, ends, prune.scope, count)
    return count


def _kept_by_ratios(
    chosen: list[LayerInfo], ratios: Mapping[str, str], reader: Mapping[str, str]
) -> int:
    """Return how many weights have both their filter and their input kept: what `masks` leaves of the dense network."""
    channels = {layer.name: layer.shape[0 if layer.kind == "conv" else 1] for layer in chosen}
    left = {name: kept(channels[name], 1 - Fraction(ratio)) for name, ratio in ratios.items()}
    inputs = {reader[name]: count for name, count in left.items() if name in reader}
    total = 0
    for layer in chosen:
        out, into = layer.shape[:2]
        if layer.kind == "dense":
            total += out * left.get(layer.name, into)
        else:
            kernel = layer.weights // (out * into)
            total += left.get(layer.name, out) * inputs.get(layer.name, into) * kernel
    return total


@lru_cache(maxsize=256)
def _readers(settings: NetworkSettings) -> dict[str, str]:
    return readers(skeleton(settings))


def _misfit(settings: NetworkSettings, reason: str) -> NetworkMisfit:
    shape = "×".join(map(str, settings.shape))
    return NetworkMisfit(
        f"{settings.name} does not fit images of {shape} and {settings.classes} outputs: {reason}"
    )


def _output_shapes(network: nn.Module, settings: NetworkSettings) -> dict[str, torch.Size]:
    """The shape each layer's output has for one image, by the layer's name."""
    shapes: dict[str, torch.Size] = {}
    entered = "its input"

    def enter(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal entered
        entered = f"{name}, at {'×'.join(map(str, inputs[0].shape[1:]))}"

    def leave(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        shapes[name] = output.shape

    for name, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_pre_hook(partial(enter, name))
            module.register_forward_hook(partial(leave, name))
    try:
        with torch.no_grad():
            logits = network.eval()(torch.empty((0, *settings.shape)))
    except (RuntimeError, ValueError) as error:
        raise _misfit(settings, f"it fails in or after {entered}") from error
    if logits.shape != (0, settings.classes):
        raise _misfit(settings, f"its output is {tuple(logits.shape)}")
    return shapes

"""Layers, weights and cost of a network, and what prunings keep of it; torch-free, `ml.summarise` makes it.

Cost is counted in theoretical MACs: one multiply-add per weight of a convolution or dense layer and position of its
output, for one image; kernels are counted whole at padded borders. BatchNorm, biases, activations, pooling and
additions count nothing. (Renda et al.'s counter includes more: 41,886,986 for their ResNet-20, where this one says
41,075,328.) A pruned weight saves its MACs wherever it sits; whether a device runs faster for it is another
question.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from prunectl.errors import UnknownName
from prunectl.ml.criteria import registry as criteria
from prunectl.spec.density import competitions, kept
from prunectl.spec.settings import NetworkSettings, PruneSettings, Shape

if TYPE_CHECKING:  # commands read summaries in milliseconds, and torch takes more than a second
    from torch import Tensor

Role = Literal["first", "shortcut", "hidden", "last"]

ROLES: dict[str, Role] = {"first": "first", "shortcuts": "shortcut", "last": "last"}
"""What a plan may exclude by role, beside single layers by name."""


class Layer(msgspec.Struct, frozen=True):
    """A convolution or dense layer: `name` as in ``stages.0.1.conv1``, its kernel is ``{name}.weight``."""

    name: str
    kind: Literal["conv", "dense"]
    role: Role

    @property
    def parameter(self) -> str:
        """The kernel's name in a state dict."""
        return f"{self.name}.weight"


class LayerInfo(Layer, frozen=True):
    """A convolution or dense layer with its size and cost."""

    shape: tuple[int, ...]
    """[out, in, height, width] or [out, in]."""
    weights: int
    """Of the kernel alone, without bias."""
    macs: int
    prunable: bool = True


AnyLayer = TypeVar("AnyLayer", bound=Layer)


def without(layers: Sequence[AnyLayer], exclude: Collection[str]) -> list[AnyLayer]:
    """Return the layers but for those that `exclude` names by role or name.

    Raises UnknownName for a name that is neither; a role that no layer has is no mistake.
    """
    for word in exclude:
        if word not in ROLES and word not in {layer.name for layer in layers}:
            raise UnknownName("layer", word, [*ROLES, *(layer.name for layer in layers)])
    roles = {ROLES[word] for word in exclude if word in ROLES}
    return [layer for layer in layers if layer.role not in roles and layer.name not in exclude]


class NetworkSummary(msgspec.Struct, frozen=True):
    """A network's layers in order, and what they add up to."""

    parameters: int
    """Trainable ones: kernels, biases, BatchNorm's γ and β."""
    layers: tuple[LayerInfo, ...]
    readers: dict[str, str] | None = None
    """The convolution that alone reads each convolution's channels, by name; None where nobody asked."""
    smallest_batch: int = 1
    """Images that it must be given at once in training; 1 also where nobody asked."""
    fewer_fail: str = ""
    """Where it fails with one image less."""

    @property
    def prunable(self) -> int:
        """Weights that densities are fractions of."""
        return sum(layer.weights for layer in self.layers if layer.prunable)

    @property
    def macs(self) -> int:
        """Theoretical MACs of the dense network."""
        return sum(layer.macs for layer in self.layers)

    def excluding(self, exclude: Collection[str]) -> NetworkSummary:
        """Return the summary with these layers, named as in `without`, not prunable. Raises UnknownName."""
        chosen = {layer.name for layer in without(self.layers, exclude)}
        layers = (replace(layer, prunable=layer.name in chosen) for layer in self.layers)
        return replace(self, layers=tuple(layers))

    def kept_by(self, prune: PruneSettings) -> int:
        """Return how many weights `prune` would keep of the dense network: exactly, but for channels, where it is at
        most that many. Filter ratios need the summary's `readers`.

        Raises here what a worker would raise when it prunes: UnknownName for a criterion or a layer,
        ImpossibleDensity for a scope without room.
        """
        criteria.find(prune.criterion)
        chosen = without(self.layers, prune.exclude)
        if prune.ratios:
            for name, ratio in prune.ratios:
                if name not in {layer.name for layer in chosen}:
                    raise UnknownName("layer", name, [layer.name for layer in chosen])
                kept(1, ratio)
            assert self.readers is not None
            return _kept_by_ratios(chosen, dict(prune.ratios), self.readers)
        sizes = {layer.parameter: layer.weights for layer in chosen}
        ends = [layer.parameter for layer in chosen if layer.role in ("first", "last")]
        count = kept(sum(sizes.values()), prune.density)
        competitions(sizes, sizes, ends, prune.scope, count)
        return count

    def weights_kept(self, masks: Mapping[str, Tensor]) -> int:
        """Prunable weights that the masks keep; a layer without a mask is whole."""
        return self.prunable - sum(_pruned(masks, layer) for layer in self.layers if layer.prunable)

    def macs_kept(self, masks: Mapping[str, Tensor]) -> int:
        """Theoretical MACs of the weights that are kept."""
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


def _kept_by_ratios(
    chosen: Sequence[LayerInfo], ratios: Mapping[str, str], reader: Mapping[str, str]
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


class Question(msgspec.Struct, frozen=True):
    """What the process `ml.summarise` is asked: a line of JSON."""

    network: NetworkSettings
    readers: bool
    """Whether the summary is to say which convolution reads which."""


class Answer(msgspec.Struct, frozen=True):
    """What it answers: a line of JSON."""

    summary: NetworkSummary | None = None
    misfit: str = ""
    """The text of a NetworkMisfit, where there is no summary."""
    fits: Shape | None = None
    """Of a NetworkMisfit."""

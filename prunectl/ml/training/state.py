"""The state of a training: the content of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Copies on the CPU, in the ordinary layout. Pruned weights and their momenta are exactly zero."""

    weights: dict[str, Tensor]
    """Parameters and buffers (BatchNorm's statistics) by name."""
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    """By slot and parameter, as in ``momentum_buffer/conv.weight``."""
    step: int = 0
    """Steps done in the stage."""
    accumulators: dict[str, Tensor] = field(default_factory=dict)
    """Sums behind the training metrics since they were last reset; without them they begin at zero."""


def check(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor], what: str) -> None:
    """Raise ValueError where names or shapes of the values are not those of the tensors, naming the first."""
    if tensors.keys() != values.keys():
        odd = min(tensors.keys() ^ values.keys())
        raise ValueError(
            f"{what} of something else: {odd} is {'' if odd in values else 'not '}there"
        )
    for name, tensor in tensors.items():
        if tensor.shape != values[name].shape:
            found, wanted = tuple(values[name].shape), tuple(tensor.shape)
            raise ValueError(
                f"{what} of something else: {name} has the shape {found}, not {wanted}"
            )

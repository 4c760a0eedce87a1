"""Random scores: the control that a criterion has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def score(weights: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
    """Return uniform random scores, whatever the weights are. Raises ValueError without a generator."""
    if generator is None:
        raise ValueError("the random criterion needs a generator")
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()}

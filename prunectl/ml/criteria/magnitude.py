"""Large weights matter: score |w| (Han et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def score(weights: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
    """Return |w| of every weight."""
    return {name: weight.abs() for name, weight in weights.items()}

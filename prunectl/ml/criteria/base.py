"""What a criterion is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Criterion(Protocol):
    """Scores weights; those with the highest scores are kept."""

    def __call__(
        self, weights: Mapping[str, Tensor], generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Return one finite float32 score per weight, by the same names and in the same shapes.

        `weights` are float32 CPU tensors with pruned weights at zero; they must not be changed. For channels
        they are the mean magnitudes of the channels, one element each. `generator` is a CPU generator and the
        only source of randomness; criteria that draw nothing do not need one.
        """
        ...

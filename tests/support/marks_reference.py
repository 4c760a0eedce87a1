"""Marks of a column as the page promises them, in plain Python and SciPy: nothing of the package is used."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import t

Scores = Mapping[str, Mapping[int, float]]
"""By method and seed, higher is better."""


@dataclass(frozen=True)
class Marks:
    """What a column shows."""

    star: str | None
    tied: frozenset[str]
    contenders: frozenset[str]
    ranks: Mapping[str, int]


def differences(scores: Scores, a: str, b: str) -> list[float]:
    """a minus b in each seed that both have."""
    return [scores[a][seed] - scores[b][seed] for seed in scores[a] if seed in scores[b]]


def is_beaten(scores: Scores, a: str, b: str, rivals: int, resolution: float) -> bool:
    """Whether b beats a."""
    ahead = differences(scores, b, a)
    if len(ahead) < 2 or statistics.fmean(ahead) < 1e-9:
        return False
    error = max(statistics.stdev(ahead), resolution) / math.sqrt(len(ahead))
    if error < 1e-9:
        return True
    return statistics.fmean(ahead) / error > t.isf(0.05 / rivals, len(ahead) - 1)


def marks(
    scores: Scores,
    failed: Mapping[str, set[int]],
    cells: Mapping[str, str],
    resolution: float = 0.0,
) -> Marks:
    """Mark a column: `failed` are the seeds in which a method diverged or collapsed; of equals the first cell leads."""
    uneven = {
        a
        for a in scores
        if any(
            seed in scores[a] and any(seed in scores[b] and seed not in failed[b] for b in scores)
            for seed in failed[a]
        )
    }
    contenders = {a for a in scores if len(scores[a]) >= 3 and a not in uneven}
    rivals = len(contenders) - 1
    unbeaten = {
        a
        for a in contenders
        if not any(is_beaten(scores, a, b, rivals, resolution) for b in contenders - {a})
    }
    shared = set.intersection(*(set(scores[a]) for a in unbeaten)) if unbeaten else set()
    means = {
        a: statistics.fmean(
            score for seed, score in scores[a].items() if not shared or seed in shared
        )
        for a in unbeaten
    }
    star = min(means, key=lambda a: (-round(means[a], 9), cells[a]), default=None)
    ranks = {a: 1 + sum(_is_ahead(scores, b, a) for b in scores if b != a) for a in scores}
    return Marks(star, frozenset(unbeaten - {star}), frozenset(contenders), ranks)


def _is_ahead(scores: Scores, a: str, b: str) -> bool:
    apart = differences(scores, a, b) or [
        statistics.fmean(scores[a].values()) - statistics.fmean(scores[b].values())
    ]
    return statistics.fmean(apart) > 1e-9

"""Means with confidence intervals of small samples, and compression without loss.

Plain floats in and out. Median and standard deviation are Python's own `statistics`, quantiles
SciPy's, as in the database's table `t_quantiles`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunectl.spec.task import Metric

PERCENTAGE_LOSSES = (0.0, 0.25, 0.5, 1.0)
"""Percentage points that count as "no loss", one column of `rank --summary` each."""


def losses(metric: Metric) -> tuple[float, ...]:
    """Return how much worse than dense counts as "no loss"; of what is no percentage nobody can say but 0."""
    return PERCENTAGE_LOSSES if metric.unit == "%" else (0.0,)


@dataclass(frozen=True)
class Interval:
    """The mean of `n` values and half its 95 % confidence interval (Student's t)."""

    mean: float
    std: float | None
    """Sample standard deviation (n − 1); None below n = 2."""
    n: int
    half: float | None
    """None below n = 2, whose interval is everything."""

    @property
    def low(self) -> float:
        return self.mean - self.half if self.half is not None else -math.inf

    @property
    def high(self) -> float:
        return self.mean + self.half if self.half is not None else math.inf


def interval(values: Sequence[float]) -> Interval:
    """Compute mean and confidence interval. Raises statistics.StatisticsError (a ValueError) without values."""
    # SciPy takes 0.3 s to import beside NumPy: `rank` and the terminal UI must not pay it.
    from scipy.special import stdtrit

    n = len(values)
    mean = statistics.fmean(values)
    if n < 2:
        return Interval(mean, None, n, None)
    std = statistics.stdev(values)
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return Interval(mean, std, n, half)


def largest_compression(
    points: Iterable[tuple[float, float]],
    dense: float,
    loss: float = 0.0,
    *,
    higher_is_better: bool = True,
) -> float | None:
    """Find the largest compression whose median is at most `loss` worse than the mean dense score.

    `points` are (compression, median score); None where none is. It need not hold at every smaller compression.
    """
    sign = 1 if higher_is_better else -1
    # 1e-9 forgives the last bits of means: 91.7134 − 91.7134 must count as no loss.
    return max((x for x, median in points if sign * (median - dense) >= -loss - 1e-9), default=None)

"""Means of small samples with their intervals and one-sided bounds, by Student's t.

Plain floats in and out. Median and standard deviation are Python's own `statistics`, quantiles SciPy's, as in the
database's table `t_quantiles`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, as known from `n` seeds: (true − `mean`) / `error` is Student's t with `df`."""

    mean: float
    error: float
    """The mean's standard error."""
    df: float
    """Degrees of freedom; 0 where the spread is unknown, and every bound is infinite."""
    n: int

    @property
    def std(self) -> float:
        """The spread of one seed's difference."""
        return self.error * math.sqrt(self.n)

    @property
    def half(self) -> float | None:
        """Half the 95 % interval; None where the spread is unknown."""
        return self._reach(0.025) if self.df else None

    def lower(self, tail: float) -> float:
        """Return the one-sided lower bound that the true value is below with probability `tail`."""
        return self.mean - self._reach(tail)

    def upper(self, tail: float) -> float:
        """Return the one-sided upper bound that the true value is above with probability `tail`."""
        return self.mean + self._reach(tail)

    def above(self, value: float) -> float:
        """Return the p-value of the one-sided test whose alternative is that the true value is above `value`."""
        from scipy.special import stdtr

        if self.df == 0:
            return 1.0
        if self.error == 0:
            return 0.0 if self.mean > value else 1.0
        return float(stdtr(self.df, (value - self.mean) / self.error))

    def below(self, value: float) -> float:
        """Return the p-value of the one-sided test whose alternative is that the true value is below `value`."""
        return Estimate(-self.mean, self.error, self.df, self.n).above(-value)

    def _reach(self, tail: float) -> float:
        from scipy.special import stdtrit

        return math.inf if self.df == 0 else float(stdtrit(self.df, 1 - tail)) * self.error


def paired(differences: Sequence[float], resolution: float = 0.0) -> Estimate:
    """Estimate the mean of differences, one of each seed.

    Raises statistics.StatisticsError (a ValueError) without any.

    Args:
        differences: of each seed.
        resolution: the least standard deviation to believe: the smallest step between two scores, one test item. Few
            seeds can come out alike by chance, and would prove any difference.
    """
    n, mean = len(differences), statistics.fmean(differences)
    if n < 2:
        return Estimate(mean, 0.0, 0, n)
    std = max(statistics.stdev(differences), resolution)
    return Estimate(mean, std / math.sqrt(n), n - 1, n)


def welch(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Estimate the difference of two means of independent samples of two values or more, with Welch's df.

    B. L. Welch, Biometrika 34 (1947) 28-35.
    """
    parts = [statistics.variance(values) / len(values) for values in (a, b)]
    total = sum(parts)
    sizes = [len(a) - 1, len(b) - 1]
    weights = sum(part**2 / size for part, size in zip(parts, sizes, strict=True))
    df = total**2 / weights if weights else float(sum(sizes))
    mean = statistics.fmean(a) - statistics.fmean(b)
    return Estimate(mean, math.sqrt(total), df, min(len(a), len(b)))

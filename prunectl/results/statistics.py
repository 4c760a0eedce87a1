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


@dataclass(frozen=True)
class Estimate:
    """A difference of means as known from `n` seeds: (true value − `mean`) / `error` is Student's t with `df`."""

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

    Args:
        differences: at least one.
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

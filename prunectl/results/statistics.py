"""The statistics of the tables: small samples, paired by seed, with nothing assumed that n = 3 cannot bear.

Plain floats in and out. Quantiles are SciPy's, as in the database's table `t_quantiles`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Method = TypeVar("Method", bound=Hashable)

LOSSES = (0.0, 0.25, 0.5, 1.0)
"""Percentage points that "no loss" is asked for with."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, exactly rounded. Raises ValueError without values."""
    if not values:
        raise ValueError("the mean of no values")
    return math.fsum(values) / len(values)


def std(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n − 1); None below two values."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two. Raises ValueError without values."""
    if not values:
        raise ValueError("the median of no values")
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass(frozen=True)
class Interval:
    """A mean with half its confidence interval (Student's t); `half` is None below n = 2."""

    mean: float
    std: float | None
    n: int
    half: float | None

    @property
    def low(self) -> float:
        return self.mean - self.half if self.half is not None else -math.inf

    @property
    def high(self) -> float:
        return self.mean + self.half if self.half is not None else math.inf

    @property
    def covers_zero(self) -> bool:
        """Whether 0 is inside; below n = 2 there is nothing it could be told from."""
        return self.low <= 0 <= self.high

    @property
    def n_needed(self) -> int | None:
        """The n that would leave 0 out if mean and std stayed as they are; None where that cannot be said."""
        return None if self.std is None else n_needed(self.mean, self.std)


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and confidence interval. Raises ValueError without values."""
    spread = std(values)
    n = len(values)
    half = None
    if spread is not None:
        half = _quantile(n - 1, confidence) * spread / math.sqrt(n)
    return Interval(mean(values), spread, n, half)


def _quantile(df: float, confidence: float) -> float:
    from scipy.special import stdtrit  # 0.3 s to import

    return float(stdtrit(df, 0.5 + confidence / 2))


def n_needed(mean: float, std: float) -> int | None:
    """The least n at which the 95 % interval of the mean leaves out 0, if mean and std stay as they are.

    None where the mean is 0: no n decides that.
    """
    if mean == 0:
        return None
    if std == 0:
        return 2
    # t²/n = (mean/std)² solved with t² ≈ z² + (z⁴ + z²) / 2n: right but for one up or down.
    z = _quantile(math.inf, 0.95)
    n = math.ceil((z * std / mean) ** 2 + (z**2 + 1) / 2)
    while _quantile(n - 1, 0.95) * std / math.sqrt(n) >= abs(mean):
        n += 1
    while n > 2 and _quantile(n - 2, 0.95) * std / math.sqrt(n - 1) < abs(mean):
        n -= 1
    return n


def paired(
    a: Mapping[Method, float], b: Mapping[Method, float], confidence: float = 0.95
) -> Interval | None:
    """The mean of a − b over the seeds both have, with its interval; None where they share none."""
    shared = [seed for seed in a if seed in b]
    return interval([a[seed] - b[seed] for seed in shared], confidence) if shared else None


def tied(a: Mapping[Method, float], b: Mapping[Method, float]) -> bool:
    """Whether the 95 % interval of the difference, paired by seed, covers 0 (always, below two shared seeds)."""
    difference = paired(a, b)
    return difference is None or difference.covers_zero


def ranks(values: Mapping[Method, float]) -> dict[Method, float]:
    """Places from 1, highest value first; equal values share the mean of their places."""
    out = {}
    for name, value in values.items():
        above = sum(other > value for other in values.values())
        equal = sum(other == value for other in values.values())
        out[name] = above + (equal + 1) / 2
    return out


def average_ranks(columns: Iterable[Mapping[Method, float]]) -> dict[Method, float]:
    """Mean place of each method over the columns that have it."""
    places: dict[Method, list[float]] = {}
    for column in columns:
        for name, place in ranks(column).items():
            places.setdefault(name, []).append(place)
    return {name: mean(each) for name, each in places.items()}


@dataclass(frozen=True)
class Record:
    """How often one method was better than, tied with, or worse than another."""

    wins: int = 0
    ties: int = 0
    losses: int = 0


def record(a: Iterable[Mapping[Method, float]], b: Iterable[Mapping[Method, float]]) -> Record:
    """Wins, ties and losses of a against b, column by column, each accuracy by seed; ties as `tied` has them."""
    wins = ties = losses = 0
    for ours, theirs in zip(a, b, strict=True):
        difference = paired(ours, theirs)
        if difference is None:
            continue
        if difference.covers_zero:
            ties += 1
        elif difference.mean > 0:
            wins += 1
        else:
            losses += 1
    return Record(wins, ties, losses)


def largest_compression(
    points: Iterable[tuple[float, float]], dense: float, loss: float = 0.0
) -> float | None:
    """The largest compression whose median is at most `loss` points below the mean dense accuracy.

    `points` are (compression, median accuracy); None where none is. It need not hold at every smaller compression.
    """
    # 1e-9 forgives the last bits of means: 91.7134 − 91.7134 must count as no loss.
    return max((x for x, median in points if median - dense >= -loss - 1e-9), default=None)

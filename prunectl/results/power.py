"""What a number of seeds can tell: power of the t tests behind marks and claims, exact by the non-central t.

A spread is the standard deviation of one seed's difference. Power is the probability that a test comes out as it
should, and `POWER` what is promised of it wherever a number of seeds or a smallest gap is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

POWER = 0.8
"""Probability with which a named number of seeds decides, or a named gap is told: the usual one."""

MOST = 100
"""Seeds beyond which a question is not decided by seeds."""

SPREAD_INTERVAL = 0.8
"""Probability that the true spread lies in the interval that a range of seeds is made from."""

_TAIL_STEPS = 400
"""Points that the chi distribution of a spread is summed at: power to 1e-4."""

Power = Callable[[float, int], float]
"""The power at a spread and a number of seeds."""


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds would decide with 80 % power, for the ends of the spread's 80 % interval."""

    low: int | None
    """None: not by seeds (more than `MOST`)."""
    high: int | None

    def __str__(self) -> str:
        """Such as ``5–17 seeds``, ``12–100+ seeds``, ``not by seeds``."""
        if self.low is None:
            return "not by seeds"
        if self.high is None:
            return f"{self.low}–{MOST}+ seeds"
        return f"{self.low} seeds" if self.low == self.high else f"{self.low}–{self.high} seeds"


def one_sided(effect: float, spread: float, n: int, tail: float) -> float:
    """Return the power of a one-sided t test at level `tail` against a true difference of `effect` > 0."""
    from scipy.special import nctdtr, stdtrit

    if n < 2:
        return 0.0
    if spread == 0:
        return 1.0 if effect > 0 else 0.0
    shift = effect * math.sqrt(n) / spread
    limit = float(stdtrit(n - 1, 1 - tail))
    # Beyond, the series does not converge; the power is 1 to the last digit where the shift is so far above the limit.
    if shift > limit + 40:
        return 1.0
    return 1 - float(nctdtr(n - 1, shift, limit))


def equivalence(difference: float, spread: float, n: int, tail: float, margin: float) -> float:
    """Return the power of two one-sided tests, each at level `tail`, to show a true difference inside ± `margin`.

    Summed over the distribution of the sample's spread: D. L. Phillips, J. Pharmacokinet. Biopharm. 18 (1990) 137-144.
    """
    import numpy
    from scipy.special import gammaincinv, ndtr, stdtrit

    if n < 2:
        return 0.0
    if spread == 0:
        return 1.0 if abs(difference) < margin else 0.0
    df, error = n - 1, spread / math.sqrt(n)
    middles = (numpy.arange(_TAIL_STEPS) + 0.5) / _TAIL_STEPS
    reach = stdtrit(df, 1 - tail) * error * numpy.sqrt(2 * gammaincinv(df / 2, middles) / df)
    inside = ndtr((margin - reach - difference) / error) - ndtr(
        (reach - margin - difference) / error
    )
    return float(numpy.maximum(inside, 0).mean())


def spread_interval(std: float, n: int) -> tuple[float, float]:
    """Return the 80 % interval of the spread that a sample of `n` ≥ 2 with standard deviation `std` comes from."""
    from scipy.special import chdtri

    df, tail = n - 1, (1 - SPREAD_INTERVAL) / 2
    return (
        std * math.sqrt(df / float(chdtri(df, tail))),
        std * math.sqrt(df / float(chdtri(df, 1 - tail))),
    )


def seeds_needed(power: Power, std: float, n: int) -> SeedsNeeded:
    """Find how many seeds would decide, given how `n` ≥ 2 spread."""
    low, high = spread_interval(std, n)
    return SeedsNeeded(_least(power, low), _least(power, high))


def seeds_for_gap(gap: float, std: float, n: int, tail: float) -> SeedsNeeded:
    """Find how many seeds a one-sided t test at level `tail` would need to tell a gap, given how `n` ≥ 2 spread."""
    return seeds_needed(lambda spread, seeds: one_sided(gap, spread, seeds, tail), std, n)


def _least(power: Power, spread: float) -> int | None:
    return next((n for n in range(2, MOST + 1) if power(spread, n) >= POWER), None)


def smallest_gap(spread: float, n: int, tail: float) -> float:
    """Find the smallest true difference that a one-sided t test at level `tail` of n ≥ 2 tells with 80 % power."""
    if spread == 0:
        return 0.0
    low, high = 0.0, spread
    while one_sided(high, spread, n, tail) < POWER:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if one_sided(middle, spread, n, tail) >= POWER else (middle, high)
    return high

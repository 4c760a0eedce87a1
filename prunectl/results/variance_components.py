"""Variance components of a complete crossed table: how much of its spread each factor makes, with 95 % intervals.

All factors are random, each combination of their levels has one number, and what is not of one factor alone is
interaction. Estimates are ANOVA's (method of moments), intervals those of modified large samples: N. Ting, R. K.
Burdick, F. A. Graybill, S. Jeyaratnam & T.-F. C. Lu, J. Statist. Comput. Simul. 35 (1990) 135-143; R. K. Burdick &
F. A. Graybill, Confidence Intervals on Variance Components (1992), 3.3. Of a single mean square they are the exact
ones by χ²; a factor's lower bound is above 0 exactly where its F test is significant at 2.5 %, with two factors.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

TAIL = 0.025
"""Probability that a true component lies below its interval, and that it lies above."""


@dataclass(frozen=True)
class Component:
    """A part of the variance, as standard deviations in the unit of the numbers."""

    std: float
    """The estimate; 0 where that of the variance is not above 0."""
    low: float
    high: float
    """Ends of the 95 % interval."""
    negative: bool
    """Whether the estimate of the variance was below 0."""


class _Term(NamedTuple):
    """A mean square in a sum of such."""

    weight: float
    mean_square: float
    df: int


Subset = tuple[int, ...]
"""Numbers of factors."""


def components(table: NDArray[numpy.float64]) -> tuple[list[Component], Component]:
    """Estimate the component of each factor, and that of all interactions together.

    Args:
        table: a number for each combination of levels, an axis for each of two factors or more, of two levels or more.
    """
    squares = _mean_squares(table)
    axes = range(table.ndim)
    single = [_weights(table.shape, (axis,)) for axis in axes]
    joint: dict[Subset, float] = dict.fromkeys(squares, 0.0)
    for subset in squares:
        if len(subset) > 1:
            for other, weight in _weights(table.shape, subset).items():
                joint[other] += weight
    every = [_component(weights, squares) for weights in (*single, joint)]
    return every[:-1], every[-1]


def _mean_squares(table: NDArray[numpy.float64]) -> dict[Subset, tuple[float, int]]:
    """Compute the mean square and the degrees of freedom of each factor and each interaction."""
    axes = range(table.ndim)
    subsets = [
        subset for size in axes for subset in itertools.combinations(axes, size + 1)
    ]  # smaller ones first
    effects: dict[Subset, NDArray[numpy.float64]] = {(): table.mean(keepdims=True)}
    out = {}
    for subset in subsets:
        others = tuple(axis for axis in axes if axis not in subset)
        effect = table.mean(axis=others, keepdims=True) if others else table
        for smaller, found in effects.items():
            if set(smaller) < set(subset):
                effect = effect - found
        effects[subset] = effect
        df = math.prod(table.shape[axis] - 1 for axis in subset)
        copies = math.prod(table.shape[axis] for axis in others)
        out[subset] = float((effect**2).sum()) * copies / df, df
    return out


def _weights(shape: Sequence[int], subset: Subset) -> dict[Subset, float]:
    """Return the weights of the mean squares whose sum estimates the component of a factor or interaction.

    The expected mean square of S is the sum over all T that hold S of T's component times the number of combinations of
    the factors outside T; this is its Möbius inversion.
    """
    axes = range(len(shape))
    copies = math.prod(shape[axis] for axis in axes if axis not in subset)
    others = [axis for axis in axes if axis not in subset]
    return {
        tuple(sorted((*subset, *more))): (-1) ** size / copies
        for size in range(len(others) + 1)
        for more in itertools.combinations(others, size)
    }


def _component(weights: dict[Subset, float], squares: dict[Subset, tuple[float, int]]) -> Component:
    terms = [_Term(weight, *squares[subset]) for subset, weight in weights.items() if weight]
    estimate, low, high = interval(terms)
    low, high = max(low, 0.0), max(high, 0.0)
    return Component(
        math.sqrt(max(estimate, 0.0)), math.sqrt(low), math.sqrt(high), negative=estimate < 0
    )


def interval(terms: Sequence[_Term]) -> tuple[float, float, float]:
    """Estimate a weighted sum of independent mean squares' expectations, with the ends of its 95 % interval."""
    added = [term for term in terms if term.weight > 0]
    taken = [term._replace(weight=-term.weight) for term in terms if term.weight < 0]
    estimate = sum(t.weight * t.mean_square for t in added)
    estimate -= sum(t.weight * t.mean_square for t in taken)
    below = _squared_reach(added, taken, lower=True)
    above = _squared_reach(taken, added, lower=False)
    return estimate, estimate - math.sqrt(below), estimate + math.sqrt(above)


def _squared_reach(towards: Sequence[_Term], against: Sequence[_Term], *, lower: bool) -> float:
    """Compute the squared distance of a bound from the estimate.

    Args:
        towards: terms that move the bound as they shrink; those that are added for the lower one.
        against: terms that move it as they grow.
    """
    total = sum((_shrunk(x.df) * x.weight * x.mean_square) ** 2 for x in towards)
    total += sum((_grown(x.df) * x.weight * x.mean_square) ** 2 for x in against)
    for x, y in itertools.product(towards, against):
        ratio = _f_above(x.df, y.df) if lower else 1 / _f_above(x.df, y.df)
        if lower:
            mixed = (ratio - 1) ** 2 - (_shrunk(x.df) * ratio) ** 2 - _grown(y.df) ** 2
        else:
            mixed = (1 - ratio) ** 2 - (_grown(y.df) * ratio) ** 2 - _shrunk(x.df) ** 2
        total += mixed / ratio * x.weight * y.weight * x.mean_square * y.mean_square
    for x, y in itertools.combinations(towards, 2):
        both = (_shrunk(x.df + y.df) * (x.df + y.df)) ** 2 / (x.df * y.df)
        both -= _shrunk(x.df) ** 2 * x.df / y.df + _shrunk(y.df) ** 2 * y.df / x.df
        factor = both / (len(towards) - 1)
        total += factor * x.weight * y.weight * x.mean_square * y.mean_square
    return max(total, 0.0)


@functools.cache
def _shrunk(df: int) -> float:
    """By which part a mean square may be above its expectation, over itself: 1 − df/χ²."""
    from scipy.special import chdtri

    return 1 - df / float(chdtri(df, TAIL))


@functools.cache
def _grown(df: int) -> float:
    """By which part it may be below."""
    from scipy.special import chdtri

    return df / float(chdtri(df, 1 - TAIL)) - 1


@functools.cache
def _f_above(df: int, other: int) -> float:
    """The quantile of F that is exceeded with probability `TAIL`."""
    from scipy.special import fdtri

    return float(fdtri(df, other, 1 - TAIL))

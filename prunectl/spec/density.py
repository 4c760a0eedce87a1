"""How many weights a density keeps, exactly, and how layers share them: pure arithmetic, torch-free.

A plan uses this to reject levels that round to nothing or a scope that cannot be met before anything is queued;
`ml.pruning.masks` uses the same functions, so the two never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from prunectl.errors import PrunectlError

Scope = Literal["global", "layerwise", "uniform"]


class ImpossibleDensity(PrunectlError):
    """A density that cannot be met: the weights it asks for are pruned already, or it has to cut whole layers."""


@dataclass(frozen=True)
class Competition:
    """Layers whose weights compete with each other, and how many of them are kept together."""

    layers: tuple[str, ...]
    kept: int


def kept(weights: int, density: str | Fraction) -> int:
    """Return how many weights `density`, a decimal string or fraction in [0, 1], keeps of `weights` dense ones.

    round(N·d), exact, halves to even; never of what an earlier round has left, so rounding cannot drift.
    """
    fraction = Fraction(density)
    if not 0 <= fraction <= 1:
        raise ValueError(f"density {density} is not between 0 and 1")
    return round(weights * fraction)


def shares(sizes: Sequence[int], limits: Sequence[int], total: int) -> list[int]:
    """Distribute `total` in proportion to `sizes`, none above its limit, by largest remainder.

    The sum is exactly `total`. What a full entry cannot take goes to the others, in proportion again; equal
    remainders go to the earlier entry. Raises ValueError where the limits together are below `total`.
    """
    if not 0 <= total <= sum(limits):
        raise ValueError(f"{total} cannot be shared by entries that take {sum(limits)}")
    result = [0] * len(sizes)
    rest = total
    open_ = [i for i, size in enumerate(sizes) if size > 0]
    while True:
        of = sum(sizes[i] for i in open_)
        ideal = {i: Fraction(rest * sizes[i], of) for i in open_}
        full = [i for i in open_ if ideal[i] >= limits[i]]
        if not full:
            break
        for i in full:
            result[i] = limits[i]
            rest -= limits[i]
        open_ = [i for i in open_ if i not in full]
    for i in open_:
        result[i] = int(ideal[i])
    missing = rest - sum(result[i] for i in open_)
    by_remainder = sorted(open_, key=lambda i: (result[i] - ideal[i], i))
    for i in by_remainder[:missing]:
        result[i] += 1
    return result


def competitions(
    sizes: Mapping[str, int],
    alive: Mapping[str, int],
    ends: Sequence[str],
    scope: Scope,
    total: int,
) -> list[Competition]:
    """Return which layers compete with each other for the `total` weights to keep.

    `sizes` are the prunable layers' dense weights in order, `alive` those not pruned yet, `ends` the first and
    the last layer where they are prunable: ``uniform`` keeps those as they are and shares the rest.
    Raises ImpossibleDensity where more is to be kept than is alive, or where ``uniform`` has no room.
    """
    if total > sum(alive.values()):
        raise ImpossibleDensity(
            f"{total:,} weights are to be kept, but only {sum(alive.values()):,} are not pruned yet"
        )
    if scope == "global":
        return [Competition(tuple(sizes), total)]
    whole = {name: alive[name] for name in ends} if scope == "uniform" else {}
    inner = [name for name in sizes if name not in whole]
    rest = total - sum(whole.values())
    if not 0 <= rest <= sum(alive[name] for name in inner):
        raise ImpossibleDensity(
            f"{total:,} weights are to be kept, but {' and '.join(whole)}, which the uniform scope keeps whole, "
            f"hold {sum(whole.values()):,} and the other layers {sum(alive[name] for name in inner):,}"
        )
    parts = shares([sizes[name] for name in inner], [alive[name] for name in inner], rest)
    counts = {**whole, **dict(zip(inner, parts, strict=True))}
    return [Competition((name,), counts[name]) for name in sizes]

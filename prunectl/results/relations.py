"""What an estimated difference says of a claim's relation: supported, contradicted, or how many seeds would decide.

Differences are gains of `a` over `b`: above 0 where `a` is better, whichever way the score points. Every rule is wrong
with at most 5 %: `better`, `worse` and `as-good` are one-sided t tests; `equal` is two of them (D. J. Schuirmann,
J. Pharmacokinet. Biopharm. 15 (1987) 657-680), and contradicted with 2.5 % to each side.
"""

from __future__ import annotations

from typing import Literal

from prunectl.results import power
from prunectl.results.power import SeedsNeeded
from prunectl.results.statistics import Estimate
from prunectl.spec.claim import Relation

Verdict = Literal["supported", "contradicted", "undecided"]

TAIL = 0.05
"""Probability of a verdict that is wrong."""


def verdict(relation: Relation, estimate: Estimate, margin: float) -> Verdict:
    """Judge a relation by one estimate."""
    if is_supported(relation, estimate, margin):
        return "supported"
    return "contradicted" if against(relation, estimate, margin) < TAIL else "undecided"


def is_supported(relation: Relation, estimate: Estimate, margin: float) -> bool:
    """Return whether the bounds lie where the relation says."""
    low, high = estimate.lower(TAIL), estimate.upper(TAIL)
    match relation:
        case "better":
            return low > margin
        case "worse":
            return high < -margin
        case "as-good":
            return low > -margin
        case "equal":
            return -margin < low and high < margin


def against(relation: Relation, estimate: Estimate, margin: float) -> float:
    """Return the p-value of the relation: the claim is contradicted where it is below `TAIL`."""
    match relation:
        case "better":
            return estimate.below(margin)
        case "worse":
            return estimate.above(-margin)
        case "as-good":
            return estimate.below(-margin)
        case "equal":
            return min(1.0, 2 * min(estimate.below(-margin), estimate.above(margin)))


def points_there(relation: Relation, mean: float, margin: float) -> bool:
    """Return whether a difference without an interval points where the relation says."""
    match relation:
        case "better":
            return mean > margin
        case "worse":
            return mean < -margin
        case "as-good":
            return mean > -margin
        case "equal":
            return abs(mean) < margin


def seeds_needed(relation: Relation, estimate: Estimate, margin: float) -> SeedsNeeded | None:
    """Find how many seeds would decide with 80 % power if the true difference is the one observed.

    None where the spread is unknown.
    """
    if estimate.df == 0:
        return None
    mean, std = estimate.mean, estimate.std
    if relation == "equal" and abs(mean) < margin:
        return power.seeds_needed(
            lambda spread, n: power.equivalence(mean, spread, n, TAIL, margin), std, estimate.n
        )
    limit = {"better": margin, "worse": -margin, "as-good": -margin}.get(
        relation, margin if mean > 0 else -margin
    )
    tail = TAIL / 2 if relation == "equal" else TAIL
    return power.seeds_for_gap(abs(mean - limit), std, estimate.n, tail)

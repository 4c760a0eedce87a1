"""Timing of one contender, as figures."""

from __future__ import annotations

import statistics
import sys

from prunectl.bench.card.records import Figure, Order, Outcome
from prunectl.bench.rounds import Contender, timings

ROUNDS = 3


def rounds(order: Order) -> int:
    """Return how often a round is timed."""
    return 1 if order.quick else ROUNDS


def timed(order: Order, contender: Contender) -> Outcome:
    """Time a contender. Raises BenchError where it fails."""
    found = timings([contender], rounds(order), lambda text: print(text, file=sys.stderr))
    return Outcome(figures=figures(contender.label.strip(), found[contender.label]))


def figures(label: str, seconds: list[float]) -> tuple[Figure, ...]:
    """Return the median of times, and the fastest and slowest, per epoch and training."""
    return (
        Figure(label, statistics.median(seconds), "s/epoch"),
        Figure(f"{label}, fastest", min(seconds), "s/epoch"),
        Figure(f"{label}, slowest", max(seconds), "s/epoch"),
    )

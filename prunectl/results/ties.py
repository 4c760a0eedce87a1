"""Wins, ties and losses of two methods, for `rank --summary`: a tie is a difference whose 95 % interval covers 0.

Each pair is judged by itself, paired by seed. The marks of a column, which keep the truly best of all its methods, are
the view `ranking`'s (views.sql).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prunectl.results.statistics import Estimate, paired
from prunectl.spec.seeds import Seeds

BySeed = Mapping[Seeds, float]
"""Scores of one cell by the seeds of its trials."""


def paired_difference(a: BySeed, b: BySeed, resolution: float = 0.0) -> Estimate | None:
    """Estimate the mean of a − b over the seeds both have, as `paired`; None where they share none."""
    shared = [seed for seed in a if seed in b]
    return paired([a[seed] - b[seed] for seed in shared], resolution) if shared else None


@dataclass(frozen=True)
class Record:
    """How often one method was better than, tied with, or worse than another."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    def __str__(self) -> str:
        """Such as ``3–1–0``."""
        return f"{self.wins}–{self.ties}–{self.losses}"

    def __add__(self, other: Record) -> Record:
        return Record(self.wins + other.wins, self.ties + other.ties, self.losses + other.losses)


def record(
    a: Mapping[float, BySeed],
    b: Mapping[float, BySeed],
    *,
    higher_is_better: bool = True,
    resolution: float = 0.0,
) -> Record:
    """Count wins, ties and losses of a against b at each sparsity of both; those without a shared seed do not count.

    `resolution` is what one test item makes of a score, as `paired` takes it.
    """
    pairs = (
        paired_difference(a[sparsity], b[sparsity], resolution) for sparsity in a if sparsity in b
    )
    differences = [difference for difference in pairs if difference is not None]
    above = sum(each.half is not None and each.mean > each.half for each in differences)
    below = sum(each.half is not None and -each.mean > each.half for each in differences)
    wins, losses = (above, below) if higher_is_better else (below, above)
    return Record(wins, len(differences) - wins - losses, losses)

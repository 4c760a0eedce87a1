"""Compression without loss: up to the first level that is not shown to be as good as dense.

A level is without loss where the one-sided 95 % lower bound of its change from the own dense networks, over the seeds,
is above −margin. The view `no_loss` has the same rule for every method; here it judges what the publications claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunectl.results import relations
from prunectl.results.board_notes import NOT_INDEPENDENT
from prunectl.results.judged import MARGIN, Part, Verdict, condition_title
from prunectl.results.samples import Sample, three_values
from prunectl.results.statistics import Estimate, paired
from prunectl.spec.claim import Scope

REACHED = 1.05
"""A ladder with another rate has no level at exactly a claimed compression: so much less is as far."""


@dataclass(frozen=True)
class NoLoss:
    """The claim that iterative learning-rate rewinding, at full length, loses nothing up to a compression."""

    scope: Scope
    compression: float
    margin: float = MARGIN

    @property
    def title(self) -> str:
        """The claim in words."""
        networks = ", ".join(self.scope.network)
        return (
            f"{networks}: iterative lr-rewind at full length loses less than {self.margin:g} points up to "
            f"{self.compression:.2f}×"
        )


def without_loss(levels: Sequence[tuple[float, Estimate]], margin: float) -> float | None:
    """Find the compression up to which every level's lower bound is above −`margin`.

    Args:
        levels: compression and gain over the own dense networks.

    Returns None where the first level fails.
    """
    reached = None
    for compression, estimate in sorted(levels, key=lambda level: level[0]):
        if not estimate.lower(relations.TAIL) > -margin:
            break
        reached = compression
    return reached


def level_gains(samples: Iterable[Sample]) -> list[tuple[float, Estimate]]:
    """Estimate the gain over dense of each level of iterative unstructured lr-rewind."""
    return [
        (sample.compression, estimate)
        for sample in samples
        if _is_meant(sample) and (estimate := _gain_over_dense(sample)) is not None
    ]


def _is_meant(sample: Sample) -> bool:
    kinds = (sample.strategy, sample.kind, sample.structure)
    return kinds == ("lr-rewind", "iterative", "unstructured")


def _gain_over_dense(sample: Sample) -> Estimate | None:
    if sample.seeds:
        gains = [
            sample.sign * (seed.score - seed.dense)
            for seed in sample.seeds.values()
            if seed.dense is not None
        ]
        return paired(gains, sample.resolution) if gains else None
    three = three_values(sample)
    return None if three is None else paired([value - sample.dense for value in three])


def judge_condition(claim: NoLoss, group: Sequence[Sample]) -> Part | None:
    """Judge the claim under one condition; None where it has no such networks."""
    if not all(sample.independent for sample in group if _is_meant(sample)):
        return Part(condition_title(group[0]), "undecided", NOT_INDEPENDENT)
    levels = level_gains(group)
    if not levels:
        return None
    measured = max(compression for compression, _ in levels)
    reached = without_loss(levels, claim.margin)
    said = f"{f'{reached:.2f}×' if reached else 'nowhere'} of up to {measured:.2f}× measured"
    # One level that loses contradicts it; of several p-values the smallest is held against 5 % / their number (Holm).
    claimed = [each for compression, each in levels if compression <= claim.compression * REACHED]
    pvalues = [estimate.below(-claim.margin) for estimate in claimed]
    against = min(1.0, min(pvalues, default=1.0) * len(pvalues))
    verdict: Verdict = "undecided"
    if reached is not None and reached >= claim.compression / REACHED:
        verdict = "supported"
    elif against < relations.TAIL:
        verdict = "contradicted"
    return Part(condition_title(group[0]), verdict, said, against=against)

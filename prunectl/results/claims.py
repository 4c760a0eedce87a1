"""What the publications claim, as rules that their own numbers and ours are judged by alike.

A claim about two methods looks at every condition (network, data set, schedule, sparsity) in which both were
measured at their papers' main length of retraining, and at the 95 % interval (Student's t) of the mean difference
of their medians over those conditions:

    better          holds where the whole interval is above 0
    as good         holds unless the whole interval is below 0
    worse           holds where the whole interval is below 0

With fewer than `ENOUGH` conditions there is not enough data. Sparsities of one network are no independent samples,
so the interval is a rule for calling a pattern a pattern and not a test of significance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prunectl.results.samples import Sample
from prunectl.results.statistics import interval, largest_compression
from prunectl.text import signed

Verdict = Literal["holds", "does not hold", "not enough data"]

ENOUGH = 3
"""Conditions below which there is no verdict."""

REWIND_AT_MOST = 0.9
"""Weight rewinding's main length: the largest t ≤ 0.9 T (METHODS A1: the authors' rule for their plots)."""


@dataclass(frozen=True)
class Claim:
    """A claim, the verdict of one set of numbers, and what it rests on in words."""

    text: str
    verdict: Verdict
    evidence: str


Rule = Callable[[Sequence[Sample]], Claim]
"""Judges one claim by samples."""


def judge(source: str, samples: Sequence[Sample]) -> list[Claim]:
    """Judge the source's claims by these samples, in a fixed order."""
    return [rule(samples) for rule in CLAIMS[source]]


# Conditions


def at_main_length(samples: Iterable[Sample]) -> list[Sample]:
    """Select the samples at the main length of their method: the longest, for weight rewinding the longest ≤ 0.9 T.

    T is the longest retraining of the same network and schedule; samples without a length count as they are.
    """
    groups: dict[tuple[object, ...], list[Sample]] = {}
    for sample in samples:
        key = (sample.network, sample.dataset, sample.structure, sample.schedule, sample.label)
        groups.setdefault(key, []).append(sample)
    out: list[Sample] = []
    for group in groups.values():
        full = max((s.retrain_epochs or 0.0 for s in group), default=0.0)
        for strategy in {s.strategy: None for s in group}:
            own = [s for s in group if s.strategy == strategy]
            lengths = sorted({s.retrain_epochs or 0.0 for s in own})
            if strategy == "weight-rewind":
                lengths = [t for t in lengths if t <= REWIND_AT_MOST * full + 1e-9] or lengths
            out += [s for s in own if (s.retrain_epochs or 0.0) == lengths[-1]]
    return out


def differences(samples: Sequence[Sample], a: str, b: str) -> list[float]:
    """Median of `a` minus median of `b` in every condition that has both, percentage points."""
    by_condition: dict[tuple[object, ...], dict[str, float]] = {}
    for s in at_main_length(samples):
        # Differences in BLEU and in percent of accuracy do not add up: translation is left out.
        if s.strategy in (a, b) and s.dataset != "wmt16-en-de":
            key = (s.network, s.dataset, s.structure, s.schedule, s.label, round(s.sparsity, 3))
            by_condition.setdefault(key, {})[s.strategy] = s.median
    return [found[a] - found[b] for found in by_condition.values() if len(found) == 2]


def relation(
    text: str, a: str, b: str, kind: Literal["better", "as good", "worse"],
    where: Callable[[Sample], bool] = lambda sample: True,
) -> Rule:  # fmt: skip
    """Make a rule for one method against another, over the samples for which `where` holds."""

    def rule(samples: Sequence[Sample]) -> Claim:
        values = differences([s for s in samples if where(s)], a, b)
        if len(values) < ENOUGH:
            return Claim(text, "not enough data", f"{len(values)} conditions with {a} and {b}")
        gap = interval(values)
        holds = {"better": gap.low > 0, "as good": gap.high >= 0, "worse": gap.high < 0}[kind]
        evidence = (
            f"{a} − {b}: {signed(gap.mean)} ± {gap.half or 0:.2f} points over {gap.n} conditions, "
            f"higher in {sum(value > 0 for value in values)}"
        )
        return Claim(text, "holds" if holds else "does not hold", evidence)

    return rule


def no_loss(network: str, compression: float) -> Rule:
    """Make a rule for "no loss": iterative learning-rate rewinding at full length, median − mean dense ≥ 0."""
    text = f"{network}: iterative lr-rewind at full length loses nothing up to {compression:.2f}×"

    def rule(samples: Sequence[Sample]) -> Claim:
        reached, tried = largest_without_loss(samples, network)
        if tried is None:
            return Claim(text, "not enough data", f"no iterative lr-rewind of {network}")
        evidence = f"{f'{reached:.2f}×' if reached else 'nowhere'} of up to {tried:.2f}× measured"
        # 5 %: a ladder with another rate has no point at exactly this compression.
        if reached is not None and reached >= compression / 1.05:
            return Claim(text, "holds", evidence)
        if tried < compression / 1.05 and reached == tried:
            return Claim(text, "not enough data", evidence)
        return Claim(text, "does not hold", evidence)

    return rule


def largest_without_loss(
    samples: Sequence[Sample], network: str, loss: float = 0.0
) -> tuple[float | None, float | None]:
    """Find the largest compression without loss, and the largest measured, of iterative unstructured lr-rewind."""
    wanted = (network, "lr-rewind", "iterative", "unstructured")
    points = [
        (s.compression, s.delta)
        for s in at_main_length(samples)
        if (s.network, s.strategy, s.kind, s.structure) == wanted
    ]
    return largest_compression(points, 0.0, loss), max((x for x, _ in points), default=None)


def _wide(sample: Sample) -> bool:
    return sample.network.startswith("wrn-")


def _wide_iterative(sample: Sample) -> bool:
    return _wide(sample) and sample.kind == "iterative"


_FINE_TUNING = (
    relation(
        "learning-rate rewinding is better than fine-tuning", "lr-rewind", "fine-tune", "better"
    ),
    relation("weight rewinding is better than fine-tuning", "weight-rewind", "fine-tune", "better"),
)

CLAIMS: dict[str, tuple[Rule, ...]] = {
    "renda2020": (
        *_FINE_TUNING,
        relation(
            "learning-rate rewinding is as good as weight rewinding or better",
            "lr-rewind", "weight-rewind", "as good",
        ),
        relation("re-initialised networks are worse than fine-tuned ones", "reinit", "fine-tune", "worse",
                 lambda sample: sample.structure == "unstructured"),
        no_loss("resnet-20", 5.96),
        no_loss("resnet-56", 9.31),
        no_loss("resnet-110", 9.31),
        no_loss("resnet-50", 4.77),
    ),
    "mikler2021": (
        *_FINE_TUNING,
        relation(
            "ResNets: learning-rate rewinding is as good as weight rewinding or better",
            "lr-rewind", "weight-rewind", "as good",
            lambda sample: not _wide(sample),
        ),
        relation(
            "Wide ResNets, iterative: learning-rate rewinding is worse than weight rewinding",
            "lr-rewind", "weight-rewind", "worse", _wide_iterative,
        ),
    ),
    "mikler2021-thesis": (
        relation(
            "Wide ResNets, iterative: rewinding weights by 75 % is better than by 25 %",
            "partial-rewind-75", "partial-rewind-25", "better", _wide_iterative,
        ),
        relation(
            "Wide ResNets, iterative: rewinding weights by 75 % is better than weight rewinding",
            "partial-rewind-75", "weight-rewind", "better", _wide_iterative,
        ),
    ),
}  # fmt: skip
"""Headline claims: the abstracts' and the reports' own lists, as METHODS C9 reads them."""

"""What is said of a claim: verdicts, under each condition and over all of them, with what they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from prunectl.results import relations
from prunectl.results.power import SeedsNeeded
from prunectl.results.samples import Sample
from prunectl.results.statistics import Estimate
from prunectl.spec.claim import Relation
from prunectl.text import signed

Verdict = Literal["supported", "contradicted", "undecided", "agrees", "disagrees", "out of scope"]
VERDICTS: tuple[Verdict, ...] = (
    "supported", "contradicted", "undecided", "agrees", "disagrees",
)  # fmt: skip

HOW_JUDGED = (
    "Judged by seeds, each condition apart, over the levels that every seed has for both methods; [ ]: the 90 % "
    "interval, whose ends are the one-sided 95 % bounds. Without seeds, published numbers only agree or disagree."
)
MARGIN = 0.25
"""Percentage points that count as nothing in the publications' claims and in "no loss": about the standard deviation of
three networks of theirs (0.16 to 0.28 on ResNet-20)."""


class Titled(Protocol):
    """A claim, as far as a table names it."""

    @property
    def title(self) -> str:
        """The claim in words."""


@dataclass(frozen=True)
class Part:
    """A claim under one condition."""

    condition: str
    """In words: ``resnet-20 · cifar10 · iterative 0.2``."""
    verdict: Verdict
    found: str
    """What was found, in words."""
    estimate: Estimate | None = None
    """The gain of `a` over `b`, above 0 where `a` is better."""
    levels: tuple[float, ...] = ()
    """The sparsities that it is averaged over."""
    relation: Relation | None = None
    margin: float = 0.0
    """Those of the claim, where seeds judge it."""
    against: float = 1.0
    """p-value of the claim; it is contradicted where that is small."""
    first_result: float | None = None
    """When the first of the results that it rests on was there, Unix seconds."""

    @cached_property
    def needed(self) -> SeedsNeeded | None:
        """How many seeds would decide it; None where it is decided, or seeds have shown no spread."""
        if self.verdict != "undecided" or self.relation is None or self.estimate is None:
            return None
        return relations.seeds_needed(self.relation, self.estimate, self.margin)

    @property
    def evidence(self) -> str:
        """What was found, with the seeds that would decide it."""
        return (
            self.found if self.needed is None else f"{self.found}; would be decided: {self.needed}"
        )


@dataclass(frozen=True)
class Judged:
    """A claim, and what numbers say of it."""

    claim: Titled
    verdict: Verdict
    parts: tuple[Part, ...] = ()
    note: str = ""
    """That a plan claimed it after the fact."""

    @property
    def title(self) -> str:
        """The claim in words."""
        return self.claim.title

    @property
    def evidence(self) -> str:
        """What the verdict rests on, in a line."""
        if not self.parts:
            return "no such methods, networks or data sets among these numbers"
        if len(self.parts) == 1:
            return f"{self.parts[0].evidence} ({self.parts[0].condition})"
        counts = (f"{n} {name}" for name in VERDICTS if (n := self.count(name)))
        return f"{len(self.parts)} conditions: {', '.join(counts)}"

    @property
    def text(self) -> str:
        """The verdict and what it rests on, in a line."""
        note = f" ({self.note})" if self.note else ""
        return f"{self.verdict}{note}: {self.evidence}"

    def count(self, verdict: Verdict) -> int:
        """Return how many of its parts have this verdict."""
        return sum(part.verdict == verdict for part in self.parts)


def condition_title(sample: Sample) -> str:
    """Name a condition: ``resnet-20 · cifar10 · iterative 0.2``."""
    names = (sample.label, sample.network, sample.dataset, sample.recipe, sample.schedule)
    usual = ("unstructured", "magnitude")
    varied = [name for name in (sample.structure, sample.criterion) if name not in usual]
    return " · ".join(filter(None, (*names, *varied)))


def interval_text(estimate: Estimate, sign: int) -> str:
    """Write a difference with its 90 % interval, whose ends are the one-sided 95 % bounds that it is judged by."""
    said = signed(sign * estimate.mean)
    if estimate.df == 0:
        return said
    bounds = (estimate.lower(relations.TAIL), estimate.upper(relations.TAIL))
    low, high = sorted(sign * bound for bound in bounds)
    return f"{said} [{signed(low)}, {signed(high)}]"

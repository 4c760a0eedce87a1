"""Measured beside published: the same cells as changes from each one's own dense network, and the papers' claims.

Absolute accuracies differ because their dense networks do (by up to 0.75 points), so everything is a change from the
mean dense accuracy, in points: of medians, as both papers' figures show them, and with an interval where theirs give
single networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from prunectl.errors import UnknownName
from prunectl.results import own_numbers
from prunectl.results.claims import judge
from prunectl.results.formats import typed_table
from prunectl.results.judged import Judged
from prunectl.results.pairing import NeighbourSearch, near_misses
from prunectl.results.publications import SOURCES
from prunectl.results.published_claims import CLAIMS
from prunectl.results.samples import (
    PUBLISHED_TASK,
    Sample,
    at_main_length,
    measured,
    published,
    three_values,
)
from prunectl.results.statistics import Estimate, welch
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths


@dataclass(frozen=True)
class Point:
    """One of our cells and the published one nearest to it; accuracies in percent, differences in points."""

    ours: Sample
    theirs: Sample

    near_misses: tuple[str, ...] = ()
    """What of the recipe differs without keeping them apart."""

    @cached_property
    def estimate(self) -> Estimate | None:
        """Our change from dense minus theirs, by the seeds of ours and their three networks (Welch).

        None where there are fewer than two of ours or they are not independent, or theirs are not given.
        """
        three = three_values(self.theirs)
        ours = [
            seed.score - seed.dense for seed in self.ours.seeds.values() if seed.dense is not None
        ]
        if three is None or len(ours) < 2 or not self.ours.independent:
            return None
        return welch(ours, [value - self.theirs.dense for value in three])

    @property
    def difference(self) -> float:
        """Our change from dense minus theirs: of means where both have several networks, else of medians."""
        return self.ours.delta - self.theirs.delta if self.estimate is None else self.estimate.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the difference."""
        if self.estimate is None:
            return None
        return self.estimate.lower(0.025), self.estimate.upper(0.025)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    source: str
    points: tuple[Point, ...]
    unmatched: tuple[tuple[Sample, str], ...]
    """Our cells that have no published neighbour, and why."""
    missing: tuple[Sample, ...]
    """Published cells, at their method's main length of retraining, of our networks, data sets and kinds of
    schedule that we have not measured."""
    claims: tuple[tuple[Judged, Judged], ...] = ()
    """What the publication claims, judged by its own numbers and by ours."""

    @property
    def apart(self) -> tuple[int, int]:
        """How many differences have an interval that leaves out 0, of how many that have one."""
        found = [point.interval for point in self.points if point.interval is not None]
        return sum(low > 0 or high < 0 for low, high in found), len(found)

    @property
    def near_misses(self) -> dict[str, int]:
        """What differs from the publication's recipe without keeping a cell from its neighbour, with the cells."""
        return dict(Counter(each for point in self.points for each in point.near_misses))

    def table(self) -> Result:
        """Write the points in long form, for programs."""
        columns = {
            "network": "VARCHAR", "dataset": "VARCHAR", "structure": "VARCHAR", "schedule": "VARCHAR",
            "strategy": "VARCHAR", "sparsity": "DOUBLE", "retrain_epochs": "DOUBLE", "n": "BIGINT",
            "median": "DOUBLE", "dense": "DOUBLE", "delta": "DOUBLE", "published_sparsity": "DOUBLE",
            "published_retrain_epochs": "DOUBLE", "published_n": "BIGINT", "published_median": "DOUBLE",
            "published_dense": "DOUBLE", "published_delta": "DOUBLE", "difference": "DOUBLE",
            "difference_low": "DOUBLE", "difference_high": "DOUBLE",
        }  # fmt: skip
        names = list(columns)
        condition, measures = attrgetter(*names[:5]), attrgetter(*names[5:11])
        rows = [
            (
                *condition(p.ours),
                *measures(p.ours),
                *measures(p.theirs),
                p.difference,
                *(p.interval or (None, None)),
            )
            for p in self.points
        ]
        return typed_table(columns, rows)


def compare(paths: StorePaths, to: str = "renda2020", plan: str | None = None) -> Comparison:
    """Compare our cells (of one plan, or of all) with those of a publication, or of a file of `own_numbers`.

    Raises UnknownName for a publication that is not in `SOURCES`, DataError for what a file should not hold,
    StoreError where the store cannot be read.
    """
    if own_numbers.is_file(to):
        theirs = own_numbers.own_numbers(Path(to))
    elif to in SOURCES:
        theirs = published(paths, to)
    else:
        raise UnknownName("publication", to, (*SOURCES, "FILE.csv"))
    return match(to, measured(paths, plan), theirs)


def neighbours(paths: StorePaths) -> dict[tuple[str, str, int], tuple[str, Sample]]:
    """Find the published number beside each of our cells that has one, and its publication: the first in `SOURCES`.

    By plan, cell and iteration.
    Raises StoreError where the store cannot be read.
    """
    ours = measured(paths)
    out: dict[tuple[str, str, int], tuple[str, Sample]] = {}
    for source in SOURCES:
        search = NeighbourSearch(source, published(paths, source))
        for sample in ours:
            if sample.cell is not None and sample.cell not in out:
                found, _ = search.nearest(sample)
                if found is not None:
                    out[sample.cell] = source, found
    return out


def match(source: str, ours: Sequence[Sample], theirs: Sequence[Sample]) -> Comparison:
    """Pair our samples with the published ones, and judge the publication's claims by both."""
    points: list[Point] = []
    alone: list[tuple[Sample, str]] = []
    search = NeighbourSearch(source, theirs)
    for sample in ours:
        found, why = search.nearest(sample)
        if found is None:
            alone.append((sample, why))
        else:
            points.append(Point(sample, found, tuple(near_misses(source, sample, found))))
    seen = {(sample.network, sample.dataset, sample.kind) for sample in ours}
    used = {id(point.theirs) for point in points}
    missing = [
        sample
        for sample in at_main_length(theirs)
        if (sample.network, sample.dataset, sample.kind) in seen and id(sample) not in used
    ]
    alike = [sample for sample in ours if sample.task == PUBLISHED_TASK]
    judged = [(judge(claim, theirs), judge(claim, alike)) for claim in CLAIMS.get(source, ())]
    return Comparison(source, tuple(points), tuple(alone), tuple(missing), tuple(judged))

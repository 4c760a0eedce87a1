"""Measured beside published: the same cells as changes from each one's own dense network, and the papers' claims.

Both papers' figures show medians, so ours are medians; absolute accuracies differ because their dense networks do (by
up to 0.75 points), so everything is the median minus the mean dense accuracy, in percentage points. Nothing is
interpolated: a cell has the published neighbour at the nearest sparsity and length of retraining, within `TOLERANCE`,
or none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from prunectl.errors import UnknownName
from prunectl.results.claims import Claim, at_main_length, judge
from prunectl.results.formats import typed_table
from prunectl.results.samples import Sample, measured, published
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths

SOURCES = ("renda2020", "mikler2021", "mikler2021-thesis")

TOLERANCE = 0.05
"""How far compression and length of retraining may be from the published ones, as a fraction of them."""

STATED_STEP = {"renda2020": 0.2}
"""The fraction removed per iteration of iterative pruning where the table leaves it out but the paper has one."""


@dataclass(frozen=True)
class Point:
    """One of our cells and the published one nearest to it; accuracies in percent, differences in points."""

    ours: Sample
    theirs: Sample

    @property
    def difference(self) -> float:
        """Our change from dense minus theirs."""
        return self.ours.delta - self.theirs.delta

    @property
    def inside(self) -> bool | None:
        """Whether our change lies within their spread; None where they give none."""
        if self.theirs.low is None or self.theirs.high is None:
            return None
        low, high = self.theirs.low - self.theirs.dense, self.theirs.high - self.theirs.dense
        # 1e-9 forgives the last bits of differences of accuracies with two digits.
        return low - 1e-9 <= self.ours.delta <= high + 1e-9


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
    claims: tuple[tuple[Claim, Claim], ...] = ()
    """What the publication claims, judged by its own numbers and by ours."""

    @property
    def inside(self) -> tuple[int, int]:
        """How many points lie within the published spread, of how many that have one."""
        judged = [point.inside for point in self.points if point.inside is not None]
        return sum(judged), len(judged)

    def table(self) -> Result:
        """Write the points in long form, for programs."""
        columns = {
            "network": "VARCHAR", "dataset": "VARCHAR", "structure": "VARCHAR", "schedule": "VARCHAR",
            "strategy": "VARCHAR", "sparsity": "DOUBLE", "retrain_epochs": "DOUBLE", "n": "BIGINT",
            "median": "DOUBLE", "dense": "DOUBLE", "delta": "DOUBLE", "published_sparsity": "DOUBLE",
            "published_retrain_epochs": "DOUBLE", "published_n": "BIGINT", "published_median": "DOUBLE",
            "published_dense": "DOUBLE", "published_delta": "DOUBLE", "difference": "DOUBLE", "inside": "BOOLEAN",
        }  # fmt: skip
        names = list(columns)
        condition, measures = attrgetter(*names[:5]), attrgetter(*names[5:11])
        rows = [
            (*condition(p.ours), *measures(p.ours), *measures(p.theirs), p.difference, p.inside)
            for p in self.points
        ]
        return typed_table(columns, rows)


def compare(paths: StorePaths, to: str = "renda2020", plan: str | None = None) -> Comparison:
    """Compare our cells (of one plan, or of all) with those of a publication.

    Raises UnknownName for a publication that is not in `SOURCES`, StoreError where the store cannot be read.
    """
    if to not in SOURCES:
        raise UnknownName("publication", to, SOURCES)
    theirs = published(paths, to)
    ours, unlike = measured(paths, plan)
    return match(to, ours, theirs, unlike)


def neighbours(paths: StorePaths) -> dict[tuple[str, str, int], tuple[str, Sample]]:
    """Find the published number beside each of our cells that has one, and its publication: the first in `SOURCES`.

    By plan, cell and iteration.
    Raises StoreError where the store cannot be read.
    """
    ours, _ = measured(paths)
    out: dict[tuple[str, str, int], tuple[str, Sample]] = {}
    for source in SOURCES:
        search = _NeighbourSearch(source, published(paths, source))
        for sample in ours:
            if sample.cell is not None and sample.cell not in out:
                found, _ = search.nearest(sample)
                if found is not None:
                    out[sample.cell] = source, found
    return out


def match(
    source: str,
    ours: Sequence[Sample],
    theirs: Sequence[Sample],
    unmatched: Iterable[tuple[Sample, str]] = (),
) -> Comparison:
    """Pair our samples with the published ones; `unmatched` are more of ours, with the reason they have no pair."""
    points: list[Point] = []
    alone = list(unmatched)
    search = _NeighbourSearch(source, theirs)
    for sample in ours:
        found, why = search.nearest(sample)
        if found is None:
            alone.append((sample, why))
        else:
            points.append(Point(sample, found))
    seen = {(sample.network, sample.dataset, sample.kind) for sample in ours}
    used = {id(point.theirs) for point in points}
    missing = [
        sample
        for sample in at_main_length(theirs)
        if (sample.network, sample.dataset, sample.kind) in seen and id(sample) not in used
    ]
    judged = zip(judge(source, theirs), judge(source, ours), strict=True)
    return Comparison(source, tuple(points), tuple(alone), tuple(missing), tuple(judged))


class _NeighbourSearch:
    """Search for the published sample to compare one of ours with."""

    def __init__(self, source: str, theirs: Sequence[Sample]) -> None:
        self._source = source
        self._theirs = theirs
        self._known: dict[tuple[object, ...], tuple[list[Sample], str]] = {}

    def nearest(self, sample: Sample) -> tuple[Sample | None, str]:
        """Find the sample nearest in sparsity, then in length of retraining, then the one with more trials."""
        left, why = self._alike(sample)
        if left:
            left = [each for each in left if _same_length(sample, each)]
            why = "length of retraining not within 5 % of a published one"
        if left:
            left = [each for each in left if near(1 - each.sparsity, 1 - sample.sparsity)]
            why = "sparsity not within 5 % of a published compression"
        if not left:
            return None, why

        def distance(each: Sample) -> tuple[float, float, int]:
            longer = abs((each.retrain_epochs or 0) - (sample.retrain_epochs or 0))
            return abs(each.sparsity - sample.sparsity), longer, -each.n

        return min(left, key=distance), ""

    def _alike(self, sample: Sample) -> tuple[list[Sample], str]:
        """Find all published samples of the same condition but for sparsity and length, or the reason for none."""
        condition = (
            sample.network, sample.dataset, sample.structure, sample.kind, sample.prune_step, sample.strategy,
        )  # fmt: skip
        if condition not in self._known:
            self._known[condition] = self._search(sample)
        return self._known[condition]

    def _search(self, sample: Sample) -> tuple[list[Sample], str]:
        place = (sample.network, sample.dataset)
        left = [each for each in self._theirs if (each.network, each.dataset) == place]
        if not left:
            return [], "network and data set not in the publication"
        left = [each for each in left if _same_structure(sample, each)]
        if not left:
            return [], "kind of pruning not in the publication for this network"
        left = [each for each in left if _same_schedule(self._source, sample, each)]
        if not left:
            return [], "schedule not in the publication for this network"
        left = [each for each in left if each.strategy == sample.strategy]
        return left, "" if left else "strategy not in the publication for this schedule"


def near(a: float, b: float) -> bool:
    """Check whether two positive quantities are within `TOLERANCE` of each other."""
    if a <= 0 or b <= 0:
        return a == b
    # 1e-9 forgives the last bits of 1 − sparsity.
    return abs(math.log(a / b)) <= math.log(1 + TOLERANCE) + 1e-9


def _same_structure(ours: Sample, theirs: Sample) -> bool:
    # Ratios of one's own have no name; they are beside whichever of the published sets comes nearest.
    return theirs.structure == ours.structure or (
        ours.structure == "structured" and theirs.structure.startswith("structured")
    )


def _same_schedule(source: str, ours: Sample, theirs: Sample) -> bool:
    if ours.kind != theirs.kind:
        return False
    step = theirs.prune_step or STATED_STEP.get(source)
    return theirs.kind != "iterative" or None in (step, ours.prune_step) or step == ours.prune_step


def _same_length(ours: Sample, theirs: Sample) -> bool:
    # Renda et al. trained re-initialised networks at full length whatever the table's retrain_epochs says.
    if theirs.retrain_epochs is None or ours.retrain_epochs is None or ours.strategy == "reinit":
        return True
    return near(ours.retrain_epochs, theirs.retrain_epochs)

"""Which published cell one of ours is beside: like with like, or a reason why there is none.

Pairs agree in network with its shortcuts, data set, training recipe, criterion, scope, kind of pruning, schedule,
strategy and length of retraining. Nothing is interpolated: the published neighbour is the one at the nearest sparsity
and length, within `TOLERANCE`. What differs in how numbers are computed alone is a near miss, and told. The query
`ours-vs-published` has the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from prunectl.results.publications import RECIPES, STATED_STEP
from prunectl.results.samples import PUBLISHED_TASK, Sample
from prunectl.spec.trial import without_digits

TOLERANCE = 0.05
"""How far compression and length of retraining may be from the published ones, as a fraction of them."""

NOT_STATED = "by which recipe theirs were trained is not stated"
"""A near miss of one's own numbers."""

TOLD = ("precision", "optimizer_state")
HARMLESS = (*TOLD, "deterministic", "evaluate", "micro_batch", "retrain", "source", "unverified")
"""Keys of a recipe that a plan may change and still be beside the publication: how it is computed, when it is looked
at, and the lengths of retraining, which are compared by themselves. Of these the first are told."""


class NeighbourSearch:
    """Search for the published sample to compare one of ours with."""

    def __init__(self, source: str, theirs: Sequence[Sample]) -> None:
        self._source = source
        self._theirs = theirs
        self._known: dict[tuple[object, ...], tuple[list[Sample], str]] = {}

    def nearest(self, sample: Sample) -> tuple[Sample | None, str]:
        """Find the sample nearest in sparsity, then in length of retraining, then the one with more trials."""
        if sample.task != PUBLISHED_TASK:
            return None, f"{sample.task}: the publications have {PUBLISHED_TASK} alone"
        if sample.selected:
            return None, "chosen by validation out of a sweep: the publications tune nothing so"
        left, why = self._alike(sample)
        if left:
            left, why = _pruned_alike(sample, left)
        if left:
            left, why = _trained_alike(self._source, sample, left)
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
        # One's own numbers may call a strategy by the plan's name for it, without the digits of its content.
        names = (sample.strategy, without_digits(sample.strategy))
        left = [
            each for each in left if each.strategy in names[: 1 if self._source in RECIPES else 2]
        ]
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


def near_misses(source: str, ours: Sample, theirs: Sample) -> list[str]:
    """Say what of a sample's recipe differs from its neighbour's without keeping them apart, or is not known of it."""
    base, *words = ours.recipe.split(" ")
    if source not in RECIPES:
        return [] if theirs.recipe else [NOT_STATED]
    told = [word for word in words if _key(word) in TOLD] if base in RECIPES[source] else []
    return [f"{word} differs from the publication's recipe" for word in told]


def _trained_alike(source: str, ours: Sample, theirs: Sequence[Sample]) -> tuple[list[Sample], str]:
    """Select what was trained as ours, with the reason where there is none.

    Publications train by the shipped recipes of their name; one's own numbers by the recipe that they state, if any.
    """
    if source not in RECIPES:
        left = [each for each in theirs if each.recipe in ("", ours.recipe)]
        others = " or ".join(sorted({each.recipe for each in theirs}))
        return left, f"trained by {ours.recipe}, not by {others}"
    base, *words = ours.recipe.split(" ")
    if base not in RECIPES[source]:
        return [], f"trained by {ours.recipe}, not by {' or '.join(RECIPES[source])}"
    other = [word for word in words if _key(word) not in HARMLESS]
    return ([], f"the recipe is changed: {', '.join(other)}") if other else (list(theirs), "")


def _pruned_alike(ours: Sample, theirs: Sequence[Sample]) -> tuple[list[Sample], str]:
    """Select what was pruned by the same criterion in the same scope, with the reason where there is none.

    Where these are not stated it is magnitude: globally, and layerwise for filters, as in the publications.
    """
    usual = "layerwise" if ours.granularity.startswith("filters ") else "global"
    for name, stated, told in (
        ("criterion", "magnitude", "pruned by {}, theirs by {}"),
        ("scope", usual, "scope {}, theirs {}"),
    ):
        own = getattr(ours, name)
        others = sorted({getattr(each, name) or stated for each in theirs})
        theirs = [each for each in theirs if (getattr(each, name) or stated) == own]
        if not theirs:
            return [], told.format(own, " or ".join(others))
    return list(theirs), ""


def _key(word: str) -> str:
    """Return the key of the recipe that a word of its label changes: ``retrain`` of ``retrain.reinit=full``."""
    return word.split("=")[0].split(".")[0]

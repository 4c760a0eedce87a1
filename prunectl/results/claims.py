"""Claims judged by seeds: one computation for what a plan claims, what the publications claim, and their own numbers.

The unit of replication is the seed, never the sparsity: differences are averaged over a claim's sparsities within each
seed, and the interval is over the seeds. Each condition (plan, network, data set, recipe, kind of pruning, schedule) is
judged apart, at its methods' main lengths of retraining; over several, a claim is supported where it is supported in
each, and contradicted where it is contradicted in one after Holm's correction (S. Holm, Scand. J. Statist. 6 (1979)
65-70), so that neither is said wrongly with more than 5 %.

A publication that gives three networks by their lowest, median and highest score has three values, the means over the
ladder of the lows, of the medians, of the highs: sorted as they are, their spread is too large rather than too small.
Others give no spread of seeds: their numbers agree or disagree with a claim in direction, and support nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prunectl.results import claim_conditions, no_loss, relations
from prunectl.results.judged import Judged, Part, Verdict
from prunectl.results.no_loss import NoLoss
from prunectl.results.samples import Sample, at_main_length
from prunectl.spec.claim import Claim, Scope, matches
from prunectl.spec.trial import without_digits


def judge(claim: Claim | NoLoss, samples: Iterable[Sample]) -> Judged:
    """Judge a claim by these samples."""
    groups: dict[tuple[str, ...], list[Sample]] = {}
    for sample in at_main_length(samples):
        if _in_scope(claim.scope, sample):
            groups.setdefault(sample.condition, []).append(sample)
    found = (
        no_loss.judge_condition(claim, group)
        if isinstance(claim, NoLoss)
        else claim_conditions.judge_condition(claim, group)
        for group in groups.values()
    )
    parts = tuple(part for part in found if part is not None)
    return Judged(claim, _together(parts), parts)


def _in_scope(scope: Scope, sample: Sample) -> bool:
    names = (
        (scope.network, (sample.network,)),
        (scope.dataset, (sample.dataset,)),
        (scope.recipe, (sample.recipe, without_digits(sample.recipe))),
        (scope.structure, (sample.structure, sample.structure.split("-")[0])),
        (scope.schedule, (sample.schedule, sample.kind)),
    )
    # Published numbers have no recipe.
    named = all(matches(patterns, *found) for patterns, found in names if any(found))
    return named and scope.has_level(sample.level)


def _together(parts: Sequence[Part]) -> Verdict:
    """Combine what is found under several conditions."""
    if not parts:
        return "out of scope"
    found = {part.verdict for part in parts}
    # Holm's first step: the smallest of k p-values is held against 5 %/k.
    if min(part.against for part in parts) * len(parts) < relations.TAIL:
        return "contradicted"
    if "disagrees" in found:
        return "disagrees"
    if found == {"supported"}:
        return "supported"
    return "agrees" if found <= {"supported", "agrees"} else "undecided"

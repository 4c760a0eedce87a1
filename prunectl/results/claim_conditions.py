"""A claim under one condition: by the seeds of our own cells, or by what a publication gives."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from prunectl.results import relations
from prunectl.results.board_notes import NOT_INDEPENDENT
from prunectl.results.judged import Part, condition_title, interval_text
from prunectl.results.samples import Sample, three_values
from prunectl.results.statistics import Estimate, paired, welch
from prunectl.spec.claim import DENSE, Claim
from prunectl.spec.seeds import Seeds
from prunectl.spec.trial import without_digits
from prunectl.text import plural, signed


def judge_condition(claim: Claim, group: Sequence[Sample]) -> Part | None:
    """Judge the claim under one condition; None where it has not both methods."""
    a, b = (_at_levels(group, name) for name in (claim.a, claim.b))
    if not (a or claim.a == DENSE) or not (b or claim.b == DENSE) or not (a or b):
        return None
    if any(sample.seeds for sample in group):
        return _by_seeds(claim, a, b)
    return _by_publication(claim, a, b)


Cells = Mapping[float, Sample]
"""A method's cells by level; empty for the dense networks, which every cell has with it."""


def _at_levels(group: Sequence[Sample], method: str) -> Cells:
    return {
        sample.level: sample
        for sample in group
        if method in (sample.strategy, without_digits(sample.strategy))
    }


def _by_seeds(claim: Claim, a: Cells, b: Cells) -> Part:
    one = next(iter((a or b).values()))
    values = {
        level: _gains(claim, a.get(level), b.get(level))
        for level in sorted({*a} & {*b} if a and b else {*a, *b})
    }
    seeds = sorted({seed for gains in values.values() for seed in gains})
    levels = tuple(level for level, gains in values.items() if len(gains) == len(seeds))
    where = condition_title(one)
    if not seeds or not levels:
        return Part(where, "undecided", "no sparsity at which every seed has both")
    cells = [cells[level] for cells in (a, b) if cells for level in levels]
    first = min(cell.seeds[seed].ended for cell in cells for seed in seeds)
    means = [statistics.fmean(values[level][seed] for level in levels) for seed in seeds]
    if not all(cell.independent for cell in cells):
        gap = f"{claim.a} − {claim.b}: {signed(one.sign * statistics.fmean(means))}"
        said = f"{gap} over {plural(len(seeds), 'trial')}, {plural(len(levels), 'level')}; {NOT_INDEPENDENT}"
        return Part(where, "undecided", said, None, levels, first_result=first)
    estimate = paired(means, one.resolution / len(levels))
    over = f"over {plural(len(seeds), 'seed')}, {plural(len(levels), 'level')}"
    said = f"{_difference(claim, estimate, one.sign)} {over}"
    if uneven := _uneven(cells, seeds):
        return Part(where, "undecided", f"{said}; {uneven}", estimate, levels, first_result=first)
    return Part(
        where,
        relations.verdict(claim.relation, estimate, claim.margin),
        said if estimate.df else f"{said}; one seed shows no spread",
        estimate,
        levels,
        claim.relation,
        claim.margin,
        relations.against(claim.relation, estimate, claim.margin),
        first,
    )


def _gains(claim: Claim, a: Sample | None, b: Sample | None) -> dict[Seeds, float]:
    """Return the gain of each seed that both have."""
    one = a or b
    assert one is not None
    out = {}
    for seed, found in one.seeds.items():
        scores = [found.dense if cell is None else _score(cell, seed) for cell in (a, b)]
        if scores[0] is not None and scores[1] is not None:
            out[seed] = one.sign * (scores[0] - scores[1])
    return out


def _score(cell: Sample, seed: Seeds) -> float | None:
    return cell.seeds[seed].score if seed in cell.seeds else None


def _uneven(cells: Sequence[Sample], seeds: Sequence[Seeds]) -> str:
    """Say which method failed in some seeds alone: as one more number it would hide the difference in the spread."""
    for cell in cells:
        failed = sum(cell.seeds[seed].failed for seed in seeds)
        if 0 < failed < len(seeds):
            return (
                f"{cell.strategy} failed in {failed} of {len(seeds)} seeds (diverged or collapsed)"
            )
    return ""


def _by_publication(claim: Claim, a: Cells, b: Cells) -> Part:
    """Judge a condition of a publication: by three values where it gives them, else by direction."""
    levels = tuple(sorted({*a} & {*b} if a and b else {*a, *b}))
    one = next(iter((a or b).values()))
    where = condition_title(one)
    if not levels:
        return Part(where, "undecided", "no sparsity that both methods have")
    sides = [[cells.get(level) for level in levels] for cells in (a, b)]
    over = plural(len(levels), "level")
    if (estimate := _three_networks(sides)) is not None:
        said = f"{_difference(claim, estimate, 1)} over 3 networks, {over}"
        verdict = relations.verdict(claim.relation, estimate, claim.margin)
        against = relations.against(claim.relation, estimate, claim.margin)
        return Part(where, verdict, said, estimate, levels, against=against)
    mean = statistics.fmean(_median(x, y) - _median(y, x) for x, y in zip(*sides, strict=True))
    agrees = relations.points_there(claim.relation, mean, claim.margin)
    said = f"{claim.a} − {claim.b}: {signed(mean)} without seeds, {over}"
    return Part(where, "agrees" if agrees else "disagrees", said, None, levels)


def _three_networks(sides: Sequence[Sequence[Sample | None]]) -> Estimate | None:
    """Estimate the difference of two methods of which each cell gives three networks, by Welch's t."""
    means: list[list[float] | None] = []
    for side in sides:
        cells = [three_values(cell) for cell in side if cell is not None]
        if None in cells:
            return None
        # Lows, medians and highs, each averaged over the ladder; dense networks have none of their own.
        means.append([statistics.fmean(each) for each in zip(*cells, strict=True)] or None)
    a, b = means
    if a is not None and b is not None:
        return welch(a, b)
    dense = statistics.fmean(cell.dense for side in sides for cell in side if cell is not None)
    return paired([value - dense for value in a] if a else [dense - value for value in b or ()])


def _median(cell: Sample | None, other: Sample | None) -> float:
    """Return a cell's median, or the dense networks' mean where the other cell is held against them."""
    if cell is not None:
        return cell.median
    assert other is not None
    return other.dense


def _difference(claim: Claim, estimate: Estimate, sign: int) -> str:
    return f"{claim.a} − {claim.b}: {interval_text(estimate, sign)}"

"""What is said of stages that were run again: how what came out compares with what their bundle says."""

from __future__ import annotations

import socket
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from prunectl.store.bundle import Bundle, outcome
from prunectl.store.db import query
from prunectl.store.paths import StorePaths
from prunectl.store.records.replication import Outcome, Replication, VerdictName
from prunectl.store.records.stage import read_result

SPREADS = 3
"""Standard deviations over the seeds that a score may differ by."""

_COMPARED = ("score", "loss", "flag", "kept", "prunable")
"""Fields of `Outcome` that the same weights have alike, and beside them the metrics that were measured on both."""
_MACHINE = ("device_name", "versions")
"""Fields of `Outcome` that say what computed it: on another machine the last bits of an evaluation may differ."""


@dataclass(frozen=True)
class Verdict:
    """What is said of a stage."""

    name: VerdictName
    reason: str
    tolerance: float | None
    n: int


def judge(there: Outcome, here: Outcome, seeds: Sequence[float], *, exact_counts: bool) -> Verdict:
    """Compare what a stage came to on two machines.

    Args:
        seeds: finite scores of the other seeds of its cell, there.
        exact_counts: whether the number of weights kept does not depend on the weights.
    """
    tolerance = _tolerance(there.score, here.score, seeds)
    n = 0 if there.score is None else len(seeds) + 1
    differing = _differing(there, here, _COMPARED)
    differing += [
        name
        for name in there.metrics.keys() & here.metrics.keys()
        if there.metrics[name] != here.metrics[name]
    ]
    if there.weights is not None and there.weights == here.weights:
        if not differing:
            return Verdict("identical", "the same weights and results", tolerance, n)
        if not _differing(there, here, _MACHINE):
            said = ", ".join(sorted(differing))
            reason = f"the weights are the same, and other results ({said}) are said to be theirs"
            return Verdict("different", reason, tolerance, n)
    counts = ("prunable", "kept") if exact_counts else ("prunable",)
    if other := [name for name in counts if name in differing]:
        return Verdict("different", f"another number of weights ({', '.join(other)})", tolerance, n)
    if there.score is None or here.score is None:
        return _without_score(there, here, n)
    apart = abs(there.score - here.score)
    if tolerance is None:
        reason = f"{apart:.4g} apart; {n} seed in its cell, so that nothing says how much is much"
        return Verdict("incomparable", reason, None, n)
    reason = f"{apart:.4g} apart, of {tolerance:.4g} allowed by {n} seeds"
    return Verdict("within" if apart <= tolerance else "different", reason, tolerance, n)


def _differing(there: Outcome, here: Outcome, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(there, name) != getattr(here, name)]


def _without_score(there: Outcome, here: Outcome, n: int) -> Verdict:
    """Judge where a score is not finite, there or here."""
    if there.score is None and here.score is None and there.flag == here.flag:
        return Verdict("within", f"no finite score there and here ({here.flag})", None, n)
    where = "there" if there.score is None else "here"
    return Verdict("different", f"no finite score {where}", None, n)


def _tolerance(there: float | None, here: float | None, seeds: Sequence[float]) -> float | None:
    """Return how far the scores may be apart; None below two seeds.

    With the score there alone, one that is far from the truth would widen the spread that it is judged by: of up to
    nine seeds no single one could be found out. So the smaller spread of the two counts.
    """
    if there is None or here is None or not seeds:
        return None
    return SPREADS * min(statistics.stdev([*seeds, score]) for score in (there, here))


class SeedScores:
    """Scores of the seeds of a bundle's cells."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._cells: dict[tuple[str, int], set[str]] = defaultdict(set)
        """Done stages of each cell and iteration."""
        for trial in bundle.study.trials:
            for iteration, key in enumerate(trial.path):
                if key in bundle.done:
                    self._cells[trial.cell, iteration].add(key)
        self._cells_of: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for cell, keys in self._cells.items():
            for key in keys:
                self._cells_of[key].append(cell)

    def beside(self, key: str) -> list[float]:
        """Return the finite scores of the other seeds of a stage's cell: of the one that has most of them, where it
        belongs to several. Raises StoreError where a result cannot be read."""
        cells = (self._cells[cell] for cell in self._cells_of[key])
        others = max(cells, key=len, default=set()) - {key}
        stages = map(self._bundle.paths.stage, sorted(others))
        scores = (read_result(stage).score for stage in stages)
        return [score for score in scores if score is not None]


def compare_stage(
    bundle: Bundle,
    there: Outcome,
    seeds: Sequence[float],
    paths: StorePaths,
    key: str,
    *,
    from_parents: bool,
) -> Replication:
    """Compare a stage of the bundle, which came to `there`, with what it came to in a store, where it is done.

    Args:
        seeds: `SeedScores.beside` it.
        paths: a store that replicates the bundle, `from_parents` or from scratch.

    Raises FileNotFoundError where it is not done, StoreError where a file cannot be read or is damaged.
    """
    result, here = outcome(paths, key)
    mask = bundle.study.stages[key].stage.mask
    exact = mask is None or mask.settings.granularity == "weight"
    verdict = judge(there, here, seeds, exact_counts=exact)
    return Replication(
        bundle=bundle.digest,
        plan=bundle.study.digest,
        name=bundle.study.name,
        key=key,
        verdict=verdict.name,
        reason=verdict.reason,
        there=there,
        here=here,
        tolerance=verdict.tolerance,
        n=verdict.n,
        from_parents=from_parents,
        host=socket.gethostname(),
        device=result.device,
        time=result.ended,
    )


@dataclass(frozen=True)
class Replicated:
    """How the stages of a plan's current version were replicated, by whoever it was: the worst verdict of each."""

    plan: str
    stages: int
    """Stages that were run again."""
    of: int
    """Stages of the plan."""
    hosts: int
    """Machines that they were run on."""
    counts: Mapping[VerdictName, int]


_COUNTS = """
WITH own AS (
    SELECT DISTINCT c.plan, p.stage
    FROM current_plans c JOIN plan_trials USING (digest) JOIN paths p USING (trial)
), found AS (
    SELECT stage, array_agg(DISTINCT host) AS hosts, CASE
        WHEN bool_or(verdict = 'different') THEN 'different'
        WHEN bool_or(verdict = 'incomparable') THEN 'incomparable'
        WHEN bool_or(verdict = 'within') THEN 'within'
        ELSE 'identical' END AS verdict
    FROM replications GROUP BY stage
)
SELECT plan, count(found.stage), count(*), len(list_distinct(flatten(list(hosts) FILTER (hosts IS NOT NULL)))),
    count(*) FILTER (verdict = 'identical'), count(*) FILTER (verdict = 'within'),
    count(*) FILTER (verdict = 'incomparable'), count(*) FILTER (verdict = 'different')
FROM own LEFT JOIN found USING (stage)
WHERE $plan IS NULL OR plan = $plan
GROUP BY plan HAVING count(found.stage) > 0 ORDER BY plan
"""


def replicated(paths: StorePaths, plan: str | None = None) -> list[Replicated]:
    """Count how the stages of the current plans, or of one, were replicated; plans without any are left out.

    Raises StoreError where the store cannot be read.
    """
    names: tuple[VerdictName, ...] = get_args(VerdictName)
    return [
        Replicated(name, stages, of, hosts, dict(zip(names, counts, strict=True)))
        for name, stages, of, hosts, *counts in query.run(paths, _COUNTS, {"plan": plan}).rows
    ]

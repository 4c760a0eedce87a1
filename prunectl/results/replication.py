"""Replicating a study: which of its stages are run again, as which plan, and how what comes out compares with it."""

from __future__ import annotations

import hashlib
import socket
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from msgspec.structs import replace

from prunectl.errors import StoreError
from prunectl.spec.key import spec_key
from prunectl.spec.stage import Stage
from prunectl.spec.study import Study
from prunectl.spec.trial import Trial
from prunectl.store.bundle import Bundle, outcome
from prunectl.store.db import query
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record
from prunectl.store.records.replication import Outcome, Replication, VerdictName, replica_of
from prunectl.store.records.result import Result

SPREADS = 3
"""Standard deviations over the seeds that a score may differ by."""

_COMPARED = ("score", "loss", "metrics", "flag", "kept", "prunable")
"""Fields of `Outcome` that the same weights have alike."""


# Which stages, and as which plan


def choose(bundle: Bundle, count: int | None, seed: int) -> list[str]:
    """Choose `count` done stages, or all with None, at random: those whose hash with the seed comes first."""
    planned = {key for trial in bundle.study.trials for key in trial.path}
    order = sorted(bundle.done & planned, key=lambda key: _hash(f"{seed}\0{key}"))
    return order[:count]


def restricted(study: Study, chosen: Collection[str]) -> Study:
    """Make the plan that has the chosen stages and their ancestors, and nothing else.

    Each is on the path of one trial, cut after the last stage that is wanted of it. It is another plan, with a name,
    trials and cells of its own, and without file and text, which ask for more.

    Raises StoreError where a stage needs one that the study does not have, is not what its key says, or cannot be
    computed by this version.
    """
    needed = _with_ancestors(study, chosen)
    cut: dict[str, tuple[Trial, list[int]]] = {}
    covered: set[str] = set()
    # Longest first, so that a dense network is on the path of what starts from it.
    for trial in sorted(study.trials, key=lambda trial: -_end(trial, chosen)):
        if set(chosen) & (set(trial.path) - covered):
            places = [k for k in range(_end(trial, chosen)) if trial.path[k] in needed]
            cut[trial.id] = trial, places
            covered.update(trial.path[k] for k in places)
    digest = _hash("\0".join((study.digest, *sorted(chosen))))[:16]
    name = f"{study.name}-replication"
    return replace(
        study,
        digest=digest,
        name=name,
        file="",
        text="",
        overrides=(),
        trials=tuple(_cut(*each, name, digest) for each in cut.values()),
        stages={key: study.stages[key] for key in study.stages if key in needed},
    )


def _with_ancestors(study: Study, chosen: Collection[str]) -> set[str]:
    found: set[str] = set()
    left = list(chosen)
    while left:
        key = left.pop()
        if key in found:
            continue
        if key not in study.stages:
            raise StoreError(f"plan {study.name} lacks stage {key[:12]}, which others of it need")
        found.add(key)
        left += _checked(study, key).needs
    return found


def _checked(study: Study, key: str) -> Stage:
    spec = study.stages[key].spec
    if spec_key(spec) != key:
        raise StoreError(f"plan {study.name}: stage {key[:12]} is not what its key stands for")
    try:
        return spec.computable
    except ValueError as error:
        raise StoreError(f"plan {study.name}: stage {key[:12]} is of {error}") from error


def _end(trial: Trial, chosen: Collection[str]) -> int:
    """Return the length of the trial's path up to the last chosen stage."""
    return max((k + 1 for k, key in enumerate(trial.path) if key in chosen), default=0)


def _cut(trial: Trial, places: Sequence[int], plan: str, digest: str) -> Trial:
    """Make the trial of another plan that has these stages of its path."""
    cell = _hash(f"{digest}\0{trial.cell}")[
        :16
    ]  # an id stands for one path, also in another choice
    return replace(
        trial,
        id=_hash(f"{cell}\0{trial.seed}")[:16],
        cell=cell,
        plan=plan,
        path=tuple(trial.path[k] for k in places),
        sparsities=tuple(trial.sparsities[k] for k in places),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# How it compares


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
    differing = [name for name in _COMPARED if getattr(there, name) != getattr(here, name)]
    if there.weights is not None and there.weights == here.weights:
        if differing:
            said = ", ".join(differing)
            reason = f"the weights are the same, and other results ({said}) are said to be theirs"
            return Verdict("different", reason, tolerance, n)
        return Verdict("identical", "the same weights and results", tolerance, n)
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
        scores = (read_record(stage.result, Result).score for stage in stages)
        return [score for score in scores if score is not None]


def compare_stage(
    bundle: Bundle, there: Outcome, seeds: Sequence[float], paths: StorePaths, key: str
) -> Replication:
    """Compare a stage of the bundle, which came to `there`, with what it came to in a store, where it is done.

    Args:
        seeds: `SeedScores.beside` it.
        paths: a store that replicates the bundle.

    Raises FileNotFoundError where it is not done, StoreError where a file cannot be read or is damaged.
    """
    result, here = outcome(paths, key)
    mask = bundle.study.stages[key].stage.mask
    exact = mask is None or mask.settings.granularity == "weight"
    verdict = judge(there, here, seeds, exact_counts=exact)
    replica = replica_of(paths)
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
        from_parents=replica is not None and replica.parents is not None,
        host=socket.gethostname(),
        device=result.device,
        time=result.ended,
    )


# What was found so far


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

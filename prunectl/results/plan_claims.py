"""The claims that plans state, judged by their own results: stated before, judged after.

Where a plan is run again with more claims, those are marked that were first stated when results that they are judged by
were already there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
from msgspec.structs import replace as changed

from prunectl.results.claims import judge
from prunectl.results.formats import typed_table
from prunectl.results.judged import Judged, Part
from prunectl.results.relations import TAIL
from prunectl.results.samples import Sample, measured
from prunectl.spec.claim import Claim
from prunectl.store.db import query
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths

AFTERWARDS = "stated after its first result"

_CLAIMS = """
SELECT p.plan, p.claims, epoch(coalesce(p.made, p.created)) AS stated, v.current
FROM plans p JOIN plan_versions v USING (digest)
WHERE ($plan IS NULL OR p.plan = $plan) AND p.claims IS NOT NULL
ORDER BY p.plan, v.version
"""


@dataclass(frozen=True)
class PlanClaim:
    """A claim of a plan's current version, and what its results say of it."""

    plan: str
    claim: Claim
    judged: Judged
    stated: float | None
    """When a version of the plan with this claim was first run, Unix seconds."""


def plan_claims(paths: StorePaths, plan: str | None = None) -> list[PlanClaim]:
    """Judge the claims of the current version of a plan, or of all plans. Raises StoreError as `measured`."""
    rows = query.run(paths, _CLAIMS, {"plan": plan}).dicts()
    stated: dict[tuple[str, Claim], float | None] = {}
    current: dict[str, tuple[Claim, ...]] = {}
    for row in rows:
        found = msgspec.json.decode(row["claims"], type=tuple[Claim, ...])
        for claim in found:
            times = (stated.get(_meaning(row["plan"], claim)), row["stated"])
            known = [time for time in times if time is not None]
            stated[_meaning(row["plan"], claim)] = min(known, default=None)
        if row["current"]:
            current[row["plan"]] = found
    if not any(current.values()):
        return []
    samples = measured(paths, plan)
    return [
        _judged(name, claim, samples, stated[_meaning(name, claim)])
        for name, found in current.items()
        for claim in found
    ]


def _meaning(plan: str, claim: Claim) -> tuple[str, Claim]:
    """What a claim says, whatever its words."""
    return plan, changed(claim, text="")


def _judged(plan: str, claim: Claim, samples: list[Sample], stated: float | None) -> PlanClaim:
    judged = judge(claim, [sample for sample in samples if sample.label == plan])
    times = [part.first_result for part in judged.parts if part.first_result is not None]
    if stated is not None and times and min(times) < stated:
        judged = replace(judged, note=AFTERWARDS)
    return PlanClaim(plan, claim, judged, stated)


_COLUMNS = {
    **dict.fromkeys(("plan", "claim", "a", "b", "relation"), "VARCHAR"),
    "margin": "DOUBLE", "scope": "JSON", "stated": "DOUBLE", "note": "VARCHAR", "verdict": "VARCHAR",
    "condition": "VARCHAR", "condition_verdict": "VARCHAR", "gain": "DOUBLE", "low": "DOUBLE", "high": "DOUBLE",
    "seeds": "BIGINT", "sparsities": "DOUBLE[]", "found": "VARCHAR",
}  # fmt: skip


def claims_table(claims: Sequence[PlanClaim]) -> Result:
    """Write claims in long form, a row for each condition, or one for a claim without any.

    `gain` is that of a over b, above 0 where a is better; `low` and `high` are its one-sided 95 % bounds.
    """
    rows = []
    for each in claims:
        claim, judged = each.claim, each.judged
        said = (
            *(each.plan, claim.title, claim.a, claim.b, claim.relation, claim.margin),
            *(msgspec.to_builtins(claim.scope), each.stated, judged.note or None, judged.verdict),
        )
        rows += [(*said, *_part_row(part)) for part in judged.parts or (None,)]
    return typed_table(_COLUMNS, rows)


def _part_row(part: Part | None) -> tuple[object, ...]:
    if part is None:
        return (None,) * 8
    estimate = part.estimate
    values: tuple[object, ...] = (None,) * 4
    if estimate is not None:
        bounds = (estimate.lower(TAIL), estimate.upper(TAIL)) if estimate.df else (None, None)
        values = (estimate.mean, *bounds, estimate.n)
    return (part.condition, part.verdict, *values, list(part.levels), part.evidence)

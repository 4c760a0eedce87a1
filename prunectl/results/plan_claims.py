"""The claims that plans state, judged by their own results: stated before, judged after.

Where a plan is run again with more claims, those are marked that were first stated when results that they are judged by
were already there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
from msgspec.structs import replace as changed

from prunectl.results.claims import judge
from prunectl.results.judged import Judged
from prunectl.results.samples import Sample, measured
from prunectl.spec.claim import Claim
from prunectl.store.db import query
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
    return PlanClaim(plan, judged, stated)

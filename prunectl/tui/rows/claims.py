"""From a plan's claims to the lines of their window. Pure; the verdicts are those of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunectl.results.plan_claims import PlanClaim

STYLES = {"supported": "good", "contradicted": "bad"}
"""By verdict."""


@dataclass(frozen=True)
class Line:
    """One line of the window."""

    text: str
    style: str = ""
    """Its colour, by the names of `columns.Cell`."""


def summary(claims: Sequence[PlanClaim]) -> str:
    """Count the verdicts: ``claims: 2 supported, 1 undecided``; "" where the plan claims nothing."""
    counts = Counter(each.judged.verdict for each in claims)
    return (
        "claims: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) if counts else ""
    )


def claim_lines(claims: Sequence[PlanClaim]) -> list[Line]:
    """Write each claim, its verdict with what it rests on, and the conditions it was judged under."""
    lines: list[Line] = []
    for each in claims:
        judged = each.judged
        lines += [
            Line(judged.title, "bold"),
            Line(f"  {judged.text}", STYLES.get(judged.verdict, "")),
        ]
        if len(judged.parts) > 1:
            lines += [
                Line(f"    {part.condition}: {part.verdict}: {part.evidence}", STYLES.get(part.verdict, ""))
                for part in judged.parts
            ]  # fmt: skip
        lines.append(Line(""))
    return lines[:-1]

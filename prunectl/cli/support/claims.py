"""Claims on the terminal: what `compare` says of the publications' and of the plans' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunectl.cli.support.tables import table

if TYPE_CHECKING:
    from rich.console import Console

    from prunectl.results.judged import Judged
    from prunectl.results.plan_claims import PlanClaim


def print_conditions(out: Console, found: Sequence[Judged]) -> None:
    """Print what claims of several conditions come to under each."""
    for judged in found:
        if len(judged.parts) > 1:
            out.print(f"{judged.title}:", markup=False)
            for part in judged.parts:
                out.print(f"  {part.condition}: {part.verdict}: {part.evidence}", markup=False)


def print_plan_claims(out: Console, found: Sequence[PlanClaim]) -> None:
    """Print what plans claim, and what their results say of it."""
    if not found:
        return
    rows = [(each.plan, each.judged.title, each.judged.text) for each in found]
    out.print(table(("plan", "claims", "its results"), rows, left=(0, 1, 2)))
    print_conditions(out, [each.judged for each in found])

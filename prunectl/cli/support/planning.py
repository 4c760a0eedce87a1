"""Reading plans: from a file to its expansion, checked against the networks it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the plan's models take 0.5 s to import
    from prunectl.plan.expand import Expansion


def read_plans(files: Sequence[Path], overrides: Sequence[str]) -> list[Expansion]:
    """Load, expand and check the plans of one run.

    Raises PlanError, also where two different ones have the same name.
    """
    from prunectl.cli.support.network_check import NetworkCheck
    from prunectl.plan.expand import expand
    from prunectl.plan.load import load

    with NetworkCheck() as check:
        expansions = [expand(load(file, overrides), check) for file in files]
    seen: dict[str, str] = {}
    for expansion in expansions:
        plan = expansion.plan
        name = plan.content.name
        if seen.setdefault(name, expansion.digest) != expansion.digest:
            raise plan.fail("another plan of this run has the same name", "name", found=name)
    return expansions

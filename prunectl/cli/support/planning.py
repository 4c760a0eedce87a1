"""Reading plans: from a file to its expansion, checked once against the networks it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunectl.store.paths import StorePaths

if TYPE_CHECKING:  # the plan's models take 0.5 s to import
    from prunectl.plan.expand import Expansion


def read_plans(
    files: Sequence[Path], overrides: Sequence[str], paths: StorePaths
) -> list[Expansion]:
    """Read the plans of one run. Raises PlanError, also where two different ones have the same name."""
    expansions = [read_plan(file, overrides, paths) for file in files]
    seen: dict[str, str] = {}
    for expansion in expansions:
        plan = expansion.plan
        name = plan.content.name
        if seen.setdefault(name, expansion.digest) != expansion.digest:
            raise plan.fail("another plan of this run has the same name", "name", found=name)
    return expansions


def read_plan(file: Path, overrides: Sequence[str], paths: StorePaths) -> Expansion:
    """Load, expand and check a plan.

    A version that the store knows has been checked before and is expanded without torch, in well under a second,
    unless it prunes by filter ratios, whose sparsities have to be counted.
    Raises PlanError.
    """
    from prunectl.plan.expand import expand
    from prunectl.plan.load import load

    plan = load(file, overrides)
    expansion = expand(plan, None)
    if not expansion.counted or not paths.plan(expansion.digest).exists():
        from prunectl.ml.network_summary import check

        expansion = expand(plan, check)
    return expansion

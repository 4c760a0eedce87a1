"""From a plan's file to its expansion, checked once against the networks it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunectl.plan.expand import Expansion
    from prunectl.store.paths import StorePaths


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

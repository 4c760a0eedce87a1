"""What a plan claims: its `[[claims]]` held against its grid."""

from __future__ import annotations

from collections.abc import Sequence

from prunectl.errors import UnknownName
from prunectl.plan.load import LoadedPlan
from prunectl.spec.claim import DENSE, Claim, Scope, matches


def claims_of(plan: LoadedPlan, selections: Sequence[str] = ()) -> tuple[Claim, ...]:
    """Return the plan's claims; names of `selections` are methods, too.

    Raises PlanError for a method, a network or a data set that the grid does not have.
    """
    grid = plan.content.grid
    out = []
    for number, table in enumerate(plan.content.claims):
        key = f"claims[{number}]"
        for side in ("a", "b"):
            methods = dict.fromkeys((*grid.strategy, *selections, DENSE))
            found = getattr(table, side)
            if found not in methods:
                message = "unknown method"
                raise plan.fail(message, f"{key}.{side}", found=found, allowed=list(methods))
        for name, values in (("network", grid.network), ("dataset", grid.dataset)):
            for pattern in getattr(table, name) or ():
                with plan.naming(f"{key}.{name}"):
                    _check(pattern, name, values)
        scope = Scope(
            table.network or (),
            table.dataset or (),
            table.recipe or (),
            table.structure or (),
            table.schedule or (),
            table.compression,
        )
        out.append(Claim(table.a, table.b, table.relation, table.margin, scope, table.text))
    return tuple(out)


def _check(pattern: str, kind: str, names: Sequence[str]) -> None:
    """Raise UnknownName for a pattern that matches none of the names."""
    if not matches((pattern,), *names):
        raise UnknownName(kind, pattern, names)

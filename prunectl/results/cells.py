"""The cells of plans as rows: what `rank` writes for scripts, and boards are arranged from."""

from __future__ import annotations

from typing import TypedDict, Unpack

from prunectl.errors import ControlError, nearest
from prunectl.store.db import query
from prunectl.store.db.query import Result
from prunectl.store.paths import StorePaths

_CELLS = """
SELECT {columns}, r.rank, coalesce(r.best, false) AS best, coalesce(r.tied, false) AS tied,
       coalesce(r.uneven, false) AS uneven, r.gap, r.gap_std, r.gap_ci, r.pairs, r.contenders, r.spread, r.spread_pairs,
       f.options, f.picks, f.mean_by_test, f.flattery, f.flattery_ci,
       t.metric, t.unit, t.higher_is_better, v.version, v.versions, v.current
FROM {leaderboard} l
LEFT JOIN {ranking} r USING ({key})
LEFT JOIN {selections} f USING ({key})
LEFT JOIN tasks t ON t.task = l.task AND t.position = 0
JOIN plan_versions v ON v.plan = l.plan AND {version}
WHERE ($plan IS NULL OR l.plan = $plan)
  AND ($network IS NULL OR l.network = $network)
  AND ($dataset IS NULL OR l.dataset = $dataset)
ORDER BY l.plan, v.current DESC, v.version DESC, l.network, l.dataset, l.recipe, l.schedule, l.target_sparsity,
         r.rank NULLS LAST, l.strategy, l.criterion, l.scope, l.granularity, l.retrain, l.cell
"""
# The views of all versions take as many times as long as there are versions.
_CURRENT = _CELLS.format(
    columns="l.*", leaderboard="leaderboard", ranking="ranking", selections="selections", key="plan, cell, iteration",
    version="v.current",
)  # fmt: skip
_EVERY = _CELLS.format(
    columns="l.* EXCLUDE (version, current)", leaderboard="leaderboard_all", ranking="ranking_all",
    selections="selections_all",
    key="plan, version, current, cell, iteration",
    version="v.version = l.version AND ($version IS NULL OR v.version = $version)",
)  # fmt: skip


class Shown(TypedDict, total=False):
    """What of a store is shown, beside the plan: by default all networks and data sets of that plan's current version
    alone."""

    network: str | None
    dataset: str | None
    all_plans: bool
    version: int | None
    """Number of the version to show in the current one's place."""
    every_version: bool


def cells(paths: StorePaths, plan: str | None = None, **only: Unpack[Shown]) -> Result:
    """Query the long form: one row per cell with the columns of `leaderboard`, then those of `ranking`
    and, of what validation chooses, of `selections`.

    Last come `version`, `versions` (how many the plan has) and `current`. Without a name it is the plan that was last
    used. Raises ControlError for a plan or a version the store does not have.
    """
    named, version = not only.get("all_plans"), only.get("version")
    if named and plan is None:
        plan = _plan_name(paths, plan)
    chosen = {"plan": plan, "network": only.get("network"), "dataset": only.get("dataset")}
    if only.get("every_version") or version is not None:
        found = query.run(paths, _EVERY, chosen | {"version": version})
    else:
        found = query.run(paths, _CURRENT, chosen)
    if named and not found.rows:
        _plan_name(paths, plan)  # it has no cells where it is not there: said where it matters
        _check_version(paths, plan, version)
    return found


def _check_version(paths: StorePaths, plan: str | None, version: int | None) -> None:
    """Raise ControlError for a version that the plan does not have."""
    sql = "SELECT version, current FROM plan_versions WHERE plan = $plan ORDER BY version"
    known = dict(query.run(paths, sql, {"plan": plan}).rows)
    if version is not None and version not in known:
        names = (f"{each} (current)" if current else str(each) for each, current in known.items())
        raise ControlError(f"{plan} has no version {version}; it has: {', '.join(names)}")


def _plan_name(paths: StorePaths, plan: str | None) -> str | None:
    """Check a plan's name, or find the one last used; None in a store without plans."""
    rows = query.run(paths, "SELECT plan FROM current_plans ORDER BY used DESC NULLS LAST").rows
    known = [str(row[0]) for row in rows]
    if plan is None:
        return known[0] if known else None
    if plan not in known:
        near = nearest(plan, known)
        raise ControlError(
            f"no plan {plan!r} in {paths.root}; it has: {', '.join(sorted(known)) or 'none'}"
            + (f"; did you mean {near!r}?" if near else "")
        )
    return plan

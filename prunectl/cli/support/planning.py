"""Reading plans: from a file to its expansion, checked against the networks it names and the names a store knows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from prunectl.cli.support.terminal import narrate
from prunectl.errors import PlanError
from prunectl.store.paths import StorePaths
from prunectl.text import plural

if TYPE_CHECKING:  # the plan's models take 0.5 s to import
    from prunectl.plan.expand import Expansion
    from prunectl.plan.load import LoadedPlan
    from prunectl.spec.trial import Trial

PLACES = 3
"""Pairs of network and data set by which a message describes a study."""


def read_plans(
    files: Sequence[Path], overrides: Sequence[str], name: str | None = None
) -> list[Expansion]:
    """Load, expand and check the plans of one run; a single one may be given another name.

    Raises PlanError, also where two different ones have the same name, BadParameter for one name of several plans.
    """
    from prunectl.cli.support.network_check import NetworkCheck
    from prunectl.plan.expand import expand

    if name is not None and len(files) > 1:
        raise typer.BadParameter("--as NAME is of one PLAN: run each by itself")
    with NetworkCheck() as check:
        expansions = [expand(_load(file, overrides, name), check, narrate) for file in files]
    seen: dict[str, str] = {}
    for expansion in expansions:
        plan = expansion.plan
        same = plan.content.name
        if seen.setdefault(same, expansion.digest) != expansion.digest:
            raise plan.fail("another plan of this run has the same name", "name", found=same)
    return expansions


def _load(file: Path, overrides: Sequence[str], name: str | None) -> LoadedPlan:
    from prunectl.plan.load import load

    if name is None:
        return load(file, overrides)
    # As text whatever it looks like: `1e5` is a number in TOML.
    named = f"name={json.dumps(name, ensure_ascii=False)}"
    try:
        return load(file, [*overrides, named])
    except PlanError as error:
        if error.key != "name":
            raise
        raise PlanError(error.message, key="--as", found=name) from None


def taken_name(paths: StorePaths, expansion: Expansion) -> PlanError | None:
    """Look whether the plan's name is another study's in the store; None where it is new there, or a version of it.

    A plan that was not run before is a version of what has its name if it comes from a file of the same name, or trains
    one of the current version's networks on the same data set.
    """
    from prunectl.store.records.plan import plan_versions, read_outline

    if paths.plan(expansion.digest).exists():
        return None
    plan = expansion.plan
    known = plan_versions(paths, read_outline).get(plan.content.name)
    if known is None:
        return None
    current = known.current
    same_file = Path(plan.file).name == Path(current.file).name
    if same_file or _places(expansion.trials).keys() & _places(current.trials).keys():
        return None
    return plan.fail(
        f"{plan.content.name} is another study in {paths.root}\n"
        f"  there:   {_described(current.file, current.trials)}\n"
        f"  here:    {_described(plan.file, expansion.trials)}\n"
        "  to run it under a name of its own: --as NAME, as if `name = NAME` stood in the file\n"
        "  to run it as a new version of that study, which `prunectl rank` shows in its place: --new-version",
        "name",
    )


def _places(trials: Sequence[Trial]) -> Counter[tuple[str, str]]:
    """Count the trials of each network on each data set."""
    return Counter((trial.network, trial.dataset) for trial in trials)


def _described(file: str, trials: Sequence[Trial]) -> str:
    places = [f"{network} on {dataset}" for network, dataset in _places(trials)]
    more = f" and {len(places) - PLACES} more" if len(places) > PLACES else ""
    return f"{file or 'a plan'}: {', '.join(places[:PLACES])}{more}, {plural(len(trials), 'trial')}"

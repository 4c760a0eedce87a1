"""Ladders of sparsity levels as pruning settings, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

from prunectl.errors import PrunectlError, UnknownName
from prunectl.plan import filter_ratios
from prunectl.plan.load import LoadedPlan
from prunectl.plan.pruning import Pruning
from prunectl.plan.shapes import Check
from prunectl.spec.density import ImpossibleDensity
from prunectl.spec.settings import NetworkSettings, PruneSettings

UNKNOWN = "unknown"
"""The sparsity of a level by filter ratios where no check has counted its weights."""


@dataclass(frozen=True)
class Level:
    """One pruning of a trial."""

    settings: PruneSettings
    sparsity: str
    """Fraction of the dense prunable weights that is gone: exact, but for filter ratios, rounded to six digits."""


Ladder = tuple[Level, ...]
"""The levels of one trial, iteration 1 first."""


def ladders(
    plan: LoadedPlan, network: NetworkSettings, pruning: Pruning | None, check: Check | None
) -> list[Ladder]:
    """Make the ladder of each trial: one, or one per level where pruning is one-shot, or an empty one for no pruning.

    Raises PlanError with file and line for a level that changes nothing, leaves nothing, or cannot be.
    """
    if pruning is None:
        return [()]
    levels = _levels(plan, network, pruning)
    one_shot = pruning.schedule.kind == "one-shot"
    out: list[Ladder] = [(level,) for level in levels] if one_shot else [tuple(levels)]
    return out if check is None else [_checked(plan, network, ladder, check) for ladder in out]


def _levels(plan: LoadedPlan, network: NetworkSettings, pruning: Pruning) -> list[Level]:
    exclude = tuple(sorted(pruning.exclude))
    if pruning.ratios is None:
        # Decimal's usual 28 digits would round 1 − density.
        with localcontext(prec=200):
            return [
                Level(
                    PruneSettings(
                        criterion=pruning.criterion,
                        scope=pruning.scope,
                        granularity=pruning.granularity,
                        density=filter_ratios.plain(density),
                        exclude=exclude,
                    ),
                    filter_ratios.plain(1 - density),
                )
                for density in pruning.schedule.densities()
            ]
    with plan.naming("pruning.ratios"):
        levels = filter_ratios.levels(
            pruning.ratios, network.name, pruning.schedule.iterations or 1
        )
    return [
        Level(PruneSettings(criterion=pruning.criterion, exclude=exclude, ratios=pairs), UNKNOWN)
        for pairs in levels
    ]


def _checked(plan: LoadedPlan, network: NetworkSettings, ladder: Ladder, check: Check) -> Ladder:
    """Check that each level removes something and leaves something, and fill in sparsities that are unknown."""
    dense = Level(PruneSettings(exclude=ladder[0].settings.exclude), "0")
    prunable = _kept(plan, network, dense, check)
    if prunable < 1:
        raise plan.fail(f"every layer of {network.name} is excluded", "pruning.exclude")
    before = prunable
    out = []
    for level in ladder:
        kept = _kept(plan, network, level, check)
        sparsity = level.sparsity
        key = "pruning.schedule"
        if level.settings.ratios:
            sparsity = filter_ratios.plain(Decimal(f"{1 - kept / prunable:.6f}"))
            key = "pruning.ratios"
        count = f"sparsity {sparsity} keeps {kept:,} of the {prunable:,} prunable weights of {network.name}"
        if kept < 1:
            raise plan.fail(count, key)
        if kept >= before:
            raise plan.fail(f"{count}, no fewer than the {before:,} before it", key)
        before = kept
        out.append(Level(level.settings, sparsity))
    return tuple(out)


def _kept(plan: LoadedPlan, network: NetworkSettings, level: Level, check: Check) -> int:
    """Count the weights that a level keeps. Raises PlanError for what the network does not have or cannot be."""
    try:
        summary = check(network, readers=bool(level.settings.ratios))
        return summary.kept_by(level.settings)
    except UnknownName as error:
        in_ratios = error.found in dict(level.settings.ratios)
        if in_ratios and error.found in level.settings.exclude:
            message = "a layer with a ratio is excluded"
            raise plan.fail(message, "pruning.exclude", found=error.found) from None
        key = f"pruning.ratios.{error.found}" if in_ratios else "pruning.exclude"
        raise plan.fail(
            f"unknown {error.kind} of {network.name}",
            key,
            found=error.found,
            allowed=error.allowed,
        ) from None
    except ImpossibleDensity as error:
        raise plan.fail(
            f"sparsity {level.sparsity}: {error}", "pruning.schedule", found=network.name
        ) from None
    except PrunectlError as error:
        raise plan.fail(str(error), "grid.network", found=network.name) from None

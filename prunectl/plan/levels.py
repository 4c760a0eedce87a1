"""Ladders: the cuts of each trial as pruning settings, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext

from prunectl.errors import PrunectlError, UnknownName
from prunectl.plan import filter_ratios as ratios
from prunectl.plan.load import LoadedPlan
from prunectl.plan.pruning import Pruning
from prunectl.spec.density import ImpossibleDensity
from prunectl.spec.settings import NetworkSettings, PruneSettings

Check = Callable[[NetworkSettings, PruneSettings], int]
"""How many prunable weights a network keeps; `core.inspect.check` is one, and says what is impossible."""

UNKNOWN = "unknown"
"""The sparsity of a cut by filter ratios before a check has counted its weights."""


@dataclass(frozen=True)
class Cut:
    """One pruning of a trial."""

    settings: PruneSettings
    sparsity: str
    """Fraction of the dense prunable weights that is gone: exact, but for filter ratios, rounded to six digits."""


Ladder = tuple[Cut, ...]


def ladders(
    plan: LoadedPlan, network: NetworkSettings, pruning: Pruning | None, check: Check | None
) -> list[Ladder]:
    """The ladder of each trial: one, or one per level where pruning is one-shot, or an empty one for no pruning.

    Raises PlanError with file and line for a level that changes nothing, leaves nothing, or cannot be.
    """
    if pruning is None:
        return [()]
    cuts = _cuts(plan, network, pruning)
    one_shot = pruning.schedule.kind == "one-shot"
    out: list[Ladder] = [(cut,) for cut in cuts] if one_shot else [tuple(cuts)]
    return out if check is None else [_checked(plan, network, ladder, check) for ladder in out]


def _cuts(plan: LoadedPlan, network: NetworkSettings, pruning: Pruning) -> list[Cut]:
    exclude = tuple(sorted(pruning.exclude))
    if pruning.ratios is None:
        return [
            Cut(
                PruneSettings(
                    criterion=pruning.criterion,
                    scope=pruning.scope,
                    granularity=pruning.granularity,
                    density=ratios.plain(density),
                    exclude=exclude,
                ),
                _sparsity(density),
            )
            for density in pruning.schedule.densities()
        ]
    try:
        found = ratios.cuts(pruning.ratios, network.name, pruning.schedule.iterations or 1)
    except UnknownName as error:
        raise plan.unknown(error, "pruning.ratios") from None
    return [
        Cut(PruneSettings(criterion=pruning.criterion, exclude=exclude, ratios=pairs), UNKNOWN)
        for pairs in found
    ]


def _sparsity(density: Decimal) -> str:
    with localcontext(prec=200):
        return ratios.plain(1 - density)


def _checked(plan: LoadedPlan, network: NetworkSettings, ladder: Ladder, check: Check) -> Ladder:
    """The ladder, each cut of which removes something and leaves something, with every sparsity filled in."""
    whole = Cut(PruneSettings(exclude=ladder[0].settings.exclude), "0")
    prunable = _kept(plan, network, whole, check)
    if prunable < 1:
        raise plan.fail(f"every layer of {network.name} is excluded", "pruning.exclude")
    before = prunable
    out = []
    for cut in ladder:
        kept = _kept(plan, network, cut, check)
        sparsity = cut.sparsity
        key = "pruning.schedule"
        if cut.settings.ratios:
            sparsity = ratios.plain(Decimal(f"{1 - kept / prunable:.6f}"))
            key = "pruning.ratios"
        said = f"sparsity {sparsity} keeps {kept:,} of the {prunable:,} prunable weights"
        if kept < 1:
            raise plan.fail(f"{said} of {network.name}", key)
        if kept >= before:
            raise plan.fail(
                f"{said} of {network.name}, no fewer than the {before:,} before it", key
            )
        before = kept
        out.append(Cut(cut.settings, sparsity))
    return tuple(out)


def _kept(plan: LoadedPlan, network: NetworkSettings, cut: Cut, check: Check) -> int:
    try:
        return check(network, cut.settings)
    except UnknownName as error:
        in_ratios = error.found in dict(cut.settings.ratios)
        if in_ratios and error.found in cut.settings.exclude:
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
            f"sparsity {cut.sparsity}: {error}", "pruning.schedule", found=network.name
        ) from None
    except PrunectlError as error:
        raise plan.fail(str(error), "grid.network", found=network.name) from None

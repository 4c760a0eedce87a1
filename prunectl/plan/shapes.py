"""What a network can take: the plan's images, and the batches that will really be trained on, checked before anything
runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prunectl.errors import NetworkMisfit, PlanError, PrunectlError
from prunectl.plan.load import LoadedPlan
from prunectl.plan.training import Training
from prunectl.spec.batch_layout import passes
from prunectl.spec.settings import NetworkSettings, PruneSettings, Shape
from prunectl.text import plural

SHAPE_OPTIONS = (("channels", (0,)), ("size", (1, 2)), ("height", (1,)), ("width", (2,)))
"""Options of data sets that say the images' shape, each with what of it."""


class Summary(Protocol):
    """What a plan asks of a network: `ml.network_summary.NetworkSummary`."""

    @property
    def smallest_batch(self) -> int:
        """Images that it must be given at once in training."""

    @property
    def fewer_fail(self) -> str:
        """Where it fails with one image less."""

    def kept_by(self, prune: PruneSettings) -> int:
        """Count the prunable weights that a pruning keeps. Raises UnknownName, and ImpossibleDensity."""


class Check(Protocol):
    """Summarises networks: what `ml.summarise.examine` does."""

    def __call__(self, network: NetworkSettings, *, readers: bool = False) -> Summary:
        """Return a network's summary, for filter ratios with `readers`. Raises NetworkMisfit."""


def check_shapes(plan: LoadedPlan, training: Training, steps: int, check: Check) -> None:
    """Check that the network takes the images, and every batch of a training of so many steps.

    Raises PlanError with file and line, about the key that mends it.
    """
    try:
        summary = check(training.network)
    except NetworkMisfit as error:
        raise _misfit(plan, training, error) from None
    except PrunectlError as error:
        raise plan.fail(str(error), "grid.network", found=training.network.name) from None
    sizes = training.layout.sizes(steps)
    for size in sizes:
        if min(passes(size, training.settings.micro_batch)) < summary.smallest_batch:
            raise _too_few(plan, training, sizes, size, summary)


def _misfit(plan: LoadedPlan, training: Training, error: NetworkMisfit) -> PlanError:
    """Make the error of images that do not fit: about the option that gives their shape, where another would do."""
    name, shape, options = (
        training.network.name,
        training.network.shape,
        dict(training.data.options),
    )
    if error.fits is None:
        return plan.fail(str(error), "grid.network", found=name)
    details = {
        "allowed": (f"{name} on images of {_times(error.fits)}", "another network"),
        "suggestion": "",
    }
    for option, places in SHAPE_OPTIONS:
        other = any(shape[place] != error.fits[place] for place in places)
        if other and option in options and training.dataset in plan.content.datasets:
            key = f"datasets.{training.dataset}.{option}"
            return plan.fail(str(error), key, found=str(options[option]), **details)
    return plan.fail(str(error), "grid.network", found=name, **details)


def _too_few(
    plan: LoadedPlan, training: Training, sizes: Sequence[int], size: int, summary: Summary
) -> PlanError:
    """Make the error of a batch of `size` images, of which all or a part are too few for the network."""
    layout, micro, least = training.layout, training.settings.micro_batch, summary.smallest_batch
    network = training.network
    why = (
        f"{network.name} trains on no fewer than {plural(least, 'image')} of {_times(network.shape)} at a time "
        f"(with fewer {summary.fewer_fail})"
    )
    if size >= least:
        few = min(passes(size, micro))
        return plan.fail(
            f"{why}, and of a batch of {size} passes have {micro} and {few}"
            if few < micro
            else f"{why}, and a pass has {micro}",
            "recipe.micro_batch",
            found=str(micro),
            allowed=[str(_other_micro_batch(sizes, micro, least)), "none"],
            suggestion="",
        )
    if size == layout.batch:
        allowed = [f"at least {least}"]
        return plan.fail(why, "recipe.batch", found=str(size), allowed=allowed, suggestion="")
    if layout.count > layout.batch:
        return plan.fail(
            f"{why}, and {layout.count:,} images in batches of {layout.batch} leave {size} for the last",
            "recipe.last_batch",
            found=training.recipe.last_batch,
            allowed=['"drop"', 'recipe.batches = "straddle"', "another recipe.batch"],
            suggestion="",
        )
    own = training.dataset in plan.content.datasets
    held_out = training.recipe.validation.taken_from == "train"
    place = f"datasets.{training.dataset}" if own else "grid.dataset"
    return plan.fail(
        f"{why}, and there {'is' if size == 1 else 'are'} {size} to train on",
        "recipe.validation.count" if held_out else place,
        found=plural(size, "training image"),
        allowed=[f"at least {least}"],
        suggestion="",
    )


def _other_micro_batch(sizes: Sequence[int], micro: int, least: int) -> int:
    """Return the micro-batch nearest to `micro`, less if there is one, that cuts no batch into parts below `least`."""
    fit = [
        other
        for other in range(least, max(sizes) + 1)
        if all(size < least or min(passes(size, other)) >= least for size in sizes)
    ]
    return max((other for other in fit if other < micro), default=min(fit))


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape))

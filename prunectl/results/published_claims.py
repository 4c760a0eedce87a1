"""What the publications claim: the abstracts' and the reports' own lists, as METHODS C9 reads them.

The compressions without loss are derived: from the publication's own data by the rule of `no_loss`.
"""

from __future__ import annotations

from prunectl.results.judged import MARGIN
from prunectl.results.no_loss import NoLoss
from prunectl.spec.claim import Claim, Scope

_RECIPES = (
    "renda2020-cifar", "renda2020-cifar-vgg", "renda2020-imagenet", "mikler2021-resnet", "mikler2021-wrn",
    "mikler2021-thesis-wrn",
)  # fmt: skip
"""Trainings as the publications did them: what other ones come to is beside their claims."""

_RENDA = Scope(network=("resnet-*", "vgg-16"), dataset=("cifar10", "imagenet"), recipe=_RECIPES)
_MIKLER = Scope(network=("resnet-*", "wrn-*"), dataset=("cifar10", "cifar100"), recipe=_RECIPES)
_RESNETS = Scope(network=("resnet-*",), dataset=("cifar10", "cifar100"), recipe=_RECIPES)
_WIDE = Scope(network=("wrn-*",), dataset=("cifar10",), recipe=_RECIPES, schedule=("iterative",))


def _fine_tuning(scope: Scope) -> tuple[Claim, Claim]:
    return (
        Claim(
            "lr-rewind",
            "fine-tune",
            "better",
            scope=scope,
            text="learning-rate rewinding is better than fine-tuning",
        ),
        Claim(
            "weight-rewind",
            "fine-tune",
            "better",
            scope=scope,
            text="weight rewinding is better than fine-tuning",
        ),
    )


CLAIMS: dict[str, tuple[Claim | NoLoss, ...]] = {
    "renda2020": (
        *_fine_tuning(_RENDA),
        Claim(
            "lr-rewind", "weight-rewind", "as-good", MARGIN, _RENDA,
            f"learning-rate rewinding is as good as weight rewinding (margin {MARGIN:g} points)",
        ),
        Claim(
            "reinit", "fine-tune", "worse", 0.0,
            Scope(_RENDA.network, _RENDA.dataset, _RENDA.recipe, structure=("unstructured",)),
            "re-initialised networks are worse than fine-tuned ones",
        ),
        *(
            NoLoss(Scope((network,), (dataset,), _RECIPES), compression)
            for network, dataset, compression in (
                ("resnet-20", "cifar10", 5.96), ("resnet-56", "cifar10", 9.31), ("resnet-110", "cifar10", 9.31),
                ("resnet-50", "imagenet", 4.77),
            )
        ),
    ),
    "mikler2021": (
        *_fine_tuning(_MIKLER),
        Claim(
            "lr-rewind", "weight-rewind", "as-good", MARGIN, _RESNETS,
            f"ResNets: learning-rate rewinding is as good as weight rewinding (margin {MARGIN:g} points)",
        ),
        Claim(
            "lr-rewind", "weight-rewind", "worse", 0.0, _WIDE,
            "Wide ResNets, iterative: learning-rate rewinding is worse than weight rewinding",
        ),
    ),
    "mikler2021-thesis": (
        Claim(
            "partial-rewind-75", "partial-rewind-25", "better", 0.0, _WIDE,
            "Wide ResNets, iterative: rewinding weights by 75 % is better than by 25 %",
        ),
        Claim(
            "partial-rewind-75", "weight-rewind", "better", 0.0, _WIDE,
            "Wide ResNets, iterative: rewinding weights by 75 % is better than weight rewinding",
        ),
    ),
}  # fmt: skip
"""By publication."""

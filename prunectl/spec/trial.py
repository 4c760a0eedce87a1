"""What a trial is: one cell of a plan's grid with its seeds, as a path of stages."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.spec.ranges import Seed
from prunectl.spec.seeds import Seeds, check_left_out
from prunectl.spec.task import DEFAULT_TASK

LABELS = (
    "network",
    "dataset",
    "recipe",
    "strategy",
    "schedule",
    "criterion",
    "scope",
    "granularity",
    "retrain",
)
"""What tells trials apart besides their seeds."""
SEEDS = ("seed", "order_seed", "augment_seed")
"""What the seeds of initialisation, order and augmentation are called in records, queries and conditions."""

_DIGITS = re.compile("@[0-9a-f]{6}(?= |$)")


def with_digits(name: str, content: str) -> str:
    """Return the label of what a plan defines itself: its name and six digits of its content, a text."""
    # 24 bits: of a hundred strategies of one name, one for each version, two are alike with probability 3e-4.
    return f"{name}@{hashlib.sha256(content.encode()).hexdigest()[:6]}"


def without_digits(label: str) -> str:
    """Return a label as the plan has it, by name alone."""
    return _DIGITS.sub("", label)


class Trial(msgspec.Struct, frozen=True, omit_defaults=True):
    """One point of the grid with its seeds: a path of stages, and the names its tables call it by."""

    id: Annotated[str, Meta(description="the trial's id, 16 hex digits")] = msgspec.field(
        name="trial"
    )
    cell: Annotated[
        str, Meta(description="the same for trials that differ only in their seeds, 16 hex digits")
    ]
    seed: Annotated[
        Seed,
        Meta(
            description="seed of the initialisation; of data order and augmentation, too, where these have none of "
            "their own"
        ),
    ]
    path: Annotated[tuple[str, ...], Meta(description="keys of its stages: iteration 0, 1 …")]
    sparsities: Annotated[
        tuple[str, ...],
        Meta(
            description="fraction that each iteration is to remove of the dense network's prunable weights, as "
            'decimals; "0" first, exact but for filter ratios'
        ),
    ]
    plan: Annotated[str, Meta(description="name of the plan")] = ""
    network: Annotated[str, Meta(description="name of the network")] = ""
    dataset: Annotated[str, Meta(description="name of the data set")] = ""
    recipe: Annotated[
        str,
        Meta(
            description="how networks are trained: a shipped recipe with what the plan changes of it, or own@ with six "
            "digits of the content of one that the plan defines"
        ),
    ] = ""
    strategy: Annotated[
        str,
        Meta(
            description="what happens after pruning: its name, with @ and six digits of its content where the plan "
            "defines it"
        ),
    ] = ""
    schedule: Annotated[
        str,
        Meta(
            description="how sparsity is reached: one-shot, or iterative with its rate or sparsities, and with its end "
            "where the plan has several ladders of that rate"
        ),
    ] = ""
    criterion: Annotated[str, Meta(description="how weights are scored")] = ""
    scope: Annotated[
        str,
        Meta(
            description="where scores compete: global, layerwise or uniform; then which layers are left out"
        ),
    ] = ""
    granularity: Annotated[str, Meta(description="what is removed: weight or channel")] = ""
    retrain: Annotated[str, Meta(description="length of retraining as the plan says it")] = ""
    task: Annotated[
        str, Meta(description="what networks are trained to do, and so what is measured of them")
    ] = DEFAULT_TASK
    order_seed: Annotated[
        Seed | None,
        Meta(
            description="seed of the order of training images; records leave it out where it is `seed`"
        ),
    ] = None
    augment_seed: Annotated[
        Seed | None,
        Meta(
            description="seed of the random changes of training images; records leave it out where it is `seed`, as "
            "where the recipe changes none"
        ),
    ] = None

    def __post_init__(self) -> None:
        """Raise ValueError for seeds that are to be left out."""
        check_left_out(self.seed, self.order_seed, self.augment_seed)

    @property
    def seeds(self) -> Seeds:
        """The seeds of all purposes."""
        return Seeds.of(self.seed, self.order_seed, self.augment_seed)

    @property
    def labels(self) -> dict[str, str]:
        """The values of `LABELS`, by name."""
        return {name: getattr(self, name) for name in LABELS}

    def as_dict(self) -> dict[str, object]:
        """Return all fields by their names in records, also those that are left out there."""
        fields = msgspec.structs.asdict(self)
        own = {"order_seed": self.seeds.order, "augment_seed": self.seeds.augment}
        return {"trial": fields.pop("id"), **fields, **own}

    def label(self, name: str) -> str:
        """Return a label, or a seed, the plan, cell or id as text; "" for any other name."""
        if name in ("trial", *SEEDS):
            return str(self.as_dict()[name])
        return str(getattr(self, name)) if name in (*LABELS, "plan", "cell") else ""

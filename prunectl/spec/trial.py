"""What a trial is: one cell of a plan's grid with one seed, as a path of stages."""

from __future__ import annotations

import msgspec

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
"""What tells trials apart besides their seed."""


class Trial(msgspec.Struct, frozen=True, omit_defaults=True):
    """One point of the grid with a seed: a path of stages, and the names its tables call it by."""

    id: str = msgspec.field(name="trial")
    """16 hex digits."""
    cell: str
    """The same for trials that differ only in their seed; 16 hex digits."""
    seed: int
    path: tuple[str, ...]
    """Keys of its stages: iteration 0, 1 …"""
    sparsities: tuple[str, ...]
    """What each iteration aims at, as decimals; "0" first. Exact, but for filter ratios: see `plan.levels`."""
    plan: str = ""
    """Name of the plan."""
    network: str = ""
    dataset: str = ""
    recipe: str = ""
    strategy: str = ""
    schedule: str = ""
    criterion: str = ""
    scope: str = ""
    granularity: str = ""
    retrain: str = ""
    task: str = DEFAULT_TASK

    @property
    def labels(self) -> dict[str, str]:
        """The values of `LABELS`, by name."""
        return {name: getattr(self, name) for name in LABELS}

    def as_dict(self) -> dict[str, object]:
        """Return all fields by their names in records, also those that have their defaults."""
        fields = msgspec.structs.asdict(self)
        return {"trial": fields.pop("id"), **fields}

    def label(self, name: str) -> str:
        """Return a label, or the seed, plan, cell or id as text; "" for any other name."""
        if name == "trial":
            return self.id
        return str(getattr(self, name)) if name in (*LABELS, "seed", "plan", "cell") else ""

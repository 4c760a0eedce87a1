"""Plan records (`plans/<digest>.json`) as frozen values: which trials there are and which stages they share.

A plan has a name and, as it is edited, versions: one record per digest. The newest version's trials are the
current ones. Stage specs stay raw JSON here, so that reading ten thousand of them costs no validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from prunectl.errors import StoreError
from prunectl.store.files import read_head, read_json
from prunectl.store.paths import StorePaths

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
"""What a trial is called by, besides its seed; all strings, made by the plan."""


@dataclass(frozen=True)
class Trial:
    """One point of the grid: a path of stages from the dense network (iteration 0) on."""

    trial: str
    """16 hex digits."""
    cell: str
    """What it shares with the trials that differ only in their seed; 16 hex digits."""
    plan: str
    """Name of the plan."""
    seed: int
    path: tuple[str, ...]
    """Stage keys of iterations 0, 1, …"""
    sparsities: tuple[str, ...]
    """Target sparsity of each iteration as an exact decimal, "0" first."""
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    """By the names in `LABELS`."""

    def label(self, name: str) -> str:
        """One label, or the seed, the plan or the cell as text; "" for a name there is not."""
        if name in ("seed", "plan", "cell", "trial"):
            return str(getattr(self, name))
        return self.labels.get(name, "")


@dataclass(frozen=True)
class Stage:
    """A stage as its plan recorded it."""

    key: str
    spec: dict[str, Any] = field(hash=False)
    """As `plan.identity.spec_to_dict` writes it: {"numerics": n, "stage": {…}}, defaults left out."""
    steps: int
    """Optimizer steps it trains."""
    epoch_steps: int
    """Steps per epoch."""

    @property
    def body(self) -> dict[str, Any]:
        """The stage's own fields, raw."""
        stage: dict[str, Any] = self.spec["stage"]
        return stage

    @property
    def weights(self) -> tuple[str | None, int | None]:
        """(stage, step) the weights come from; (None, None) for a fresh initialisation."""
        weights = self.body.get("weights", {})
        return weights.get("stage"), weights.get("step")

    @property
    def parent(self) -> str | None:
        """Key of the stage whose end weights the mask is scored on."""
        parent: str | None = self.body.get("mask", {}).get("parent")
        return parent

    @property
    def needs(self) -> frozenset[str]:
        """Keys of the stages that must be done before this one can start."""
        return frozenset(key for key in (self.weights[0], self.parent) if key)

    @property
    def dense(self) -> bool:
        """Whether it starts from nothing but its seed."""
        return not self.needs


@dataclass(frozen=True)
class Study:
    """One version of a plan."""

    digest: str
    name: str
    created: float | str
    trials: tuple[Trial, ...]
    stages: dict[str, Stage] = field(hash=False)

    @cached_property
    def steps(self) -> int:
        """Steps of all its stages, each counted once."""
        return sum(stage.steps for stage in self.stages.values())


def study_from(data: dict[str, Any]) -> Study:
    """A study from a plan record.

    Raises KeyError, TypeError or ValueError where the record is not one.
    """
    trials = tuple(
        Trial(
            trial=str(row["trial"]),
            cell=str(row["cell"]),
            plan=str(row.get("plan", data["name"])),
            seed=int(row["seed"]),
            path=tuple(row["path"]),
            sparsities=tuple(str(value) for value in row["sparsities"]),
            labels={name: str(row.get(name, "")) for name in LABELS},
        )
        for row in data["trials"]
    )
    stages = {
        key: Stage(key, row["spec"], int(row["steps"]), int(row.get("epoch_steps") or 0))
        for key, row in data["stages"].items()
    }
    return Study(str(data["digest"]), str(data["name"]), data["created"], trials, stages)


def read_study(paths: StorePaths, digest: str) -> Study:
    """The plan record with this digest.

    Raises StoreError where there is none, or where it is not a plan record.
    """
    path = paths.plan(digest)
    try:
        return study_from(read_json(path))
    except FileNotFoundError as error:
        raise StoreError(f"the store has no plan {digest} ({path})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a plan record: {error!r}") from error


def read_outline(paths: StorePaths, digest: str) -> Study:
    """The same study without its stages, which are most of the record and come last in it: there are its trials
    and their paths, five times as soon. Of records in another order, the whole study.

    Raises StoreError as `read_study`.
    """
    path = paths.plan(digest)
    try:
        head = read_head(path, "stages")
        if "created" in head and "trials" in head:
            return study_from(head if "stages" in head else head | {"stages": {}})
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a plan record: {error!r}") from error
    return read_study(paths, digest)


def current(
    paths: StorePaths, read: Callable[[StorePaths, str], Study] = read_study
) -> list[Study]:
    """The newest version of each plan in the store, by name. Records that cannot be read are left out."""
    newest: dict[str, Study] = {}
    for path in sorted(paths.plans.glob("*.json")):
        try:
            study = read(paths, path.stem)
        except StoreError:
            continue
        if study.name not in newest or _age(study) >= _age(newest[study.name]):
            newest[study.name] = study
    return [newest[name] for name in sorted(newest)]


def _age(study: Study) -> tuple[float, str]:
    """Sorts both forms of a time, Unix seconds and ISO text."""
    created = study.created
    return (created, "") if isinstance(created, int | float) else (0.0, str(created))

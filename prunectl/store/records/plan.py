"""Plan records (`plans/<digest>.json`) as frozen values: which trials there are and which stages they share.

A plan has a name and, as it is edited, versions: one record per digest. The version recorded last is the current
one. Stage specs stay raw JSON here, so that reading ten thousand of them costs no validation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from prunectl.errors import ControlError, StoreError
from prunectl.store.files import read_head, read_json, write_json
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
"""What tells trials apart besides their seed; the values are strings that the plan makes."""


@dataclass(frozen=True)
class Trial:
    """One point of the grid: a path of stages from the dense network (iteration 0) on."""

    trial: str
    """16 hex digits."""
    cell: str
    """The same for trials that differ only in their seed; 16 hex digits."""
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
        """Return a label, or the seed, plan, cell or id as text; "" for any other name."""
        if name in ("seed", "plan", "cell", "trial"):
            return str(getattr(self, name))
        return self.labels.get(name, "")


@dataclass(frozen=True)
class Stage:
    """A stage as its plan recorded it."""

    key: str
    spec: dict[str, Any] = field(hash=False)
    """As `spec.key.spec_to_dict` writes it: {"numerics": n, "stage": {…}}, defaults left out."""
    steps: int
    """Optimizer steps it trains."""
    epoch_steps: int
    """Steps per epoch."""

    @property
    def body(self) -> dict[str, Any]:
        """The fields of the stage itself, as JSON."""
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
    """Convert the JSON of a plan record. Raises KeyError, TypeError or ValueError where it is not one."""
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
    """Read the plan record with this digest. Raises StoreError where there is none, or it is not a plan record."""
    path = paths.plan(digest)
    try:
        return study_from(read_json(path))
    except FileNotFoundError as error:
        raise StoreError(f"the store has no plan {digest} ({path})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a plan record: {error!r}") from error


def read_outline(paths: StorePaths, digest: str) -> Study:
    """Read a plan record's trials with their paths, in a fifth of the time: without its stages, most of its bytes.

    Of a record in which the stages do not come last, the whole study is read. Raises StoreError as `read_study`.
    """
    path = paths.plan(digest)
    try:
        head = read_head(path, "stages")
        if "created" in head and "trials" in head:
            return study_from(head if "stages" in head else head | {"stages": {}})
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a plan record: {error!r}") from error
    return read_study(paths, digest)


Read = Callable[[StorePaths, str], Study]
"""`read_study` or `read_outline`."""


def all_versions(paths: StorePaths, read: Read = read_study) -> list[Study]:
    """Read every version of every plan, oldest first. Records that cannot be read are left out."""
    found = []
    for path in sorted(paths.plans.glob("*.json")):
        try:
            found.append(read(paths, path.stem))
        except StoreError:
            continue
    return sorted(found, key=_age)


def current_studies(paths: StorePaths, read: Read = read_study) -> list[Study]:
    """Read the newest version of each plan, by name. Records that cannot be read are left out."""
    newest = {study.name: study for study in all_versions(paths, read)}
    return [newest[name] for name in sorted(newest)]


def _age(study: Study) -> tuple[float, str]:
    """Sort key for both forms of a time, Unix seconds and ISO text."""
    created = study.created
    return (created, "") if isinstance(created, int | float) else (0.0, str(created))


@dataclass(frozen=True)
class FoundTrial:
    """A trial, the newest version of a plan that asks for it, and that version's record as JSON."""

    trial: Trial
    study: Study
    record: dict[str, Any]


def find_trial(paths: StorePaths, beginning: str) -> FoundTrial:
    """Find the trial whose id begins so, in any version of any plan.

    Raises ControlError where there is none or several, StoreError where the store holds no plans or the trial's plan
    record cannot be read.
    """
    versions = all_versions(paths, read_outline)
    if not versions:
        raise StoreError(f"{paths.root} holds no plans; `prunectl run PLAN` makes some")
    digests = {trial.trial: study.digest for study in versions for trial in study.trials}
    name = match_id(paths, digests, beginning)
    path = paths.plan(digests[name])
    try:
        record = read_json(path)
        study = study_from(record)
    # An outline leaves out the stages, so that only this reads them.
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a readable plan record: {error!r}") from error
    return FoundTrial(next(each for each in study.trials if each.trial == name), study, record)


def match_id(paths: StorePaths, trials: Iterable[str], beginning: str) -> str:
    """Return the one of the store's trial ids that begins so. Raises ControlError where there is none or several."""
    found = sorted(name for name in trials if name.startswith(beginning.lower()))
    if len(found) > 1 and found[0] != beginning.lower():
        raise ControlError(f"{beginning!r} begins {len(found)} trials: {', '.join(found[:4])}, …")
    if not found or not beginning:
        raise ControlError(
            f"no trial {beginning!r} in {paths.root}; "
            "`prunectl sql 'SELECT trial, plan, strategy, seed FROM trials'` lists them"
        )
    return found[0]


def write_plans(paths: StorePaths, records: Sequence[dict[str, Any]]) -> None:
    """Write plan records, given without `created`: they become the current versions of their plans.

    Raises StoreError where one cannot be written.
    """
    # Written anew each time: the version of a plan that was used last is the current one, whatever the clock says.
    created = max(time.time(), last_use(paths) + 1e-3)
    for record in records:
        write_json(paths.plan(record["digest"]), {"created": created, **record})


def last_use(paths: StorePaths) -> float:
    """Return when a plan was recorded or run last, Unix seconds: later than now where the clock was set back."""
    last = 0.0
    for folder, name in ((paths.plans, "created"), (paths.runs, "started")):
        for path in folder.glob("*.json"):
            try:
                when = read_head(path, "trials")[name]
            except (OSError, StoreError, KeyError, TypeError):
                continue
            last = max(last, when) if isinstance(when, int | float) else last
    return last

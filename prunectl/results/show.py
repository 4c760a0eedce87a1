"""What is known of one trial, for `show --trial`: its plan's text, how to repeat it, its runs, its stages and results.

Read from the store's files alone, so it is right also where the database is behind or missing.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from prunectl.errors import StoreError
from prunectl.results.metrics import trial_metrics
from prunectl.spec.state import State
from prunectl.spec.task import Metric
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import Found
from prunectl.store.records.plan import FoundTrial, find_trial
from prunectl.store.records.provenance import RunRecord, read_run
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_result, stage_state

Place = TypeVar("Place")


MOST_BYTES_PER_CHARACTER = 4
"""Of UTF-8: a larger file than a plan's text can be is another, and is not read. A byte order mark has 3."""


@dataclass(frozen=True)
class StageFacts:
    """One iteration of the trial."""

    iteration: int
    stage: str
    target_sparsity: str
    state: State
    result: Result | None
    """None where the stage is not done."""

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; the result's metrics beside its other fields."""
        found = self.result
        result = None if found is None else {**found.metrics, **msgspec.to_builtins(found)}
        return {
            "iteration": self.iteration,
            "stage": self.stage,
            "target_sparsity": self.target_sparsity,
            "state": self.state,
            "result": result,
        }


@dataclass(frozen=True)
class TrialFacts:
    """Everything the store has on a trial."""

    found: FoundTrial
    record_file: Path
    """Where the store keeps the plan, with its text."""
    plan_file: str
    """Path of the plan when it was run, as it was given."""
    unchanged: bool | None
    """Whether that file still has the same text; None where it is not there."""
    command: tuple[str, ...]
    """What repeats the plan of the trial."""
    runs: list[RunRecord]
    """Records of the runs that were started with this version of the plan, oldest first."""
    stages: list[StageFacts]
    metric: Metric
    """The score of its task."""

    @property
    def plan_text(self) -> str:
        """The plan's TOML."""
        return self.found.study.text

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, for scripts."""
        trial = self.found.trial
        return {
            "trial": trial.id,
            "cell": trial.cell,
            "plan": trial.plan,
            "seed": trial.seed,
            "order_seed": trial.seeds.order,
            "augment_seed": trial.seeds.augment,
            **trial.labels,
            "plan_digest": self.found.study.digest,
            "plan_version": self.found.version,
            "plan_record": str(self.record_file),
            "plan_file": self.plan_file,
            "plan_file_unchanged": self.unchanged,
            "plan_text": self.plan_text,
            "overrides": list(self.found.study.overrides),
            "command": shlex.join(self.command),
            "runs": self.runs,
            "stages": [stage.as_json() for stage in self.stages],
        }


def trial_facts(paths: StorePaths, trial: str) -> TrialFacts:
    """Collect what is known of the trial with this id, or with the only id that begins so.

    Raises ControlError for a trial there is not, StoreError where the store holds no plans.
    """
    found = find_trial(paths, trial)
    file = found.study.file or f"{found.study.name}.toml"
    changes = [word for override in found.study.overrides for word in ("--set", override)]
    return TrialFacts(
        found=found,
        record_file=paths.plan(found.study.digest),
        plan_file=file,
        unchanged=_is_unchanged(Path(file), found.study.text),
        command=("prunectl", "run", file, *changes, "--store", str(paths.root)),
        runs=_runs(paths, found.study.digest),
        stages=_stages(paths, found),
        metric=trial_metrics(found).score,
    )


def _is_unchanged(file: Path, text: str) -> bool | None:
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES_PER_CHARACTER * len(text) + 3:
            return None if not file.exists() else False
        return file.read_text(encoding="utf-8-sig") == text
    except (OSError, ValueError):  # not text, or a name that no file can have
        return None


def _runs(paths: StorePaths, digest: str) -> list[RunRecord]:
    records = (_readable(read_run, path) for path in paths.runs.glob("*.json"))
    ours = [record for record in records if record and digest in record.plans]
    return sorted(ours, key=lambda record: record.started or 0.0)


def _stages(paths: StorePaths, found: FoundTrial) -> list[StageFacts]:
    trial = found.trial
    files = [paths.stage(key) for key in trial.path]
    return [
        StageFacts(k, each.key, target, stage_state(each.folder), _readable(read_result, each))
        for k, (each, target) in enumerate(zip(files, trial.sparsities, strict=True))
    ]


def _readable(read: Callable[[Place], Found], place: Place) -> Found | None:
    """Read a record; None where there is none that can be read."""
    try:
        return read(place)
    except (OSError, StoreError):
        return None

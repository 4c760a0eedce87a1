"""What is known of one trial, for `show --trial`: its plan's text, how to repeat it, its runs, its stages and results.

Read from the store's files alone, so it is right also where the database is behind or missing.
"""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunectl.errors import StoreError
from prunectl.spec.state import State
from prunectl.store.files import read_json
from prunectl.store.paths import StorePaths, stage_state
from prunectl.store.records.plan import FoundTrial, find_trial


@dataclass(frozen=True)
class StageFacts:
    """One iteration of the trial."""

    iteration: int
    stage: str
    target_sparsity: str
    state: State
    result: dict[str, Any] | None
    """result.json; None where the stage is not done."""


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
    overrides: list[str]
    """`--set` pairs of the run."""
    command: tuple[str, ...]
    """What repeats the plan of the trial."""
    runs: list[dict[str, Any]]
    """Records of the runs that were started with this version of the plan, oldest first."""
    stages: list[StageFacts]

    @property
    def plan_text(self) -> str:
        """The plan's TOML."""
        return str(self.found.record.get("text") or "")

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, for scripts."""
        trial = self.found.trial
        return {
            "trial": trial.trial,
            "cell": trial.cell,
            "plan": trial.plan,
            "seed": trial.seed,
            **trial.labels,
            "plan_digest": self.found.study.digest,
            "plan_record": str(self.record_file),
            "plan_file": self.plan_file,
            "plan_file_unchanged": self.unchanged,
            "plan_text": self.plan_text,
            "overrides": self.overrides,
            "command": shlex.join(self.command),
            "runs": self.runs,
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
        }


def trial_facts(paths: StorePaths, trial: str) -> TrialFacts:
    """Collect what is known of the trial with this id, or with the only id that begins so.

    Raises ControlError for a trial there is not, StoreError where the store holds no plans.
    """
    found = find_trial(paths, trial)
    file = str(found.record.get("file") or f"{found.study.name}.toml")
    overrides = [str(each) for each in found.record.get("overrides") or []]
    changes = [word for override in overrides for word in ("--set", override)]
    return TrialFacts(
        found=found,
        record_file=paths.plan(found.study.digest),
        plan_file=file,
        unchanged=_is_unchanged(Path(file), found.record.get("text")),
        overrides=overrides,
        command=("prunectl", "run", file, *changes, "--store", str(paths.root)),
        runs=_runs(paths, found.study.digest),
        stages=_stages(paths, found),
    )


def _is_unchanged(file: Path, text: object) -> bool | None:
    try:
        return file.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return None


def _runs(paths: StorePaths, digest: str) -> list[dict[str, Any]]:
    records = (_record(path) for path in paths.runs.glob("*.json"))
    ours = [record for record in records if record and digest in (record.get("plans") or [])]
    return sorted(ours, key=lambda record: str(record.get("started")))


def _stages(paths: StorePaths, found: FoundTrial) -> list[StageFacts]:
    trial = found.trial
    files = [paths.stage(key) for key in trial.path]
    return [
        StageFacts(k, each.key, target, stage_state(each.folder), _record(each.result))
        for k, (each, target) in enumerate(zip(files, trial.sparsities, strict=True))
    ]


def _record(path: Path) -> dict[str, Any] | None:
    """Read the JSON object in a file; None where there is none that can be read."""
    try:
        record = read_json(path)
    except (OSError, StoreError):
        return None
    return record if isinstance(record, dict) else None

"""How to repeat one trial: its plan's text, the command, what computed it, and its stages with what came out.

Read from the store's files alone, so it is true also where the database is behind or missing.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunectl.errors import StoreError
from prunectl.store.files import read_json
from prunectl.store.paths import StageState, StorePaths, stage_state
from prunectl.store.records.plan import FoundTrial, find_trial


@dataclass(frozen=True)
class StageFacts:
    """One iteration of the trial."""

    iteration: int
    stage: str
    target_sparsity: str
    state: StageState
    result: dict[str, Any]
    """result.json; empty where it is not done."""


@dataclass(frozen=True)
class Repeat:
    """Everything there is to say of a trial."""

    found: FoundTrial
    record_file: Path
    """Where the plan stands in the store, with its text."""
    plan_file: str
    """Where it stood when it was run, as it was given."""
    unchanged: bool | None
    """Whether that file still has the same text; None where it is not there."""
    command: tuple[str, ...]
    runs: tuple[dict[str, Any], ...]
    """Records of the runs that were started with this version of the plan, oldest first."""
    stages: tuple[StageFacts, ...]

    @property
    def text(self) -> str:
        """The plan's TOML."""
        return str(self.found.record.get("text") or "")

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        trial, record = self.found.trial, self.found.record
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
            "plan_text": self.text,
            "overrides": [str(each) for each in record.get("overrides") or []],
            "command": shlex.join(self.command),
            "runs": list(self.runs),
            "stages": [
                {
                    "iteration": each.iteration,
                    "stage": each.stage,
                    "target_sparsity": each.target_sparsity,
                    "state": each.state,
                    "result": each.result or None,
                }
                for each in self.stages
            ],
        }


def repeat(paths: StorePaths, trial: str) -> Repeat:
    """What to know of the trial with this id, or this beginning of one.

    Raises ControlError for a trial there is not, StoreError where the store holds no plans.
    """
    found = find_trial(paths, trial)
    file = str(found.record.get("file") or f"{found.study.name}.toml")
    overrides = [str(each) for each in found.record.get("overrides") or []]
    changes = [word for change in overrides for word in ("--set", change)]
    return Repeat(
        found=found,
        record_file=paths.plan(found.study.digest),
        plan_file=file,
        unchanged=_unchanged(Path(file), found.record.get("text")),
        command=("prunectl", "run", file, *changes, "--store", str(paths.root)),
        runs=tuple(_runs(paths, found.study.digest)),
        stages=tuple(_stages(paths, found)),
    )


def _unchanged(file: Path, text: object) -> bool | None:
    try:
        return file.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return None


def _runs(paths: StorePaths, digest: str) -> list[dict[str, Any]]:
    out = []
    for path in paths.runs.glob("*.json"):
        try:
            record = read_json(path)
        except (OSError, StoreError):
            continue
        if isinstance(record, dict) and digest in (record.get("plans") or []):
            out.append(record)
    return sorted(out, key=lambda record: str(record.get("started")))


def _stages(paths: StorePaths, found: FoundTrial) -> list[StageFacts]:
    out = []
    for k, key in enumerate(found.trial.path):
        try:
            result = read_json(paths.stage(key).result)
        except (OSError, StoreError):
            result = {}
        state = stage_state(paths.stage(key).folder)
        out.append(StageFacts(k, key, found.trial.sparsities[k], state, result))
    return out

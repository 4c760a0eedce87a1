"""What is looked at in an archive before anything of it lands: that it says nothing which is not so."""

from __future__ import annotations

import time
from pathlib import Path

from prunectl.errors import StoreError
from prunectl.spec.key import spec_key
from prunectl.spec.study import Study
from prunectl.spec.task import KNOWN
from prunectl.spec.trial import Trial
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.plan import plan_versions, read_outline
from prunectl.store.records.stage import read_result, read_spec
from prunectl.store.verdict import Verdict
from prunectl.store.verify import StageCheck

AHEAD = 86_400.0
"""Seconds that times in an archive may lie in the future: clocks differ."""


def check_plan(paths: StorePaths, path: Path, study: Study) -> None:
    """Check that a plan's stages are what their keys say, and that it calls nothing that is here by another name.

    Raises StoreError where that is not so.
    """
    not_ahead(path, study.created, study.made)
    for key, planned in study.stages.items():
        if spec_key(planned.spec) != key or planned.steps != planned.stage.steps:
            raise StoreError(f"{path} has a stage {key[:12]} that is not what its key says")
    if study.stages.keys() != {key for trial in study.trials for key in trial.path}:
        raise StoreError(f"{path} has other stages than its trials have")
    tasks = dict(KNOWN)
    trials: dict[str, Trial] = {}
    for versions in plan_versions(paths, read_outline).values():
        for each in versions.studies:
            tasks |= each.tasks
            trials |= {trial.id: trial for trial in each.trials}
    for name, task in study.tasks.items():
        if tasks.get(name, task) != task:
            raise StoreError(f"{path} measures {name} by other metrics than are known here")
    for trial in study.trials:
        known = trials.get(trial.id, trial)
        if (known.path, known.sparsities) != (trial.path, trial.sparsities):
            raise StoreError(f"{path} has trial {trial.id} with other stages than it has here")


def check_stage(paths: StorePaths, stage: StagePaths) -> None:
    """Check that a stage of the store `paths` can be computed here, is not of the future, and that `store verify` would
    name nothing of it.

    Raises StoreError or ValueError where that is not so.
    """
    _ = read_spec(stage).computable
    result = read_result(stage)
    not_ahead(stage.result, result.started, result.ended)
    verdict = Verdict()
    StageCheck(paths, stage, verdict).run()
    for problem in verdict.problems:
        raise StoreError(f"{stage.folder}: {problem}")


def not_ahead(path: Path, *times: float | str | None) -> None:
    """Raise StoreError for a record of the future."""
    latest = max((when for when in times if isinstance(when, int | float)), default=0.0)
    if latest > time.time() + AHEAD:
        raise StoreError(f"{path} is of a time in the future, {latest:.0f}")

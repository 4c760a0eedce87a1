"""Plan records (`plans/<digest>.json`): which trials there are and which stages they share.

A plan has a name and, as it is edited, versions: one record per digest. The version recorded last is the current one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from prunectl.errors import ControlError, StoreError
from prunectl.spec.study import Study
from prunectl.spec.task import TaskMetrics
from prunectl.spec.trial import Trial
from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import BadRecord, read_record, write_record


class _Outline(msgspec.Struct):
    """What is read of a plan record to save the time for its stages, which are most of its bytes."""

    digest: str
    name: str
    trials: tuple[Trial, ...]
    created: float | str | None = None
    tasks: dict[str, TaskMetrics] = {}


def read_plan(path: Path) -> Study:
    """Read a file of plans/. Raises FileNotFoundError as is, BadRecord where it is no plan record."""
    return _checked(path, read_record(path, Study))


def read_study(paths: StorePaths, digest: str) -> Study:
    """Read the plan record with this digest. Raises StoreError where there is none, or it is not a plan record."""
    path = paths.plan(digest)
    try:
        return read_plan(path)
    except FileNotFoundError as error:
        raise StoreError(f"the store has no plan {digest} ({path})") from error


def read_outline(paths: StorePaths, digest: str) -> Study:
    """Read a plan record's trials with their paths, without its stages. Raises StoreError as `read_study`."""
    path = paths.plan(digest)
    try:
        found = read_record(path, _Outline)
    except FileNotFoundError as error:
        raise StoreError(f"the store has no plan {digest} ({path})") from error
    return _checked(path, Study(**msgspec.structs.asdict(found), stages={}))


def _checked(path: Path, study: Study) -> Study:
    """Name the plan in trials that do not. Raises BadRecord for one whose path and sparsities do not match."""
    for trial in study.trials:
        if not trial.path or len(trial.path) != len(trial.sparsities):
            raise BadRecord(
                f"{path} is malformed: trial {trial.id} has {len(trial.path)} stages and "
                f"{len(trial.sparsities)} sparsities"
            )
    if all(trial.plan == study.name for trial in study.trials):
        return study
    return replace(study, trials=tuple(replace(trial, plan=study.name) for trial in study.trials))


Read = Callable[[StorePaths, str], Study]
"""`read_study` or `read_outline`."""


Refused = Callable[[str], None]
"""Gets a sentence for each record that cannot be read, and is left out."""


def _ignore(text: str) -> None:
    """Leave it to `status` and `store verify` to name what cannot be read."""


def all_versions(
    paths: StorePaths, read: Read = read_study, refused: Refused = _ignore
) -> list[Study]:
    """Read every version of every plan, oldest first."""
    found = []
    for path in files.disk.glob(paths.plans, "*.json"):
        try:
            found.append(read(paths, path.stem))
        except StoreError as error:
            refused(str(error))
    return sorted(found, key=_age)


def current_studies(
    paths: StorePaths, read: Read = read_study, refused: Refused = _ignore
) -> list[Study]:
    """Read the newest version of each plan, by name."""
    newest = {study.name: study for study in all_versions(paths, read, refused)}
    return [newest[name] for name in sorted(newest)]


def _age(study: Study) -> tuple[float, str]:
    """Sort key for both forms of a time, Unix seconds and ISO text."""
    created = study.created
    return (created, "") if isinstance(created, int | float) else (0.0, str(created))


class FoundTrial(NamedTuple):
    """A trial, and the newest version of a plan that asks for it."""

    trial: Trial
    study: Study


def find_trial(paths: StorePaths, beginning: str) -> FoundTrial:
    """Find the trial whose id begins so, in any version of any plan.

    Raises ControlError where there is none or several, StoreError where the store holds no plans or the trial's plan
    record cannot be read.
    """
    versions = all_versions(paths, read_outline)
    if not versions:
        raise StoreError(f"{paths.root} holds no plans; `prunectl run PLAN` makes some")
    digests = {trial.id: study.digest for study in versions for trial in study.trials}
    name = match_id(paths, digests, beginning)
    study = read_study(paths, digests[name])
    return FoundTrial(next(each for each in study.trials if each.id == name), study)


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


def write_plans(paths: StorePaths, studies: Sequence[Study]) -> None:
    """Write plan records, which become the current versions of their plans.

    Raises StoreError where one cannot be written.
    """
    # Written anew each time: the version of a plan that was used last is the current one, whatever the clock says.
    created = max(time.time(), last_use(paths) + 1e-3)
    for study in studies:
        write_study(paths, replace(study, created=created))


def write_study(paths: StorePaths, study: Study) -> None:
    """Write one plan record as it is. Raises StoreError where it cannot be written."""
    head, stages = on_disk(study)
    write_record(paths.plan(study.digest), head | {"stages": stages})


class _StageOnDisk(msgspec.Struct):
    """A stage as it is written: its canonical JSON, so that what has its default is left out."""

    spec: msgspec.Raw
    steps: int
    epoch_steps: float | None


def on_disk(study: Study) -> tuple[dict[str, object], dict[str, _StageOnDisk]]:
    """Return the content of a study's record but for its stages, and these."""
    stages = {
        key: _StageOnDisk(msgspec.Raw(each.spec.to_json().encode()), each.steps, each.epoch_steps)
        for key, each in study.stages.items()
    }
    return msgspec.to_builtins(replace(study, stages={})), stages


class _Use(msgspec.Struct):
    """When a plan was recorded, or a run started."""

    created: float | str | None = None
    started: float | str | None = None


def last_use(paths: StorePaths) -> float:
    """Return when a plan was recorded or run last, Unix seconds: later than now where the clock was set back."""
    last = 0.0
    for path in (*files.disk.glob(paths.plans, "*.json"), *files.disk.glob(paths.runs, "*.json")):
        try:
            use = read_record(path, _Use)
        except (OSError, StoreError):
            continue
        times = [when for when in (use.created, use.started) if isinstance(when, float)]
        last = max(last, *times, 0.0)
    return last

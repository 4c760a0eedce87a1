"""Plan records (`plans/<digest>.json`): which trials there are and which stages they share.

A plan has a name and, as it is edited, versions: one record per digest. They are numbered from 1 in the order in which
they were first run, as in the view `plan_versions`; the one used last is the current one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from prunectl.errors import ControlError, StoreError
from prunectl.spec.ranges import FRACTION, LAST_MOMENT
from prunectl.spec.seeds import Seeds
from prunectl.spec.study import Study
from prunectl.spec.task import TaskMetrics
from prunectl.spec.trial import Trial
from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records import store_format
from prunectl.store.records.base import BadRecord, Time, read_record, write_record

_FRACTION = re.compile(FRACTION)


class _Outline(msgspec.Struct):
    """What is read of a plan record to save the time for its stages, which are most of its bytes."""

    digest: str
    name: str
    trials: tuple[Trial, ...]
    created: Time | str = None
    made: Time | str = None
    file: str = ""
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
    """Name the plan in trials that do not.

    Raises BadRecord for a trial whose path and sparsities do not match, or whose sparsities are no fractions, and for a
    digest that is not the file's name.
    """
    if study.digest != path.stem:
        raise BadRecord(f"{path} is malformed: it is the record of {study.digest}")
    known: set[tuple[str, ...]] = set()  # many trials have the same
    for trial in study.trials:
        if trial.sparsities not in known:
            for each in trial.sparsities:
                if not _FRACTION.fullmatch(each):
                    raise BadRecord(f"{path} is malformed: trial {trial.id} has sparsity {each!r}")
            known.add(trial.sparsities)
        if not trial.path or len(trial.path) != len(trial.sparsities):
            raise BadRecord(
                f"{path} is malformed: trial {trial.id} has {len(trial.path)} stages and "
                f"{len(trial.sparsities)} sparsities"
            )
    _check_selections(path, study)
    if all(trial.plan == study.name for trial in study.trials):
        return study
    return replace(study, trials=tuple(replace(trial, plan=study.name) for trial in study.trials))


def _check_selections(path: Path, study: Study) -> None:
    """Raise BadRecord for a selection whose options are not cells of the plan with the same seeds and sparsities, or
    whose cells are not its own."""
    if not study.selections:
        return
    ladders: dict[str, list[tuple[Seeds, tuple[str, ...]]]] = {}
    for trial in study.trials:
        ladders.setdefault(trial.cell, []).append((trial.seeds, trial.sparsities))
    taken = set(ladders)
    for selection in study.selections:
        for made in selection.cells:
            options = [sorted(ladders.get(cell, ())) for cell in made.options]
            several = len(options) > 1 and len(set(made.options)) == len(options)
            alike = several and all(each and each == options[0] for each in options)
            if made.cell in taken or not alike:
                raise BadRecord(
                    f"{path} is malformed: {selection.strategy} cannot have cell {made.cell} of "
                    f"{', '.join(made.options) or 'none'}"
                )
            taken.add(made.cell)


Read = Callable[[StorePaths, str], Study]
"""`read_study` or `read_outline`."""


Refused = Callable[[str], None]
"""Gets a sentence for each record that cannot be read, and is left out."""


def _ignore(text: str) -> None:
    """Leave it to `status` and `store verify` to name what cannot be read."""


@dataclass(frozen=True)
class Versions:
    """All versions of the plan of one name."""

    studies: tuple[Study, ...]
    """In the order in which they were first run: number 1 first."""

    @cached_property
    def current(self) -> Study:
        """The one used last."""
        return max(self.studies, key=lambda study: (_age(study.created), study.digest))

    def number(self, digest: str) -> int:
        """Return the number of a version. Raises ValueError for a digest that is none of theirs."""
        return 1 + [study.digest for study in self.studies].index(digest)


def plan_versions(
    paths: StorePaths, read: Read = read_study, refused: Refused = _ignore
) -> dict[str, Versions]:
    """Read every version of every plan, by name."""
    found: dict[str, list[Study]] = {}
    for path in files.disk.glob(paths.plans, "*.json"):
        try:
            study = read(paths, path.stem)
        except StoreError as error:
            refused(str(error))
        else:
            found.setdefault(study.name, []).append(study)
    return {name: Versions(tuple(sorted(found[name], key=_birth))) for name in sorted(found)}


def current_studies(
    paths: StorePaths, read: Read = read_study, refused: Refused = _ignore
) -> list[Study]:
    """Read the version of each plan that was used last, by name."""
    return [versions.current for versions in plan_versions(paths, read, refused).values()]


def _birth(study: Study) -> tuple[tuple[float, str], str]:
    return _age(study.created if study.made is None else study.made), study.digest


def _age(time: float | str | None) -> tuple[float, str]:
    """Sort key for both forms of a time, Unix seconds and ISO text."""
    return (time, "") if isinstance(time, int | float) else (0.0, str(time or ""))


class FoundTrial(NamedTuple):
    """A trial, and the newest version of a plan that asks for it."""

    trial: Trial
    study: Study
    version: int
    """Its number among the versions of the plan, …"""
    versions: int
    """… of which there are so many."""


def find_trial(paths: StorePaths, beginning: str) -> FoundTrial:
    """Find the trial whose id begins so, in any version of any plan.

    Raises ControlError where there is none or several, StoreError where the store holds no plans or the trial's plan
    record cannot be read.
    """
    plans = plan_versions(paths, read_outline)
    if not plans:
        raise StoreError(f"{paths.root} holds no plans; `prunectl run PLAN` makes some")
    studies = [study for versions in plans.values() for study in versions.studies]
    studies.sort(key=lambda study: _age(study.created))
    digests = {trial.id: study.digest for study in studies for trial in study.trials}
    name = match_id(paths, digests, beginning)
    study = read_study(paths, digests[name])
    trial = next(each for each in study.trials if each.id == name)
    versions = plans[study.name]
    return FoundTrial(trial, study, versions.number(study.digest), len(versions.studies))


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
    store_format.ensure_format(paths)
    # Written anew each time: the version of a plan that was used last is the current one, whatever the clock says.
    now = min(max(time.time(), last_use(paths) + 1e-3), LAST_MOMENT)
    for study in studies:
        made = _first_use(paths, study.digest) or now
        write_study(paths, replace(study, created=now, made=made))


def _first_use(paths: StorePaths, digest: str) -> float | str | None:
    """Return when the version was first recorded; None where nothing is known of it.

    Where its record is damaged, its first run says it; and the record is set aside.
    """
    try:
        known = read_record(paths.plan(digest), _Use)
    except BadRecord:
        files.set_aside(paths.plan(digest))
        return _first_run(paths, digest)
    except (OSError, StoreError):
        return None
    return known.created if known.made is None else known.made


def _first_run(paths: StorePaths, digest: str) -> float | None:
    found = (_use_of(path) for path in files.disk.glob(paths.runs, "*.json"))
    times = [use.started for use in found if use is not None and digest in use.plans]
    return min((when for when in times if isinstance(when, float)), default=None)


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
    head: dict[str, object] = msgspec.to_builtins(replace(study, stages={}))
    if not study.selections:  # records of plans without them are what they were
        del head["selections"]
    return head, stages


class _Use(msgspec.Struct):
    """When a plan was recorded last and first, or a run started."""

    created: Time | str = None
    made: Time | str = None
    started: Time | str = None
    plans: tuple[str, ...] = ()


def _use_of(path: Path) -> _Use | None:
    """Read when a plan or a run was used; None where that cannot be read."""
    try:
        return read_record(path, _Use)
    except (OSError, StoreError):
        return None


def last_use(paths: StorePaths) -> float:
    """Return when a plan was recorded or run last, Unix seconds: later than now where the clock was set back."""
    last = 0.0
    for path in (*files.disk.glob(paths.plans, "*.json"), *files.disk.glob(paths.runs, "*.json")):
        use = _use_of(path) or _Use()
        times = [when for when in (use.created, use.started) if isinstance(when, float)]
        last = max(last, *times, 0.0)
    return last

"""One trial of a store, found by its id, in whatever version of whatever plan has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from prunectl.errors import ControlError, StoreError
from prunectl.store.files import read_json
from prunectl.store.locks import is_held
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import Study, Trial, study_from

State = Literal["done", "running", "begun", "waiting"]


@dataclass(frozen=True)
class Found:
    """A trial, the newest version of a plan that asks for it, and that version's record."""

    trial: Trial
    study: Study
    record: dict[str, Any]


def find_trial(paths: StorePaths, beginning: str) -> Found:
    """The trial whose id is or begins so.

    Raises ControlError where there is none or several, StoreError where the store holds no plans.
    """
    found: dict[str, Found] = {}
    any_plan = False
    for record, study in _studies(paths):
        any_plan = True
        for trial in study.trials:
            if trial.trial.startswith(beginning.lower()):
                found[trial.trial] = Found(trial, study, record)
    if not any_plan:
        raise StoreError(f"{paths.root} holds no plans; `prunectl run PLAN` makes some")
    if beginning.lower() in found:
        return found[beginning.lower()]
    if not beginning or not found:
        raise ControlError(
            f"no trial {beginning!r} in {paths.root}; "
            "`prunectl sql 'SELECT trial, plan, strategy, seed FROM trials'` lists them"
        )
    if len(found) > 1:
        some = ", ".join(sorted(found)[:4])
        raise ControlError(f"{beginning!r} begins {len(found)} trials: {some}, …")
    return next(iter(found.values()))


def _studies(paths: StorePaths) -> Iterator[tuple[dict[str, Any], Study]]:
    """All versions of all plans, oldest first; files that are none are left out."""
    out = []
    for path in paths.plans.glob("*.json"):
        try:
            record = read_json(path)
            out.append((record, study_from(record)))
        except (OSError, StoreError, KeyError, TypeError, ValueError):
            continue
    return iter(sorted(out, key=lambda each: (str(each[1].created), each[1].digest)))


def state_of(paths: StorePaths, key: str) -> State:
    """What the stage's files say."""
    files = paths.stage(key)
    if files.result.exists():
        return "done"
    if is_held(files.lock):
        return "running"
    return "begun" if files.events.exists() else "waiting"

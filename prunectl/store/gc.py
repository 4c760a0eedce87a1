"""Find and remove files that nothing needs any more. Never a final state, a mask, predictions, a log or a result.

Not needed are: checkpoints inside stages that are done, rewind checkpoints that no unfinished stage starts from (a
plan that wants one later replays the dense run to it; none are removed while a plan's record cannot be read), files set
aside as damaged, and temporary files of
processes that are gone.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from prunectl.spec.state import State
from prunectl.store import files
from prunectl.store.files import leftovers, set_asides
from prunectl.store.import_study import clear_staging, staging_of_the_dead
from prunectl.store.locks import Lock, is_held
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.journal import Journal
from prunectl.store.records.plan import current_studies
from prunectl.store.records.scheduler_log import Removed
from prunectl.store.records.stage import has_result, stage_state
from prunectl.store.refusals import cannot_write

LATEST = "checkpoints inside finished stages"
REWIND = "rewind checkpoints that no unfinished stage needs"
CORRUPT = "files set aside as damaged"
TEMPORARY = "temporary files of dead processes"


@dataclass(frozen=True)
class Removal:
    """A file to remove, and the reason."""

    path: Path
    bytes: int
    why: str


def removable(paths: StorePaths) -> list[Removal]:
    """List the files that nothing needs; nothing is removed."""
    needed = _needed(paths)
    found: list[Removal] = []
    for name in files.disk.folders(paths.stages):
        stage = paths.stage(name)
        if not is_held(stage.lock):
            found += _of_stage(stage, needed)
    records = (paths.plans, paths.runs, paths.datasets, paths.labels, paths.replications)
    for folder in (paths.root, paths.control, paths.requests, *records):
        found += _removals(_dead(leftovers(folder)), TEMPORARY)
    for folder in staging_of_the_dead(paths):
        inside = files.disk.glob(folder, "**/*")
        found += _removals(filter(files.disk.is_file, inside), TEMPORARY)
    for folder in (paths.root, paths.plans, paths.datasets, paths.labels):
        found += _removals(set_asides(folder), CORRUPT)
    return found


def remove(paths: StorePaths, found: Iterable[Removal]) -> int:
    """Remove those of the files that nothing needs still, after the store's log says so. Returns the bytes freed.

    Raises StoreBusy where a scheduler has the store, StoreError where a file cannot be removed.
    """
    freed = 0
    lock = Lock(paths.scheduler_lock)
    lock.acquire(f"garbage collection, pid {os.getpid()}")
    with lock:
        # Since they were found somebody was asked, and a plan may have come that wants one, or a stage begun anew.
        still = set(removable(paths))
        found = [each for each in found if each in still]
        _log(paths, found)
        for each in found:
            try:
                files.disk.unlink(each.path, missing_ok=True)
            except OSError as error:
                raise cannot_write(each.path, error) from error
            freed += each.bytes
        clear_staging(paths)
    return freed


def _log(paths: StorePaths, found: Iterable[Removal]) -> None:
    """Write down what is about to be removed, so that nobody takes it for lost."""
    groups: dict[str, list[Removal]] = defaultdict(list)
    for each in found:
        groups[each.why].append(each)
    with contextlib.closing(Journal(paths.scheduler_log)) as journal:
        for why, members in groups.items():
            names = tuple(each.path.relative_to(paths.root).as_posix() for each in members)
            size = sum(each.bytes for each in members)
            journal.append(Removed(why=why, files=names, bytes=size), durable=True)


def _needed(paths: StorePaths) -> set[tuple[str, int]] | None:
    """List (dense stage, step) of the checkpoints that unfinished stages of current plans start from.

    None where that is not known, because a plan's record cannot be read.
    """
    found = set()
    unreadable: list[str] = []
    studies = current_studies(paths, refused=unreadable.append)
    if unreadable:
        return None
    for study in studies:
        for key, planned in study.stages.items():
            source = planned.stage.checkpoint
            if source is not None and not has_result(paths, key):
                found.add(source)
    return found


def _of_stage(stage: StagePaths, needed: set[tuple[str, int]] | None) -> Iterator[Removal]:
    yield from _removals(set_asides(stage.folder), CORRUPT)
    yield from _removals(_dead(leftovers(stage.folder)), TEMPORARY)
    if stage_state(stage.folder) is not State.DONE:
        return
    yield from _removals([stage.latest], LATEST)
    if needed is None:
        return
    steps = {step for _, step in needed}
    keys = {key for key, _ in needed}
    for step in stage.rewind_steps():
        # A replay has another key than the dense stage: any step of it that is wanted is kept.
        wanted = (stage.key, step) in needed or (stage.key not in keys and step in steps)
        if not wanted:
            yield from _removals([stage.rewind(step)], REWIND)


def _dead(temporary: Iterable[Path]) -> Iterator[Path]:
    """Yield the files whose process, named in their name, is gone."""
    for path in temporary:
        pid = path.name.split(".")[-3]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            yield path


def _removals(found: Iterable[Path], why: str) -> Iterator[Removal]:
    for path in found:
        try:
            yield Removal(path, files.disk.status(path).size, why)
        except FileNotFoundError:
            continue

"""Import an exported study into a store: all that is wanted is copied aside, checked there, and moved into place.

What was checked is what lands: the archive is read once. Nothing that is here changes: a stage that is done stays as it
is, and so do plans, runs and data sets. A stage lands with its result last, so that a kill leaves it done or not begun.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
from msgspec.structs import replace

from prunectl.errors import DataError, StoreBusy, StoreError
from prunectl.spec.settings import DataSettings
from prunectl.spec.state import State
from prunectl.spec.study import Study
from prunectl.store import files
from prunectl.store.archive_checks import check_plan, check_stage, not_ahead
from prunectl.store.archive_reader import read_manifest, take_file, unsealed
from prunectl.store.locks import Lock, is_held
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.progress import Progress, silent
from prunectl.store.records.archive import Manifest
from prunectl.store.records.dataset import check_dataset, read_dataset
from prunectl.store.records.labels import check_labels, read_labels
from prunectl.store.records.plan import (
    last_use,
    plan_versions,
    read_outline,
    read_plan,
    write_study,
)
from prunectl.store.records.provenance import read_run
from prunectl.store.records.replication import read_replication
from prunectl.store.records.stage import has_result, read_result, stage_state
from prunectl.store.records.store_format import add_unsealed, write_format
from prunectl.store.refusals import cannot_write
from prunectl.text import plural, size

MOST_BYTES = 100 * 10**9
"""What an import takes at most unless it is told."""
_NOT_IMPORTED = ("history.jsonl", "tables/")
_COMPARED = ("datasets/", "labels/")
"""Records that must say the same where they are here already."""

CheckPlan = Callable[[Study], None]
"""Raises StoreError for a plan's record that does not say what its text does."""


@dataclass
class Imported:
    """What an import did, or would do."""

    plan: str
    stages: int = 0
    """That were imported."""
    known: int = 0
    """Stages that were done here already, and stay as they are."""
    bytes: int = 0
    """Of all files that were taken."""
    records: Counter[str] = field(default_factory=Counter)
    """Plans, runs, data sets and replications that were taken, by folder."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user."""

    def summary(self) -> str:
        """Say how much it is, in words."""
        parts = [plural(self.stages, "stage"), *(f"{n} of {k}/" for k, n in self.records.items())]
        return f"{', '.join(parts)}, {size(self.bytes)}; {self.known} stages are here already"


def _no_check(study: Study) -> None:
    """Take a plan's record as it is."""


class Import:
    """One import, from the look at the archive to the end."""

    def __init__(self, folder: Path, paths: StorePaths, most: int = MOST_BYTES) -> None:
        """Read what the archive lists, and what of it is not here.

        Raises StoreError where it is none, names what no archive has, or is larger than `most` bytes.
        """
        self.manifest: Manifest = read_manifest(folder)
        self._folder, self._paths = folder, paths
        self._records: list[str] = []
        self._stages: dict[str, list[str]] = {}
        self._compared: list[str] = []
        """Results of stages that are done here, and records of data sets that are known here."""
        self.done = Imported(self.manifest.plan)
        self._choose()
        wanted = [*self._records, *(name for names in self._stages.values() for name in names)]
        self.done.bytes = sum(self.manifest.files[name].bytes for name in wanted)
        if self.done.bytes > most:
            raise StoreError(
                f"{folder} has {size(self.done.bytes)} that are not here, more than --max-size, {size(most)}: nothing "
                "was taken"
            )
        self._wanted = wanted
        self._unsealed: list[str] = []
        """Records that may be without a checksum."""
        self._data: set[DataSettings] = set()
        """What its stages are trained on."""

    def _choose(self) -> None:
        for name in self.manifest.files:
            if name.startswith("stages/"):
                self._stages.setdefault(name.split("/")[1], []).append(name)
            elif name.startswith(_NOT_IMPORTED):
                continue
            elif not files.disk.exists(self._paths.root / name):
                self._records.append(name)
                self.done.records[name.split("/")[0]] += 1
            elif name.startswith(_COMPARED):
                self._compared.append(name)
        for key in [key for key in self._stages if has_result(self._paths, key)]:
            self.done.known += 1
            names = self._stages.pop(key)
            self._compared += [name for name in names if name.endswith("/result.json")]
        self.done.stages = len(self._stages)

    @cached_property
    def _staged(self) -> StorePaths:
        """Where the archive's files are copied to, laid out as a store."""
        return StorePaths(self._paths.control / f"import-{os.getpid()}-{time.time_ns():x}")

    def run(
        self, check: CheckPlan = _no_check, *, current: bool = False, progress: Progress = silent
    ) -> Imported:
        """Take what is wanted.

        Args:
            check: compares a plan's record with what its text says.
            current: whether the plan's version becomes the current one of its name.
            progress: hears how many files are read and how many stages are checked.

        Raises StoreError, naming the file, where one is missing, not what its checksum says, or no record of what it
        is to be: then nothing was taken.
        """
        clear_staging(self._paths)
        is_new = not files.disk.exists(self._paths.root)
        staged = self._staged.root
        # Locked: an import on another machine does not know this process.
        with Lock(self._staged.scheduler_lock):
            try:
                names = [*self._wanted, *self._compared]
                for number, name in enumerate(names):
                    take_file(self._folder, name, self.manifest.files[name], staged / name)
                    progress("files read", number + 1, len(names))
                self._check(check, progress)
            except BaseException:
                files.disk.remove_tree(staged)
                if is_new:
                    files.disk.remove_empty(self._paths.control)
                    files.disk.remove_empty(self._paths.root)
                raise
            self._land(current)
            files.disk.remove_tree(staged)
        return self.done

    # check

    def _check(self, check: CheckPlan, progress: Progress) -> None:
        try:
            self._unsealed = unsealed(self._staged.root, self.manifest, self._wanted)
            write_format(self._staged, self._unsealed)  # which the records are held to
            # Plans first: they say which data sets are theirs.
            for name in self.manifest.files:
                if name.startswith("plans/") and name not in self._records:  # it is here already
                    self._is_of(read_plan(self._paths.root / name))
            for name in sorted(self._records, key=lambda name: not name.startswith("plans/")):
                self._check_record(self._staged.root / name, check)
            for name in self._compared:
                if name.startswith(_COMPARED):
                    self._check_record(self._staged.root / name, check)
            for number, key in enumerate(self._stages):
                check_stage(self._staged, self._staged.stage(key))
                progress("stages checked", number + 1, len(self._stages))
        except FileNotFoundError as error:
            raise StoreError(
                f"{self._named(str(error.filename))} is missing; nothing was taken"
            ) from None
        except (StoreError, DataError, ValueError) as error:
            text = self._named(str(error))
            raise StoreError(f"{text}: refused; nothing was taken") from error

    def _named(self, text: str) -> str:
        """Name the archive's files, not their copies."""
        return text.replace(str(self._staged.root), str(self._folder))

    def _check_record(self, path: Path, check: CheckPlan) -> None:
        match path.parent.name:
            case "plans":
                study = read_plan(path)
                check_plan(self._paths, path, study)
                check(study)
                self._is_of(study)
            case "datasets":
                self._is_of_a_stage(path, path.stem in {each.fingerprint for each in self._data})
                check_dataset(self._paths, read_dataset(path))
            case "labels":
                found = read_labels(path)
                of_stages = {each.test_items for each in self._data}
                self._is_of_a_stage(path, found.data in of_stages)
                not_ahead(path, found.first)
                check_labels(self._paths, found)
            case "replications":
                not_ahead(path, read_replication(path).time)
            case _:
                not_ahead(path, read_run(path).started)

    def _is_of(self, study: Study) -> None:
        """Remember what the plan's stages are trained on."""
        self._data |= {each.stage.data for each in study.stages.values()}

    def _is_of_a_stage(self, path: Path, is_so: bool) -> None:
        """Raise StoreError for a record of data that no stage is of."""
        if not is_so:
            raise StoreError(f"{path} is of data that none of its stages is of")

    # land

    def _land(self, current: bool) -> None:
        if self._unsealed:
            add_unsealed(self._paths, self._unsealed)
        for name in self._compared:
            if name.startswith("stages/"):
                self._compare(name.split("/")[1])
        # Labels before the stages that rest on them, which are read as soon as they are here.
        labels = [name for name in self._records if name.startswith("labels/")]
        if labels:
            _move([self._staged.root / name for name in labels], self._paths.labels)
        for key in self._stages:
            self._land_stage(self._paths.stage(key), self._staged.stage(key))
        for name in [each for each in self._records if each not in labels]:
            target = self._paths.root / name
            if name.startswith("plans/"):
                self._land_plan(target, current)
            else:
                _move([self._staged.root / name], target.parent)
        if current and f"plans/{self.manifest.digest}.json" not in self._records:
            self._make_current(self.manifest.digest)

    def _make_current(self, digest: str) -> None:
        """Make a version that is here already the one that was used last."""
        study = read_plan(self._paths.plan(digest))
        write_study(self._paths, replace(study, created=last_use(self._paths) + 1e-3))
        versions = plan_versions(self._paths, read_outline)[study.name]
        self.done.notes.append(
            f"{study.name}: version {versions.number(digest)}, which was here already, is the current one now"
        )

    def _land_stage(self, stage: StagePaths, staged: StagePaths) -> None:
        """Move the files of one stage into place, its result last; skip it where it is running here."""
        lock = Lock(stage.lock)
        try:
            lock.acquire("prunectl import")
        except StoreBusy:
            self.done.stages -= 1
            self.done.notes.append(f"stage {stage.key[:12]} is running here and was not taken")
            return
        with lock:
            if stage_state(stage.folder) is State.DONE:
                self.done.stages -= 1
                self.done.known += 1
                return
            if files.disk.exists(stage.result):
                files.set_aside(stage.result)
            stage.remove_tensors()
            found = files.disk.glob(staged.folder)
            # What it is first, as whoever reads the log wants to know that.
            order = sorted(found, key=lambda path: (path == staged.result, path != staged.spec))
            _move(order, stage.folder)

    def _land_plan(self, target: Path, current: bool) -> None:
        """Write the plan's record; beside other versions of its name, it is not the current one unless that is asked.

        Their order is that of their last use: it is put before that of the current one, and what it was is kept.
        """
        study = read_plan(self._staged.root / target.relative_to(self._paths.root))
        versions = plan_versions(self._paths, read_outline).get(study.name)
        here = None if versions is None else versions.current.created
        if versions is None:
            _move([self._staged.root / target.relative_to(self._paths.root)], target.parent)
            return
        last = here if isinstance(here, int | float) else 0.0
        created = last_use(self._paths) + 1e-3 if current else max(last - 1e-3, 0.0)
        made = study.created if study.made is None else study.made
        write_study(
            self._paths, replace(study, created=created, made=made, used_there=study.created)
        )
        versions = plan_versions(self._paths, read_outline)[study.name]
        taken, now = map(versions.number, (study.digest, versions.current.digest))
        self.done.notes.append(
            f"{study.name} was here already and has {len(versions.studies)} versions now: what was taken is "
            f"version {taken}, current is version {now}"
            + ("" if current else " (--current makes it the current one)")
        )

    def _compare(self, key: str) -> None:
        """Note where the same stage has another score on the two machines."""
        try:
            ours = read_result(self._paths.stage(key)).score
            theirs = read_result(self._staged.stage(key)).score
        except (OSError, StoreError):
            return
        if ours != theirs:
            self.done.notes.append(
                f"stage {key[:12]} came to a score of {theirs} there and {ours} here; what is here stays"
            )


def _move(sources: Iterable[Path], folder: Path) -> None:
    """Move files into a folder, in their order. Raises StoreError where that cannot be."""
    try:
        files.disk.make_folder(folder)
        for source in sources:
            files.disk.before("rename", folder / source.name)
            files.disk.rename(source, folder / source.name)
        files.disk.before("fsync", folder)
        files.disk.fsync(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error


def staging_of_the_dead(paths: StorePaths) -> Iterator[Path]:
    """Yield the folders of imports whose process is gone, here or on another machine."""
    for folder in files.disk.glob(paths.control, "import-*"):
        pid = folder.name.split("-")[1]
        is_here = pid.isdigit() and psutil.pid_exists(int(pid))
        if not is_here and not is_held(StorePaths(folder).scheduler_lock):
            yield folder


def clear_staging(paths: StorePaths) -> None:
    """Remove what imports left that were killed."""
    for folder in staging_of_the_dead(paths):
        files.disk.remove_tree(folder)

"""A study that was exported, as it lies in its folder: read, checked against its digests, and never written to.

Its folder is laid out as a store, without locks and without a database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from prunectl.errors import StoreError
from prunectl.spec.study import Study
from prunectl.store import archive_reader, files
from prunectl.store.locks import Lock
from prunectl.store.paths import StorePaths
from prunectl.store.progress import Progress, silent
from prunectl.store.records.archive import Manifest
from prunectl.store.records.base import write_record
from prunectl.store.records.plan import read_study
from prunectl.store.records.replication import Outcome, Replica, replica_of
from prunectl.store.records.result import Result
from prunectl.store.records.stage import has_result, read_result
from prunectl.store.records.store_format import add_unsealed
from prunectl.store.tensors import read_checked


@dataclass(frozen=True)
class Bundle:
    """A bundle whose digests hold."""

    folder: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """What names it: the digest of all its files."""
        return self.manifest.bundle

    @property
    def paths(self) -> StorePaths:
        """Its files, for reading alone."""
        return StorePaths(self.folder)

    @cached_property
    def study(self) -> Study:
        """The plan's version. Raises StoreError where its record is none."""
        return read_study(self.paths, self.manifest.digest)

    @cached_property
    def done(self) -> frozenset[str]:
        """Keys of the study's stages that are inside, all done."""
        return frozenset(
            key for key in self.study.stages if f"stages/{key}/result.json" in self.manifest.files
        )

    def take(self, keys: Iterable[str], paths: StorePaths) -> None:
        """Copy stages into a store, the result of each last; those that are done there stay as they are.

        Raises StoreError where a file cannot be read or written, StoreBusy for a stage that is running there.
        """
        keys = list(keys)
        entries = self.manifest.files
        names: dict[str, list[str]] = defaultdict(list)
        for name in entries:
            if name.startswith("stages/"):
                names[name.split("/")[1]].append(name)
        taken = [name for key in keys for name in names[key]]
        if unsealed := archive_reader.unsealed(self.folder, self.manifest, taken):
            add_unsealed(paths, unsealed)
        for key in keys:
            stage = paths.stage(key)
            lock = Lock(stage.lock)
            lock.acquire("prunectl replicate")
            with lock:
                if has_result(paths, key):
                    continue
                if files.disk.exists(stage.result):
                    files.set_aside(stage.result)
                stage.remove_tensors()
                for name in sorted(names[key], key=_order):
                    archive_reader.take_file(self.folder, name, entries[name], paths.root / name)

    def take_datasets(self, paths: StorePaths) -> None:
        """Copy into a store what the files of the study's data sets held and the labels of its test sets: those used
        there must be the same."""
        for name, entry in self.manifest.files.items():
            if name.startswith(("datasets/", "labels/")) and not files.disk.exists(
                paths.root / name
            ):
                archive_reader.take_file(self.folder, name, entry, paths.root / name)


def _order(name: str) -> tuple[bool, bool]:
    """Return what a stage's files are sorted by: what it is first, its result last."""
    return name.endswith("/result.json"), not name.endswith("/spec.json")


def open_bundle(folder: Path, progress: Progress = silent) -> Bundle:
    """Read a bundle and compare every file with its digest; `progress` hears how many.

    Raises StoreError, naming the file, where one is missing or another, or the folder is no finished bundle.
    """
    manifest = archive_reader.read_manifest(folder)
    for number, (name, entry) in enumerate(manifest.files.items()):
        archive_reader.verify_file(folder, name, entry)
        progress("files checked", number + 1, len(manifest.files))
    bundle = Bundle(folder, manifest)
    if not bundle.done:
        raise StoreError(f"{folder} has no stage that is done: there is nothing to replicate")
    return bundle


def claim(paths: StorePaths, asked: Replica) -> None:
    """Make a store one that replicates a bundle, or go on with one that does.

    Raises StoreError where the folder holds anything else, or stages of the bundle that others were to start from.
    """
    found = replica_of(paths)
    if found is None:
        if set(files.disk.glob(paths.root)) - set(files.leftovers(paths.root)):
            raise StoreError(
                f"{paths.root} holds something else, and stages are run in a store of their own: give another --store"
            )
        write_record(paths.replica, asked)
        return
    if found.bundle != asked.bundle:
        raise StoreError(
            f"{paths.root} replicates another bundle, sha256:{found.bundle}: give another --store"
        )
    if found.parents != asked.parents:
        held = "no stages of the bundle" if found.parents is None else "stages of the bundle"
        raise StoreError(
            f"{paths.root} replicates another choice of stages, and holds {held}: give another --store"
        )
    if found != asked:
        write_record(paths.replica, asked)


def outcome(paths: StorePaths, key: str) -> tuple[Result, Outcome]:
    """Read what a done stage came to; its final weights are checked.

    Raises FileNotFoundError without a result, StoreError where a file cannot be read, is none or is damaged.
    """
    stage = paths.stage(key)
    result = read_result(stage)
    try:
        weights = read_checked(stage.final).checksum
    except FileNotFoundError:
        weights = None
    return result, Outcome(
        score=result.score,
        loss=result.loss,
        metrics=result.metrics,
        flag=result.flag,
        kept=result.kept,
        prunable=result.prunable,
        weights=weights,
        device_name=result.device_name,
        versions=result.versions,
        ended=result.ended,
    )

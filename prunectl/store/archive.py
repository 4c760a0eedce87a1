"""Export a study as one folder, and import it into another machine's store.

    FOLDER/
      parcel.json                what is inside: bytes and sha256 of every file; written last
      plans/<digest>.json        the plan's current version
      runs/<id>.json             the runs of it: commands, commit, packages, versions, devices
      datasets/<print>.json      what its data sets' files held
      stages/<key>/              its done stages: spec, log, result, mask and checkpoints
      replications/<id>.json     how its stages were replicated
      history.jsonl              what the scheduler's log says of its stages and trials: failures, with their reasons,
                                 what was cancelled, runs; the lines as they stand there; not imported
      tables/                    the results as Parquet and CSV, for people and other programs; not imported

A finished folder is one immutable bundle: its files are read-only, and the digest of all of them (`Manifest.bundle`)
names it.

Importing never overwrites: a stage that is done here stays as it is, and so do plans and runs. Every file that is
wanted is compared with its checksum before the first one is written.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from prunectl.errors import ControlError, DataError, StoreBusy, StoreError, nearest
from prunectl.spec.state import State
from prunectl.spec.study import Study
from prunectl.store import files, refusals
from prunectl.store.files import replacing, write_text
from prunectl.store.locks import Lock
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.archive import FileEntry, Manifest
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.dataset import DatasetRecord, check_dataset
from prunectl.store.records.events import ends_with, read_events
from prunectl.store.records.plan import current_studies, plan_versions, read_outline, read_plan
from prunectl.store.records.provenance import RunRecord, read_run
from prunectl.store.records.replication import Replication, read_replications
from prunectl.store.records.scheduler_log import RunStarted, concerned, read_scheduler_log
from prunectl.store.records.stage import has_result, read_result, read_spec, stage_state
from prunectl.store.records.store_format import add_unsealed, lacks_checksum, list_unsealed
from prunectl.store.tensors import read_checked
from prunectl.version import __version__

FORMAT = 2
"""Version of the folder's layout."""

MANIFEST = "parcel.json"
HISTORY = "history.jsonl"

_READ_ONLY = 0o555
"""What is left of a file's permissions once the bundle is finished."""

_NAMES = re.compile(
    r"plans/[0-9a-f]{8,64}\.json|runs/[\w-]+\.json|datasets/[\w-]+\.json|replications/[0-9a-f]{32}\.json|"
    r"history\.jsonl|tables/[\w-]+\.(?:parquet|csv)|"
    r"stages/[0-9a-f]{64}/(?:(?:spec|result)\.json|events\.jsonl|(?:mask|final|rewind-\d+)\.safetensors)"
)
"""Files that a bundle may have: anything else, such as a path out of the store, is refused."""
_NOT_IMPORTED = ("history.jsonl", "tables/")


# Export


def export_study(paths: StorePaths, plan: str, folder: Path) -> Manifest:
    """Copy the plan's current version with its runs, history and done stages into a new folder. Returns the manifest.

    It is for `finish`, once everything else is in the folder. Raises ControlError for a plan the store does not have or
    a folder that is not empty, StoreError where something cannot be read or written.
    """
    study = _study(paths, plan)
    empty = files.disk.is_folder(folder) and not files.disk.glob(folder)
    if files.disk.exists(folder) and not empty:
        raise ControlError(f"{folder} is there already and not empty; give another --out")
    entries: dict[str, FileEntry] = {}
    done = 0
    for source in _sources(paths, study):
        name = source.relative_to(paths.root).as_posix()
        entries[name] = _copy(source, folder / name)
        done += name.endswith("/result.json")
    write_text(folder / HISTORY, _history(paths, study))
    entries[HISTORY] = _entry(folder / HISTORY)
    return Manifest(
        format=FORMAT,
        prunectl=__version__,
        created=time.time(),
        plan=study.name,
        digest=study.digest,
        stages=done,
        stages_missing=len(study.stages) - done,
        files=entries,
        unsealed=tuple(name for name in list_unsealed(StorePaths(folder)) if name in entries),
    )


def finish(folder: Path, manifest: Manifest, others: Iterable[Path] = ()) -> Manifest:
    """Complete the folder: `others` that were written into it join the manifest, all files become read-only.

    Returns the manifest as it is written, after all else. Raises StoreError where something cannot be written.
    """
    entries = {path.relative_to(folder).as_posix(): _entry(path) for path in others}
    manifest = replace(manifest, files=dict(sorted((manifest.files | entries).items())))
    for name in manifest.files:
        _make_read_only(folder / name)
    write_record(folder / MANIFEST, manifest)
    _make_read_only(folder / MANIFEST)
    return manifest


def _make_read_only(path: Path) -> None:
    try:
        files.disk.set_mode(path, files.disk.mode(path) & _READ_ONLY)
    except OSError as error:
        raise refusals.cannot_write(path, error) from error


def _study(paths: StorePaths, plan: str) -> Study:
    studies = {study.name: study for study in current_studies(paths)}
    if plan not in studies:
        if not studies:
            raise StoreError(f"{paths.root} holds no plans; `prunectl run PLAN` makes some")
        near = nearest(plan, studies)
        raise ControlError(
            f"no plan {plan!r} in {paths.root}; it has: {', '.join(studies)}"
            + (f"; did you mean {near!r}?" if near else "")
        )
    return studies[plan]


def _sources(paths: StorePaths, study: Study) -> Iterator[Path]:
    yield paths.plan(study.digest)
    for path in files.disk.glob(paths.runs, "*.json"):
        try:
            plans = read_run(path).plans
        except StoreError:
            continue
        if study.digest in plans:
            yield path
    prints = {planned.stage.data.fingerprint for planned in study.stages.values()}
    yield from filter(files.disk.exists, map(paths.dataset, sorted(prints)))
    for key in sorted(study.stages):
        stage = paths.stage(key)
        if has_result(paths, key):
            yield from filter(files.disk.exists, _parts(stage))
    for path, replication in read_replications(paths):
        if replication.key in study.stages:
            yield path


def _history(paths: StorePaths, study: Study) -> str:
    """Return the lines of the scheduler's log that are about the study, its stages or its trials."""
    log = read_scheduler_log(paths.scheduler_log)
    about = {study.digest, *study.stages, *(trial.id for trial in study.trials)}
    found = []
    for record, line in zip(log.records, log.lines, strict=True):
        if about.isdisjoint(concerned(record)):
            continue
        if isinstance(record, RunStarted):  # its end names the run alone
            about.add(record.run)
        found.append(line + b"\n")
    return b"".join(found).decode(errors="replace")


def _parts(stage: StagePaths) -> list[Path]:
    """List the files of a done stage that are exported, the result last."""
    rewinds = [stage.rewind(step) for step in stage.rewind_steps()]
    return [stage.spec, stage.events, stage.mask, stage.final, *rewinds, stage.result]


def _copy(source: Path, target: Path) -> FileEntry:
    """Copy a file atomically. Returns its size and checksum, as the manifest has them."""
    with replacing(target) as temporary:
        files.copy(source, temporary)
        return _entry(temporary)


def _entry(path: Path) -> FileEntry:
    return FileEntry(files.disk.status(path).size, _sha256(path))


def _sha256(path: Path) -> str:
    with files.disk.open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Import


def admit_unsealed(
    folder: Path, manifest: Manifest, paths: StorePaths, names: Iterable[str]
) -> None:
    """Let records that are about to be taken be without a checksum in the store, if older versions made them.

    Raises StoreError for one that should have one.
    """
    records = (name for name in names if name.endswith((".json", ".jsonl")))
    others = (name for name in records if not name.endswith("/spec.json"))
    found = [name for name in others if lacks_checksum(folder / name)]
    for name in found:
        if manifest.format > 1 and name not in manifest.unsealed:
            raise StoreError(f"{folder / name} has no checksum: refused; nothing was taken")
    if found:
        add_unsealed(paths, found)


@dataclass
class Imported:
    """What an import did."""

    plan: str
    stages: int = 0
    """That were imported."""
    known: int = 0
    """Stages that were done here already, and stay as they are."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user."""


def import_study(folder: Path, paths: StorePaths) -> Imported:
    """Merge an exported study into the store: its plan, its runs, and the stages that are not done here.

    Repeating it changes nothing. Raises StoreError, naming the file, where one is missing, not what its checksum says,
    or no record: then nothing was taken. The database is left to ingestion.
    """
    manifest = read_manifest(folder)
    entries = manifest.files
    imported = Imported(manifest.plan)
    records = [
        name
        for name in entries
        if not name.startswith(("stages/", *_NOT_IMPORTED))
        and not files.disk.exists(paths.root / name)
    ]
    stages: dict[str, list[str]] = {}
    for name in entries:
        if name.startswith("stages/"):
            stages.setdefault(name.split("/")[1], []).append(name)
    for key in list(stages):
        if has_result(paths, key):
            imported.known += 1
            _compare(folder, paths, key, imported)
            del stages[key]
    for name in itertools.chain(records, *stages.values()):
        verify_file(folder / name, entries[name])
    for name in (name for name in entries if name.startswith("datasets/")):
        _check_dataset(folder / name, paths)
    for name in records:
        _check_record(folder / name)
    for key in stages:
        _check_stage(folder, key)
    taken = [*records, *itertools.chain(*stages.values())]
    admit_unsealed(folder, manifest, paths, taken)
    for key, names in stages.items():
        _import_stage(folder, paths.stage(key), names, entries, imported)
    for name in records:
        take_file(folder / name, paths.root / name, entries[name])
    if f"plans/{manifest.digest}.json" in records:
        imported.notes += _versions_note(paths, manifest)
    return imported


def _versions_note(paths: StorePaths, manifest: Manifest) -> Iterator[str]:
    """Say which version of its plan the study is now, where the store had others: it may be another study."""
    versions = plan_versions(paths, read_outline).get(manifest.plan)
    if versions is not None and len(versions.studies) > 1:
        taken, current = map(versions.number, (manifest.digest, versions.current.digest))
        yield (
            f"{manifest.plan} was here already and has {len(versions.studies)} versions now: what was taken is "
            f"version {taken}, current is version {current}, by the time of their last run"
        )


def read_manifest(folder: Path) -> Manifest:
    """Read what is in the folder. Raises StoreError where it is not finished, or names what no bundle has."""
    path = folder / MANIFEST
    try:
        manifest = read_record(path, Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"{folder} is no exported study: it has no {MANIFEST}, which is written last"
        ) from None
    if manifest.format > FORMAT:
        raise StoreError(
            f"{path} has format {manifest.format}, made by prunectl {manifest.prunectl}; this is prunectl "
            f"{__version__}, which knows formats up to {FORMAT}"
        )
    if code := brought_code(manifest):
        raise StoreError(
            f"{path} brings code of its own ({code[0]}), which this version of prunectl does not run: refused"
        )
    for name in manifest.files:
        if not _NAMES.fullmatch(name):
            raise StoreError(f"{path} names {name!r}, which no exported study has: refused")
    return manifest


def brought_code(manifest: Manifest) -> list[str]:
    """List the files of the bundle that are code: nothing in a bundle may be executed without its user's leave."""
    return [name for name in manifest.files if name.startswith("code/")]


def verify_file(path: Path, entry: FileEntry) -> None:
    """Compare the file with its checksum. Raises StoreError where it is not what the manifest says."""
    if files.disk.is_link(path):
        raise StoreError(f"{path} is a link: refused; nothing was taken")
    try:
        found = _sha256(path)
    except OSError as error:
        raise StoreError(f"{refusals.cannot_read(path, error)}; nothing was taken") from error
    if found != entry.sha256:
        raise StoreError(f"{path} is not what its checksum says: refused; nothing was taken")


def _check_dataset(path: Path, paths: StorePaths) -> None:
    """Check that a data set is what this store used under its fingerprint. Raises StoreError where it is not."""
    try:
        found = read_record(path, DatasetRecord)
        if found.fingerprint != path.stem:
            raise StoreError(f"{path} is of the data set {found.fingerprint}")
        check_dataset(paths, found)
    except (FileNotFoundError, StoreError, DataError) as error:
        raise StoreError(f"{error}; nothing was taken") from error


def _check_record(path: Path) -> None:
    """Check that the record of a plan, a data set or a run is one. Raises StoreError where it is not."""
    try:
        match path.parent.name:
            case "plans":
                read_plan(path)
            case "datasets":
                read_record(path, DatasetRecord)
            case "replications":
                read_record(path, Replication)
            case _:
                read_record(path, RunRecord)
    except StoreError as error:
        raise StoreError(f"{error}; nothing was taken") from error


def _check_stage(folder: Path, key: str) -> None:
    """Check that spec and result are the stage's, that all lines of its log are records, and the files those that the
    result vouches for.

    Raises StoreError where they are not.
    """
    stage = StagePaths(folder / "stages" / key)
    try:
        _ = read_spec(stage).computable
        result = read_result(stage)
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename} is missing; nothing was taken") from None
    except (StoreError, ValueError) as error:
        raise StoreError(f"{stage.folder} is no stage: {error}; nothing was taken") from error
    log = read_events(stage.events)
    for problem in log.problems.values():
        raise StoreError(f"{stage.events} {problem}; nothing was taken")
    if not ends_with(log, result):
        raise StoreError(f"{stage.events} is not the log of its result; nothing was taken")
    for name, checksum in result.digests.items():
        path = stage.folder / name
        if files.disk.exists(path) and read_checked(path).checksum != checksum:
            raise StoreError(f"{path} is not the file of its stage's result; nothing was taken")


def _import_stage(
    folder: Path,
    stage: StagePaths,
    names: list[str],
    entries: Mapping[str, FileEntry],
    imported: Imported,
) -> None:
    """Copy the files of one stage into place, its result last; skip it where it is running here."""
    lock = Lock(stage.lock)
    try:
        lock.acquire("prunectl import")
    except StoreBusy:
        imported.notes.append(f"stage {stage.key[:12]} is running here and was not taken")
        return
    try:
        if stage_state(stage.folder) is State.DONE:
            imported.known += 1
            return
        if files.disk.exists(stage.result):
            files.set_aside(stage.result)
        # A checkpoint of an attempt that was begun here belongs to another log than the one that comes.
        files.disk.unlink(stage.latest, missing_ok=True)
        for name in sorted(names, key=lambda name: (name.endswith("/result.json"), name)):
            take_file(folder / name, stage.folder / Path(name).name, entries[name])
        imported.stages += 1
    finally:
        lock.release()


def take_file(source: Path, target: Path, entry: FileEntry) -> None:
    """Copy a file of a bundle into a store. Raises StoreError where it is not what its checksum says by then."""
    with replacing(target) as temporary:
        files.copy(source, temporary)
        if _sha256(temporary) != entry.sha256:
            raise StoreError(f"{source} changed while it was copied: refused")


def _compare(folder: Path, paths: StorePaths, key: str, imported: Imported) -> None:
    """Note where the same stage has another score on the two machines."""
    try:
        ours = read_result(paths.stage(key)).score
        theirs = read_result(StagePaths(folder / "stages" / key)).score
    except (OSError, StoreError):
        return
    if ours != theirs:
        imported.notes.append(
            f"stage {key[:12]} came to a score of {theirs} there and {ours} here; what is here stays"
        )

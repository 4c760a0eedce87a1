"""Export a study as one folder, and import it into another machine's store.

    FOLDER/
      parcel.json                what is inside: bytes and sha256 of every file; written last
      plans/<digest>.json        the plan's current version
      runs/<id>.json             the runs of it
      stages/<key>/              its done stages: spec, log, result, mask and checkpoints
      tables/                    the results as Parquet and CSV, for people and other programs; not imported

Importing never overwrites: a stage that is done here stays as it is, and so do plans and runs. Every file that is
wanted is compared with its checksum before the first one is written.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunectl.errors import ControlError, StoreBusy, StoreError, nearest
from prunectl.store.files import read_json, replacing, write_json
from prunectl.store.locks import Lock
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.plan import Study, current_studies
from prunectl.version import __version__

FORMAT = 1
"""Version of the folder's layout."""

MANIFEST = "parcel.json"

_NAMES = re.compile(
    r"plans/[0-9a-f]{8,64}\.json|runs/[\w-]+\.json|"
    r"stages/[0-9a-f]{64}/(?:(?:spec|result)\.json|events\.jsonl|(?:mask|final|rewind-\d+)\.safetensors)"
)
"""Files that may be imported: anything else, such as a path out of the store, is refused."""


# Export


def export_study(paths: StorePaths, plan: str, folder: Path) -> dict[str, Any]:
    """Copy the plan's current version with its runs and done stages into a new folder. Returns the manifest.

    It is for `write_manifest`, once everything else is in the folder. Raises ControlError for a plan
    the store does not have or a folder that is not empty, StoreError where something cannot be read or written.
    """
    study = _study(paths, plan)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ControlError(f"{folder} is there already and not empty; give another --out")
    files: dict[str, dict[str, Any]] = {}
    done = 0
    for source in _sources(paths, study):
        name = source.relative_to(paths.root).as_posix()
        files[name] = _copy(source, folder / name)
        done += name.endswith("/result.json")
    return {
        "format": FORMAT,
        "prunectl": __version__,
        "created": time.time(),
        "plan": study.name,
        "digest": study.digest,
        "stages": done,
        "stages_missing": len(study.stages) - done,
        "files": files,
    }


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, which completes the folder."""
    write_json(folder / MANIFEST, manifest)


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
    for path in sorted(paths.runs.glob("*.json")):
        try:
            plans = read_json(path).get("plans", [])
        except (StoreError, AttributeError):
            continue
        if study.digest in plans:
            yield path
    for key in sorted(study.stages):
        stage = paths.stage(key)
        if stage.result.exists():
            yield from (path for path in _parts(stage) if path.exists())


def _parts(stage: StagePaths) -> list[Path]:
    """List the files of a done stage that are exported, the result last."""
    rewinds = [stage.rewind(step) for step in stage.rewind_steps()]
    return [stage.spec, stage.events, stage.mask, stage.final, *rewinds, stage.result]


def _copy(source: Path, target: Path) -> dict[str, Any]:
    """Copy a file atomically. Returns its size and checksum, as the manifest has them."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        return {"bytes": temporary.stat().st_size, "sha256": _sha256(temporary)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Import


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

    Repeating it changes nothing. Raises StoreError, naming the file, where one is missing or not what its checksum
    says: then nothing was taken. The database is left to ingestion.
    """
    manifest = _manifest(folder)
    files: dict[str, dict[str, Any]] = manifest["files"]
    imported = Imported(str(manifest.get("plan")))
    records = [
        name
        for name in files
        if not name.startswith("stages/") and not (paths.root / name).exists()
    ]
    stages: dict[str, list[str]] = {}
    for name in files:
        if name.startswith("stages/"):
            stages.setdefault(name.split("/")[1], []).append(name)
    for key in list(stages):
        if paths.stage(key).result.exists():
            imported.known += 1
            _compare(folder, paths, key, imported)
            del stages[key]
    for name in itertools.chain(records, *stages.values()):
        _verify(folder / name, files[name])
    for key in stages:
        _check_key(folder, key)
    for key, names in stages.items():
        _import_stage(folder, paths.stage(key), names, files, imported)
    for name in records:
        _import_file(folder / name, paths.root / name, files[name])
    return imported


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"{folder} is no exported study: it has no {MANIFEST}, which is written last"
        ) from None
    try:
        version, files = manifest["format"], manifest["files"]
        if version > FORMAT:
            raise StoreError(
                f"{path} has format {version}, made by prunectl {manifest.get('prunectl')}; this is prunectl "
                f"{__version__}, which knows formats up to {FORMAT}"
            )
        for name, entry in files.items():
            if not _NAMES.fullmatch(name):
                raise StoreError(f"{path} names {name!r}, which no exported study has: refused")
            _ = int(entry["bytes"]), str(entry["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is no manifest: {error!r}") from error
    found: dict[str, Any] = manifest
    return found


def _verify(path: Path, entry: dict[str, Any]) -> None:
    """Compare the file with its checksum. Raises StoreError where it is not what the manifest says."""
    if path.is_symlink():
        raise StoreError(f"{path} is a link: refused; nothing was taken")
    try:
        found = _sha256(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}; nothing was taken") from error
    if found != entry["sha256"]:
        raise StoreError(f"{path} is not what its checksum says: refused; nothing was taken")


def _check_key(folder: Path, key: str) -> None:
    """Check that spec and result belong to the stage's key. Raises StoreError where they do not."""
    from prunectl.spec.key import spec_from_dict, stage_key

    stage = StagePaths(folder / "stages" / key)
    try:
        spec = read_json(stage.spec)
        made = stage_key(spec_from_dict(spec))
        of = read_json(stage.result)["key"]
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename} is missing; nothing was taken") from None
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{stage.folder} is no stage: {error}; nothing was taken") from error
    for found, path in ((made, stage.spec), (of, stage.result)):
        if found != key:
            raise StoreError(f"{path} belongs to stage {found[:12]}: refused; nothing was taken")


def _import_stage(
    folder: Path,
    stage: StagePaths,
    names: list[str],
    files: dict[str, dict[str, Any]],
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
        if stage.result.exists():
            imported.known += 1
            return
        # A checkpoint of an attempt that was begun here belongs to another log than the one that comes.
        stage.latest.unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: (name.endswith("/result.json"), name)):
            _import_file(folder / name, stage.folder / Path(name).name, files[name])
        imported.stages += 1
    finally:
        lock.release()


def _import_file(source: Path, target: Path, entry: dict[str, Any]) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        if _sha256(temporary) != entry["sha256"]:
            raise StoreError(f"{source} changed while it was copied: refused")


def _compare(folder: Path, paths: StorePaths, key: str, imported: Imported) -> None:
    """Note where the same stage has another accuracy on the two machines."""
    try:
        ours = read_json(paths.stage(key).result)["accuracy"]
        theirs = read_json(folder / "stages" / key / "result.json")["accuracy"]
    except (OSError, StoreError, KeyError, TypeError):
        return
    if ours != theirs:
        imported.notes.append(
            f"stage {key[:12]} came to {theirs} % there and {ours} % here; what is here stays"
        )

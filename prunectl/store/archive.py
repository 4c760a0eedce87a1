"""Export a study as one folder, which another machine's store can import.

    FOLDER/
      parcel.json                what is inside: bytes and sha256 of every file; written last
      plans/<digest>.json        the plan's current version
      runs/<id>.json             the runs of it: commands, commit, packages, versions, devices
      datasets/<print>.json      what its data sets' files held
      labels/<print>.json        the labels of its test sets
      stages/<key>/              its done stages: spec, log, result, mask, checkpoints and predictions
      replications/<id>.json     how its stages were replicated
      history.jsonl              what the scheduler's log says of its stages and trials: failures, with their reasons,
                                 what was cancelled, runs; the lines as they stand there; not imported
      tables/                    the results as Parquet and CSV, for people and other programs; not imported

A finished folder is one immutable bundle: its files are read-only, and the digest of all of them (`Manifest.bundle`)
names it.

`import_study` takes it in again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec.structs import replace

from prunectl.errors import ControlError, StoreError, nearest
from prunectl.spec.study import Study
from prunectl.store import files, refusals
from prunectl.store.files import replacing, write_text
from prunectl.store.paths import RESULT, StagePaths, StorePaths
from prunectl.store.progress import Progress, silent
from prunectl.store.records.archive import FileEntry, Manifest
from prunectl.store.records.base import write_record
from prunectl.store.records.plan import current_studies
from prunectl.store.records.provenance import read_run
from prunectl.store.records.replication import read_replications
from prunectl.store.records.scheduler_log import RunStarted, concerned, read_scheduler_log
from prunectl.store.records.stage import has_result
from prunectl.store.records.store_format import list_unsealed
from prunectl.store.verdict import Verdict
from prunectl.store.verify import StageCheck
from prunectl.version import __version__

FORMAT = 2
"""Version of the folder's layout."""

MANIFEST = "parcel.json"
HISTORY = "history.jsonl"

_READ_ONLY = 0o555
"""What is left of a file's permissions once the bundle is finished."""


def export_study(
    paths: StorePaths,
    plan: str,
    folder: Path,
    progress: Progress = silent,
    refused: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Copy the plan's current version with its runs, history and done stages into a new folder. Returns the manifest.

    It is for `finish`, once everything else is in the folder. `progress` hears of what is checked and copied, `refused`
    of records that cannot be read and may be of a newer version.

    Raises ControlError for a plan the store does not have or a folder that is not empty, StoreError where something is
    damaged, before anything is written, or cannot be read or written.
    """
    study = _study(paths, plan, refused)
    empty = files.disk.is_folder(folder) and not files.disk.glob(folder)
    if files.disk.exists(folder) and not empty:
        is_begun = files.disk.is_folder(folder / "plans") and not files.disk.exists(
            folder / MANIFEST
        )
        what = "an export that did not end: remove it, or" if is_begun else "not empty;"
        raise ControlError(f"{folder} is there already and {what} give another --out")
    _check_stages(paths, study, progress)
    entries: dict[str, FileEntry] = {}
    sources = list(_sources(paths, study))
    done = sum(source.name == RESULT for source in sources)
    for number, source in enumerate(sources):
        name = source.relative_to(paths.root).as_posix()
        entries[name] = _copy(source, folder / name)
        progress("files copied", number + 1, len(sources))
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


def _check_stages(paths: StorePaths, study: Study, progress: Progress) -> None:
    """Raise StoreError for a done stage of which `store verify` would name anything: whoever imports it refuses it."""
    done = [key for key in study.stages if has_result(paths, key)]
    verdict = Verdict()
    for number, key in enumerate(done):
        StageCheck(paths, paths.stage(key), verdict).run()
        for problem in verdict.problems:
            raise StoreError(
                f"{problem}: nothing was exported; remove {paths.stage(key).folder} and run the plan"
            )
        progress("stages checked", number + 1, len(done))


def _study(paths: StorePaths, plan: str, refused: Callable[[str], None]) -> Study:
    studies = {study.name: study for study in current_studies(paths, refused=refused)}
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
    data = {planned.stage.data for planned in study.stages.values()}
    yield from filter(
        files.disk.exists, map(paths.dataset, sorted({each.fingerprint for each in data}))
    )
    labels = {paths.labels_of(each) for each in data}
    yield from filter(files.disk.exists, sorted(labels))
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
    tensors = [stage.mask, stage.final, *rewinds, stage.predictions]
    return [stage.spec, stage.events, *tensors, stage.result]


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

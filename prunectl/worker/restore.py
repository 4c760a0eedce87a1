"""Before a stage is run again: what of its folder can be trusted, and whether it needs to be run at all."""

from __future__ import annotations

from prunectl.errors import StoreError
from prunectl.spec.stage import Stage
from prunectl.store import files
from prunectl.store.files import set_aside
from prunectl.store.paths import StagePaths
from prunectl.store.records.base import write_record
from prunectl.store.records.events import last, read_events
from prunectl.store.records.result import Result
from prunectl.store.tensors import read_checked


def clear_damage(folder: StagePaths, spec: Stage) -> bool:
    """Set aside a result and a log that are damaged. Returns whether the stage is done all the same.

    A stage ends with its result in the log before it is in a file of its own: where that record and all files that it
    names are sound, the file is written again, and nothing is trained. Without a sound log nothing can be gone on from:
    numbers of earlier epochs would be missing in the result.
    """
    if files.disk.exists(folder.result):
        set_aside(folder.result)
    log = read_events(folder.events)
    if log.bad:
        set_aside(folder.events)
        files.disk.unlink(folder.latest, missing_ok=True)
        return False
    result = last(log.records, Result)
    if result is None or result is not log.records[-1] or not _stands(folder, spec, result):
        return False
    write_record(folder.result, result)
    return True


def _stands(folder: StagePaths, spec: Stage, result: Result) -> bool:
    """Return whether the files that a result rests on are there, and those that it names."""
    if result.key != folder.key or result.lines_before is None:
        return False
    needed = [folder.final, *([folder.mask] if spec.mask else [])]
    if spec.replay:
        assert spec.weights.step is not None
        needed = [folder.rewind(spec.weights.step)]
    needed += [folder.predictions] if folder.predictions.name in result.digests else []
    try:
        return all(read_checked(path).checksum == result.digests.get(path.name) for path in needed)
    except (FileNotFoundError, StoreError):
        return False

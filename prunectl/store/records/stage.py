"""The doors of a stage's own two records: what it is, `spec.json`, and what came of it, `result.json`; and its state.

Both belong to the key that names their folder: a record of another stage is none here, whatever its checksum says.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from prunectl.spec.key import Spec, spec_key
from prunectl.spec.state import State
from prunectl.store import files
from prunectl.store.locks import is_held
from prunectl.store.paths import EVENTS, LOCK, RESULT, StagePaths, StorePaths
from prunectl.store.records import seal
from prunectl.store.records.base import BadRecord, decode, read_file, read_record, unsound
from prunectl.store.records.result import Result
from prunectl.store.refusals import is_refusal


def read_spec(stage: StagePaths) -> Spec:
    """Read what a stage is.

    Raises FileNotFoundError as is, StoreError where it cannot be read, BadRecord for what is not what the key says.
    """
    data = read_file(stage.spec)
    spec = decode(data, Spec, stage.spec)
    # The file holds what was hashed into the key: its own hash takes 2 μs, the canonical JSON of what it says 30.
    if hashlib.sha256(data.removesuffix(b"\n")).hexdigest() != stage.key != spec_key(spec):
        raise BadRecord(f"{stage.spec} describes another stage than its folder's name")
    return spec


def read_result(stage: StagePaths) -> Result:
    """Read what came of a stage; errors as `read_spec`."""
    result = read_record(stage.result, Result)
    if result.key != stage.key:
        raise BadRecord(f"{stage.result} is of another stage")
    return result


def has_result(paths: StorePaths, key: str) -> bool:
    """Return whether a stage is done: its result is there, its own, and sound.

    Raises OSError where that cannot be told: what may not be read is not missing.
    """
    return _is_done(f"{paths.root}/stages/{key}", key)


def stage_state(folder: Path | str) -> State:
    """Compute the state of the stage in this folder from its files; running only while its lock is held now.

    Returns DONE, RUNNING, INTERRUPTED or WAITING: files say nothing of plans, failures and what people ask for. A stage
    whose result is damaged is as one without.
    """
    if _is_done(str(folder), str(folder).rpartition("/")[2]):
        return State.DONE
    if is_held(f"{folder}/{LOCK}"):
        return State.RUNNING
    return State.INTERRUPTED if files.disk.exists(f"{folder}/{EVENTS}") else State.WAITING


def _is_done(folder: str, key: str) -> bool:
    # As text: for tens of thousands of stages, path objects take longer than the disk.
    path = f"{folder}/{RESULT}"
    try:
        data = files.disk.read(path)
    except OSError as error:
        if is_refusal(error):
            raise
        return False
    # Its own: no member but `key` holds a key, and decoding takes longer than the disk, too.
    is_own = f'"{key}"'.encode() in data
    record = data.removesuffix(b"\n")
    return is_own and (seal.holds(record) or unsound(record, Path(path)) is None)

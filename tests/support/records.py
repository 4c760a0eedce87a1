"""Records as dictionaries, with all their fields: what tests compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from prunectl.spec.key import NUMERICS, Spec
from prunectl.spec.stage import Stage
from prunectl.store.files import write_text
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import read_events
from prunectl.store.records.scheduler_log import kind, read_scheduler_log


def as_dict(record: LogRecord) -> dict[str, Any]:
    """A record of a log with every field, also those that have their defaults; `type` as on the disk."""
    return {**msgspec.structs.asdict(record), "type": kind(record)}


def events(path: Path) -> list[dict[str, Any]]:
    """The records of a stage's log."""
    return [as_dict(record) for record in read_events(path).records]


def scheduler_log(path: Path) -> list[dict[str, Any]]:
    """The records of the scheduler's log."""
    return [as_dict(record) for record in read_scheduler_log(path).records]


def read_json(path: Path) -> Any:
    """A file's JSON, as it stands there."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: object) -> None:
    """Replace a file by any JSON."""
    write_text(path, json.dumps(content))


def spec_json(stage: Stage) -> dict[str, Any]:
    """The content of a stage's spec.json."""
    found: dict[str, Any] = json.loads(Spec(NUMERICS, stage).to_json())
    return found


def write_spec(paths: StorePaths, key: str, stage: Stage) -> None:
    """Write a stage's spec.json."""
    write_text(paths.stage(key).spec, Spec(NUMERICS, stage).to_json())

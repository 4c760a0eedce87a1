"""Records as dictionaries, with all their fields: what tests compare."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from prunectl.spec.key import NUMERICS, Spec
from prunectl.spec.stage import Stage
from prunectl.store.files import write_text
from prunectl.store.paths import StorePaths
from prunectl.store.records import seal
from prunectl.store.records.base import LogRecord
from prunectl.store.records.events import read_events
from prunectl.store.records.scheduler_log import kind, read_scheduler_log


def as_dict(record: LogRecord) -> dict[str, Any]:
    """A record of a log with every field, also those that have their defaults; `type` as on the disk."""
    found: dict[str, Any] = json.loads(msgspec.json.encode(msgspec.structs.asdict(record)))
    return {**found, "type": kind(record)}


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
    """Replace a file by any JSON, with a checksum if it is a record that has one."""
    text = json.dumps(content)
    write_text(path, text if path.name == "spec.json" else resealed(text))


def resealed(line: str) -> str:
    """A record's JSON with the checksum that belongs to it; what is no object with members is left as it is."""
    plain = re.sub(r'(?:, ?|(?<=\{))"sum": ?"[^"]*"\}$', "}", line)
    if not plain.endswith("}") or plain == "{}":
        return plain
    return seal.seal(plain.encode(errors="surrogateescape")).decode(errors="surrogateescape")


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change the text of a record or of each line of a log, which gets the checksum that belongs to it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(resealed(change(line)) + "\n" for line in lines), encoding="utf-8")


def spec_json(stage: Stage) -> dict[str, Any]:
    """The content of a stage's spec.json."""
    found: dict[str, Any] = json.loads(Spec(NUMERICS, stage).to_json())
    return found


def write_spec(paths: StorePaths, key: str, stage: Stage) -> None:
    """Write a stage's spec.json."""
    write_text(paths.stage(key).spec, Spec(NUMERICS, stage).to_json())

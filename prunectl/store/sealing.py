"""Give checksums to the records of older versions, which have none: `store verify --seal`.

What can be compared is compared first: a result with its log's own record of the end, and its stage's files with their
own checksums. A record that fails stays as it is, and stays listed in format.json. Killed at any moment, the next call
goes on: a record with a checksum is sound, listed or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from prunectl.errors import StoreError
from prunectl.store import files
from prunectl.store.db import ingest
from prunectl.store.locks import Lock, process_name
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records import seal
from prunectl.store.records.base import encode_sealed, read_file
from prunectl.store.records.dataset import read_dataset
from prunectl.store.records.events import contradicts, last, read_events
from prunectl.store.records.journal import Log
from prunectl.store.records.labels import read_labels
from prunectl.store.records.plan import read_plan
from prunectl.store.records.provenance import read_run
from prunectl.store.records.replication import read_replication
from prunectl.store.records.result import Result
from prunectl.store.records.scheduler_log import read_scheduler_log
from prunectl.store.records.stage import read_result
from prunectl.store.records.store_format import list_unsealed, read_format, write_format
from prunectl.store.tensors import read_checked

_READERS: dict[str, Callable[[Path], object]] = {
    "plans": read_plan, "runs": read_run, "datasets": read_dataset, "labels": read_labels,
    "replications": read_replication,
}  # fmt: skip


@dataclass
class Sealed:
    """What was done."""

    records: int = 0
    """That have a checksum now; a log counts once."""
    problems: list[str] = field(default_factory=list)
    """Why others have none, a sentence each."""


def seal_store(paths: StorePaths) -> Sealed:
    """Add the checksums, and make the database anew.

    Raises StoreBusy where a scheduler or a reader of the database has the store, StoreError where there is none, a file
    cannot be written, or format.json cannot be read. What was sealed by then is sealed, and may be so again.
    """
    if not paths.is_store():
        raise StoreError(f"{paths.root} holds no results")
    report = Sealed()
    lock = Lock(paths.scheduler_lock)
    lock.acquire(f"sealing, {process_name()}")
    with lock:
        is_listed = files.disk.exists(paths.format)
        names = [*(read_format(paths).unsealed if is_listed else list_unsealed(paths))]
        if names:
            ingest.remove(paths)  # it knows logs by their first lines
        rest = _Sealing(paths, report).run(names)
        if names:
            ingest.rebuild(paths)
        write_format(paths, rest)  # last: until then the whole may be tried again
    return report


class _Sealing:
    def __init__(self, paths: StorePaths, report: Sealed) -> None:
        self._paths = paths
        self._report = report

    def run(self, names: Iterable[str]) -> list[str]:
        """Seal records, by path inside the store. Returns those that stay without a checksum."""
        groups: dict[Path, list[str]] = defaultdict(list)
        for name in names:
            groups[(self._paths.root / name).parent].append(name)
        rest: list[str] = []
        for folder, members in groups.items():
            is_stage = folder.parent == self._paths.stages
            work = self._stage if is_stage else self._records
            rest += work(folder, members)
        return rest

    def _try(self, name: str, work: Callable[[], None]) -> list[str]:
        try:
            work()
        except FileNotFoundError:  # removed since
            return []
        except StoreError as error:
            self._report.problems.append(f"{error}: it gets no checksum")
            return [name]
        self._report.records += 1
        return []

    def _records(self, folder: Path, names: list[str]) -> list[str]:
        rest = []
        for name in names:
            path = self._paths.root / name
            work = self._log if path == self._paths.scheduler_log else self._record
            rest += self._try(name, lambda path=path, work=work: work(path))  # type: ignore[misc]
        return rest

    def _record(self, path: Path) -> None:
        reader = _READERS.get(path.parent.name)
        if reader is not None:
            reader(path)
        _write(path, [_sealed(read_file(path).removesuffix(b"\n"))])

    def _log(self, path: Path) -> None:
        _write(path, _relinked(path, read_scheduler_log(path)))

    def _stage(self, folder: Path, names: list[str]) -> list[str]:
        stage = StagePaths(folder)
        with Lock(stage.lock):
            left = self._try(names[0], lambda: _seal_stage(stage))
        self._report.records += 0 if left else len(names) - 1
        return names if left else []


def _seal_stage(stage: StagePaths) -> None:
    """Seal a stage's log, then its result, which vouches for log and files from then on."""
    log = read_events(stage.events)
    try:
        result = read_result(stage)
    except FileNotFoundError:
        _write(stage.events, _relinked(stage.events, log))
        return
    ended = last(log.records, Result)
    if ended is None or contradicts(log, result):
        raise StoreError(f"{stage.result} is not what {stage.events.name} says of the stage's end")
    ended.digests = {
        path.name: read_checked(path).checksum
        for path in files.disk.glob(stage.folder, "*.safetensors")
        if path != stage.latest
    }
    lines = _relinked(stage.events, log, ended)
    _write(stage.events, lines)
    _write(stage.result, [line for line in lines if b'"type":"done"' in line][-1:])


def _relinked(path: Path, log: Log[Any], end: Result | None = None) -> list[bytes]:
    """Return a log's lines with checksums. Its marks, and its record `end`, vouch for the lines as they are now.

    Raises StoreError where a line is damaged.
    """
    for problem in log.problems.values():
        raise StoreError(f"{path} {problem}")
    records = dict(zip(log.lines, log.records, strict=True))
    lines: list[bytes] = []
    digest = ""
    for line in filter(None, read_file(path).split(b"\n")):
        record = records.get(line)
        is_end = record is not None and record is end
        if is_end or getattr(record, "lines_before", None) is not None:
            added: dict[str, object] = {"lines_before": len(lines), "digest_before": digest}
            line = _changed(line, added | ({"digests": end.digests} if is_end and end else {}))
        elif record is not None:
            line = _sealed(line)
        lines.append(line)
        digest = seal.chained(digest, line)
    return lines


def _changed(line: bytes, members: dict[str, object]) -> bytes:
    """Return a record's JSON with other values of some members, and its checksum; the rest is as it was."""
    content: dict[str, object] = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    content.pop("sum", None)
    return encode_sealed(content | members)


def _sealed(line: bytes) -> bytes:
    return line if seal.is_sealed(line) else seal.seal(line)


def _write(path: Path, lines: list[bytes]) -> None:
    with files.replacing(path) as temporary:
        files.disk.write(temporary, b"".join(line + b"\n" for line in lines))

"""`format.json`: which records of a store have no checksum, because a version of prunectl wrote them that made none.

It is written once, when a store is first used by a version that makes checksums. From then on any other record without
one is damaged. A store without it, such as one that may only be read, is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.errors import StoreError
from prunectl.spec.ranges import Small
from prunectl.store import files, refusals
from prunectl.store.locks import is_held
from prunectl.store.paths import StorePaths
from prunectl.store.records import seal

_VOUCHES = re.compile(rb'"lines_before":\d')
"""In a result that vouches for its log, as those of versions do that make checksums."""

FORMAT = 2
"""Version of a store's records; those of version 1 had no checksums."""


class StoreFormat(msgspec.Struct, tag="store_format", kw_only=True):
    """What is to be known of a store's records before they are read."""

    format: Annotated[Small, Meta(description="version of the store's records")] = FORMAT
    unsealed: Annotated[
        tuple[str, ...],
        Meta(
            description="records without a checksum, by path inside the store; of a log those are its first lines"
        ),
    ] = ()


_known: dict[Path, tuple[files.Status, frozenset[str]]] = {}
"""What was read of the last few format.json, by path: an import compares two stores' records in turns."""
_MOST_KNOWN = 4


def read_format(paths: StorePaths) -> StoreFormat:
    """Read format.json. Raises FileNotFoundError as is, StoreError where it cannot be read or is damaged."""
    path = paths.format
    try:
        data = files.disk.read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise refusals.cannot_read(path, error) from error
    try:
        if seal.holds(data.removesuffix(b"\n")):
            return msgspec.json.decode(data, type=StoreFormat)
        why = "is not what its checksum says"
    except msgspec.DecodeError as error:
        why = f"is malformed: {error}"
    raise StoreError(
        f"{path} {why}; remove it, and the next command lists anew which records have no checksum"
    )


def may_lack_checksum(path: Path) -> bool:
    """Return whether a record of a store may be without a checksum; one outside of any store may."""
    path = path.absolute()
    root = _root(path)
    place = StorePaths(root).format
    try:
        status = files.disk.status(place)
    except OSError:
        return True
    if place not in _known or _known[place][0] != status:
        try:
            names = frozenset(read_format(StorePaths(root)).unsealed)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except StoreError:  # which `store verify` names
            names = frozenset()
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[place] = status, names
    return path.relative_to(root).as_posix() in _known[place][1]


def _root(path: Path) -> Path:
    """Return the store's folder, by where records lie in it."""
    folder = path.parent
    if path.name in ("scheduler.jsonl", "replica.json"):
        return folder
    if folder.parent.name == "stages" or folder.name == "requests":
        return folder.parent.parent
    inside = folder.name in ("plans", "runs", "datasets", "labels", "replications", "control")
    return folder.parent if inside else folder


def ensure_format(paths: StorePaths) -> None:
    """Write format.json where there is none, with the records that have no checksum.

    Not beside a scheduler: it has done so, or is of a version that makes no checksums and goes on writing such records.
    Raises StoreError where it cannot be written, or a record cannot be read.
    """
    if not files.disk.exists(paths.format) and not is_held(paths.scheduler_lock):
        write_format(paths, list_unsealed(paths))


def write_format(paths: StorePaths, unsealed: Iterable[str]) -> None:
    """Write format.json. Raises StoreError where it cannot be written."""
    record = StoreFormat(unsealed=tuple(sorted(unsealed)))
    data = seal.seal(msgspec.json.encode(record)) + b"\n"
    with files.replacing(paths.format) as temporary:
        files.disk.write(temporary, data)


def add_unsealed(paths: StorePaths, names: Iterable[str]) -> None:
    """Allow more records of a store to be without a checksum. Raises StoreError where that cannot be written."""
    ensure_format(paths)
    if not files.disk.exists(paths.format):  # what is there is listed when it is written
        return
    new = set(names) - set(read_format(paths).unsealed)
    if new:
        write_format(paths, new.union(read_format(paths).unsealed))


def list_unsealed(paths: StorePaths) -> Iterator[str]:
    """List the records that have no checksum, by path inside the store; logs whose first line has none."""
    for path in filter(lacks_checksum, record_files(paths)):
        # One that vouches for its log is of a version that made checksums: it has lost its own.
        if path.name != "result.json" or not _VOUCHES.search(_read(path)):
            yield path.relative_to(paths.root).as_posix()


def _read(path: Path) -> bytes:
    """Read a file; nothing where it is gone. Raises StoreError where it cannot be read."""
    try:
        return files.disk.read(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise refusals.cannot_read(path, error) from error


def lacks_checksum(path: Path) -> bool:
    """Return whether the record in a file, or the first of a log, has no checksum; not where there is none.

    Raises StoreError where the file cannot be read.
    """
    try:
        with files.disk.open(path) as file:
            if path.suffix == ".json":
                line = file.read().removesuffix(b"\n")
            else:
                line = next(filter(None, (each.removesuffix(b"\n") for each in file)), b"")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refusals.cannot_read(path, error) from error
    return bool(line) and not seal.is_sealed(line)


def record_files(paths: StorePaths) -> Iterator[Path]:
    """List the files of a store that hold records with checksums; each is one line, or a log."""
    folders = (
        paths.plans, paths.runs, paths.datasets, paths.labels, paths.replications, paths.requests,
    )  # fmt: skip
    for folder in folders:
        yield from files.disk.glob(folder, "*.json")
    alone = (paths.scheduler_log, paths.heartbeat, paths.replica)
    yield from filter(files.disk.exists, alone)
    for name in files.disk.folders(paths.stages):
        stage = paths.stage(name)
        yield from filter(files.disk.exists, (stage.events, stage.result))

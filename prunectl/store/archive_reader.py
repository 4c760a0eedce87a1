"""Read an exported folder that anybody may have made: what it lists alone, and regular files as they are listed."""

from __future__ import annotations

import errno
import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from prunectl.errors import StoreError
from prunectl.spec.ranges import MOST_ITEMS
from prunectl.store import files, refusals
from prunectl.store.archive import FORMAT, MANIFEST
from prunectl.store.files import replacing
from prunectl.store.predictions import MOST_BYTES as MOST_PREDICTIONS
from prunectl.store.records.archive import FileEntry, Manifest
from prunectl.store.records.base import NOT_DECODED, BadRecord, decode, unsound
from prunectl.store.records.store_format import lacks_checksum
from prunectl.version import __version__

MOST_MANIFEST = 256 << 20
"""Bytes: that of 10,000 trials with five iterations has 60 MB."""
MOST_LABELS = 8 * MOST_ITEMS
"""Bytes of a record of labels: up to five digits and a comma for each item."""
PIECE = 1 << 20
"""Bytes that are read at a time."""

_NAMES = re.compile(
    r"plans/[0-9a-f]{8,64}\.json|runs/[\w-]+\.json|datasets/[\w-]+\.json|replications/[0-9a-f]{32}\.json|"
    r"labels/[\w-]+\.json|"
    r"history\.jsonl|tables/[\w-]+\.(?:parquet|csv)|"
    r"stages/[0-9a-f]{64}/(?:(?:spec|result)\.json|events\.jsonl|(?:mask|final|predictions|rewind-\d{1,16})\.safetensors)",
    re.ASCII,
)
"""Files that a bundle may have: anything else, such as a path out of the store, is refused."""


def read_manifest(folder: Path) -> Manifest:
    """Read what is in the folder. Raises StoreError where it is not finished, or names what no bundle has."""
    path = folder / MANIFEST
    try:
        data = b"".join(_pieces(folder, MANIFEST, MOST_MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"{folder} is no exported study: it has no {MANIFEST}, which is written last"
        ) from None
    if (why := unsound(data.removesuffix(b"\n"), path)) is not None:
        raise BadRecord(f"{path} {why}")
    manifest = decode(data, Manifest, path)
    if manifest.format > FORMAT:
        raise StoreError(
            f"{path} has format {manifest.format}, made by prunectl {manifest.prunectl}; this is prunectl "
            f"{__version__}, which knows formats up to {FORMAT}"
        )
    if code := brought_code(manifest):
        raise StoreError(
            f"{path} brings code of its own ({code[0]}), which this version of prunectl does not run: refused"
        )
    if unknown := _members(data) - {*Manifest.__struct_fields__, "sum"}:
        raise StoreError(
            f"{path} has {min(unknown)!r}, which no version of prunectl writes: refused"
        )
    for name, entry in manifest.files.items():
        if not _NAMES.fullmatch(name):
            raise StoreError(f"{path} names {name!r}, which no exported study has: refused")
        if entry.bytes > _most(name):
            raise StoreError(
                f"{path} has {entry.bytes} bytes of {name}, too many for such a file: refused"
            )
    return manifest


def _most(name: str) -> float:
    """Return how many bytes a file of the folder may have at most, where what it holds says so."""
    if name.startswith("labels/"):
        return MOST_LABELS
    return MOST_PREDICTIONS if name.endswith("/predictions.safetensors") else math.inf


def _members(data: bytes) -> set[str]:
    try:
        return set(msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
    except NOT_DECODED:
        return set()


def brought_code(manifest: Manifest) -> list[str]:
    """List the files of the bundle that are code: nothing in a bundle may be executed without its user's leave."""
    return [name for name in manifest.files if name.startswith("code/")]


def verify_file(folder: Path, name: str, entry: FileEntry) -> None:
    """Compare a file with its checksum. Raises StoreError where it is not what the manifest says."""
    _of_manifest(folder / name, entry, _pieces(folder, name, entry.bytes))


def take_file(folder: Path, name: str, entry: FileEntry, target: Path) -> None:
    """Copy a file out of the folder. What is copied is what is compared with its checksum.

    Raises StoreError where it is not what the manifest says; then there is no copy.
    """
    with replacing(target) as temporary:
        _of_manifest(folder / name, entry, _pieces(folder, name, entry.bytes), temporary)


def _of_manifest(
    path: Path, entry: FileEntry, pieces: Iterator[bytes], target: Path | None = None
) -> None:
    digest = hashlib.sha256()
    size = 0

    def read() -> Iterator[bytes]:
        nonlocal size
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            yield piece

    try:
        if target is None:
            for _ in read():
                pass
        else:
            files.disk.fill(target, read())
    except FileNotFoundError as error:
        raise StoreError(f"{refusals.cannot_read(path, error)}; nothing was taken") from error
    if size != entry.bytes or digest.hexdigest() != entry.sha256:
        raise StoreError(f"{path} is not what its checksum says: refused; nothing was taken")


def _pieces(folder: Path, name: str, most: int) -> Iterator[bytes]:
    """Read a regular file of at most so many bytes. Raises FileNotFoundError as is, StoreError for anything else."""
    path = folder / name
    try:
        with files.disk.open_inside(folder, name) as file:
            left = most
            while piece := file.read(PIECE):
                left -= len(piece)
                if left < 0:
                    what = "has" if name == MANIFEST else "is not what its checksum says, it has"
                    raise StoreError(
                        f"{path} {what} more than the {most} bytes that it may have: refused; nothing was taken"
                    )
                yield piece
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) or files.disk.is_link(path):
            raise StoreError(f"{path} is a link: refused; nothing was taken") from error
        if error.errno in (errno.EINVAL, errno.ENXIO, errno.EISDIR, errno.ENOTDIR):
            why = "is no regular file, or lies in no folder"
            raise StoreError(f"{path} {why}: refused; nothing was taken") from error
        raise StoreError(f"{refusals.cannot_read(path, error)}; nothing was taken") from error


def unsealed(folder: Path, manifest: Manifest, names: Iterable[str]) -> list[str]:
    """List the records that are about to be taken and have no checksum, as older versions made them.

    Raises StoreError for one that should have one.
    """
    records = (name for name in names if name.endswith((".json", ".jsonl")))
    others = (name for name in records if not name.endswith("/spec.json"))
    found = [name for name in others if lacks_checksum(folder / name)]
    for name in found:
        if manifest.format > 1 and name not in manifest.unsealed:
            raise StoreError(f"{folder / name} has no checksum")
    return found

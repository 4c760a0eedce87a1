"""Exported studies, copied and changed as nobody should: a finished one is read-only."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from msgspec.structs import replace

from prunectl.store.archive import MANIFEST
from prunectl.store.records.archive import FileEntry, Manifest
from prunectl.store.records.base import read_record, write_record

Entry = tuple[str, int, int, bytes]


def make_writable(folder: Path) -> Path:
    """Let its owner write to all files of a folder."""
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    return folder


def writable_copy(bundle: Path, target: Path) -> Path:
    """Copy a bundle, to be changed."""
    shutil.copytree(bundle, target)
    return make_writable(target)


def reseal(folder: Path) -> None:
    """Make the manifest fit the files, as a forger would."""
    manifest = read_record(folder / MANIFEST, Manifest)
    entries = {name: _entry(folder / name) for name in manifest.files}
    write_record(folder / MANIFEST, replace(manifest, files=entries))


def _entry(path: Path) -> FileEntry:
    content = path.read_bytes()
    return FileEntry(len(content), hashlib.sha256(content).hexdigest())


def tree(folder: Path) -> list[Entry]:
    """All that a folder holds: name, permissions, time of the last change in ns, and content."""
    return [
        (
            path.relative_to(folder).as_posix(),
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted([folder, *folder.rglob("*")])
    ]

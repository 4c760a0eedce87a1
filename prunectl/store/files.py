"""Writing files so that a crash leaves either the old content or the new, never a mixture.

All writes, fsyncs and renames of the store go through `hook`, so that a test can stop the process at each.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prunectl.errors import DiskError, StoreError

hook: Callable[[str, Path], None] | None = None
"""Called with ("write" | "fsync" | "rename", path) just before each of these; for fault injection."""


def about_to(action: str, path: Path) -> None:
    """Tell the hook, if there is one."""
    if hook is not None:
        hook(action, path)


DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of the disk rather than of a file."""


def cannot_write(path: Path, error: OSError) -> StoreError:
    """The error for a file that cannot be written; a DiskError where no other could be either."""
    kind = DiskError if error.errno in DISK else StoreError
    return kind(f"cannot write {path}: {error.strerror or error}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; fsynced and renamed over `path` at the end.

    Raises StoreError where the folder cannot be written, DiskError where the disk is full; nothing is left behind
    then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        about_to("write", path)
        yield temporary
        about_to("fsync", path)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        about_to("rename", path)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    about_to("fsync", folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of `replacing` in the folder: what a killed process left, or a living one is writing."""
    return sorted(folder.glob(".*.tmp"))


def write_text(path: Path, text: str) -> None:
    """Replace the file's content atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Replace the file's content atomically by JSON; floats that are not finite become null."""
    write_text(path, dumps(data) + "\n")


def read_json(path: Path) -> Any:
    """The file's JSON.

    Raises FileNotFoundError as is, and StoreError where the content is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not JSON: {error}") from error


def read_head(path: Path, stop: str) -> dict[str, Any]:
    """The members of the file's JSON object that come before the member `stop`: of a long file, what is wanted first.

    Raises as `read_json`. What comes after is not looked at; a file that `dumps` has not written is read whole.
    """
    text = path.read_text(encoding="utf-8")
    decoder = json.JSONDecoder()
    head: dict[str, Any] = {}
    at = 0
    try:
        while text[at : at + 1] in ("{", ","):
            name, at = decoder.raw_decode(text, at + 1)
            if name == stop:
                return head
            head[name], at = decoder.raw_decode(text, at + 1)
    except json.JSONDecodeError:
        pass
    whole: dict[str, Any] = read_json(path)
    return whole


def dumps(data: Any) -> str:
    """Compact JSON in which NaN and infinities are null: a diverged loss must not make a file unreadable."""
    try:
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=False)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if data == data and abs(data) != float("inf") else None
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data

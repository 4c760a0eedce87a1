"""A disk in memory that crashes as a real one does: for simulations of the store.

`Storage` is the medium, `SimulatedDisk` one process's view of it. What a process has written is seen by all at once,
and survives its death. A power cut is another thing: of what was not synced, any part may be gone. Of a file that was
only appended to, that is a tail, cut anywhere; of a file that was written whole, any of it. Names are as durable as
their folder's last sync.
"""

from __future__ import annotations

import errno
import io
import itertools
import random
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from prunectl.store.files import AppendFile, Disk, Status


class _File:
    """The content of a file."""

    __slots__ = ("content", "mtime_ns", "synced", "whole")

    def __init__(self, now: float) -> None:
        self.content = bytearray()
        self.synced = b""
        """What is on the medium for certain."""
        self.whole = False
        """It was written over since: what was not synced is no mere tail."""
        self.mtime_ns = int(now * 1e9)


Names = dict[str, dict[str, _File]]
"""Files by folder and name."""


class Storage:
    """The medium, and the locks on its files."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` is the time that files are given, Unix seconds."""
        self.now = now
        self.full = False
        """Nothing more can be written."""
        self.names: Names = {}
        self.durable: Names = {}
        """The names that are on the medium for certain."""
        self.locks: dict[str, tuple[SimulatedDisk, int]] = {}
        """By path: who holds it, and the handle."""
        self.handles = itertools.count(1)

    def power_cut(self, chance: random.Random) -> None:
        """Lose what was not synced, or some of it."""
        for folder, current in self.names.items():
            durable = self.durable.setdefault(folder, {})
            for name in current.keys() | durable.keys():
                kept = durable.get(name)
                found = current.get(name) if chance.random() < 0.5 else kept
                if found is None:
                    current.pop(name, None)
                else:
                    current[name] = found
            self.durable[folder] = dict(current)
        for file in {id(f): f for names in self.names.values() for f in names.values()}.values():
            content = bytes(file.content)
            if content != file.synced:
                least = 0 if file.whole else min(len(file.synced), len(content))
                rest = content[: chance.randint(least, len(content))]
                file.content, file.synced = bytearray(rest), rest
            file.whole = False
        self.locks.clear()


class SimulatedDisk(Disk):
    """What one process sees of the medium, and does to it."""

    def __init__(
        self, storage: Storage, touch: Callable[[str, Path], float] = lambda action, path: 1.0
    ) -> None:
        """`touch` is called before each operation that changes anything, with its name and path.

        It may raise; where it returns less than 1, only that part of the data that are to be written reaches the file,
        and `touch` is called again with "torn", to raise then.
        """
        self.shows_locks = True
        """Its locks are seen by the others, as on one host."""
        self._storage = storage
        self._touch = touch

    # permissions, of which it has none

    def new_mode(self, path: Path) -> int:
        """Return 0."""
        return 0

    def set_mode(self, path: Path, mode: int) -> None:
        """Do nothing."""

    # read

    def read(self, path: Path | str, offset: int = 0) -> bytes:
        """Return the file's content from byte `offset` on."""
        return bytes(self._file(path).content[offset:])

    def open(self, path: Path) -> io.BufferedReader:
        """Open a file for reading."""
        return io.BufferedReader(io.BytesIO(self.read(path)))

    def exists(self, path: Path | str) -> bool:
        """Return whether there is a file or folder."""
        text = str(path)
        folder, _, name = text.rpartition("/")
        return name in self._storage.names.get(folder, ()) or text in self._storage.names

    def is_folder(self, path: Path) -> bool:
        """Return whether there is a folder."""
        return str(path) in self._storage.names

    def is_file(self, path: Path) -> bool:
        """Return whether there is a file."""
        return self.exists(path) and not self.is_folder(path)

    def is_link(self, path: Path) -> bool:
        """Return False: there are no links."""
        return False

    def status(self, path: Path | str) -> Status:
        """Return the file's size and time."""
        file = self._file(path)
        return Status(len(file.content), file.mtime_ns)

    def glob(self, folder: Path, pattern: str = "*") -> list[Path]:
        """List the files that match in the folder, or in its folders where the pattern has a slash; sorted."""
        _first, _, rest = pattern.partition("/")
        if rest:
            found = [self.glob(folder / name, rest) for name in self.folders(folder)]
            return sorted(itertools.chain(*found))
        names = self._storage.names.get(str(folder), {})
        return [folder / name for name in sorted(names) if fnmatchcase(name, pattern)]

    def folders(self, path: Path) -> list[str]:
        """List the names of the folders in a folder, sorted."""
        above = f"{path}/"
        inside = (name[len(above) :] for name in self._storage.names if name.startswith(above))
        return sorted(name for name in inside if "/" not in name)

    # write

    def make_folder(self, path: Path) -> None:
        """Make the folder and those above it, where they are missing."""
        if str(path) not in self._storage.names:
            self._touch("folder", path)
            for each in (path, *path.parents):
                self._storage.names.setdefault(str(each), {})

    def write(self, path: Path, data: bytes) -> None:
        """Write a file whole."""
        part = self._about_to_write(path)
        file = self._made(path)
        if file.synced:
            file.whole = True
        file.content[:] = data[: int(part * len(data))]
        if part < 1:
            self._touch("torn", path)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file's content."""
        self.write(target, self.read(source))

    def append(self, path: Path) -> AppendFile:
        """Open a file for appending, made where it is missing."""
        if not self.exists(path):
            self._touch("create", path)
        return _AppendFile(self, path, self._made(path))

    def fsync(self, path: Path) -> None:
        """Make a file's content, or a folder's names, durable."""
        self._touch("fsync", path)
        names = self._storage.names.get(str(path))
        if names is not None:
            self._storage.durable[str(path)] = dict(names)
        else:
            self.sync(self._file(path))

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file over another, at once."""
        self._touch("rename", target)
        file, names = self._file(source), self._names(target)
        del self._storage.names[str(source.parent)][source.name]
        names[target.name] = file

    def unlink(self, path: Path, *, missing_ok: bool = False) -> None:
        """Remove a file."""
        if missing_ok and not self.exists(path):
            return
        self._touch("unlink", path)
        self._file(path)
        del self._storage.names[str(path.parent)][path.name]

    # lock

    def lock(self, path: Path, note: str = "") -> int:
        """Take the exclusive lock on a file. Raises BlockingIOError where another holds it."""
        self._touch("lock", path)
        handle = next(self._storage.handles)
        if not self.shows_locks:
            return handle
        held = self._storage.locks.get(str(path))
        if held is not None:
            raise BlockingIOError(errno.EAGAIN, self.read(path).decode(errors="replace"))
        file = self._made(path)
        if note:
            file.content[:] = note.encode()
        self._storage.locks[str(path)] = self, handle
        return handle

    def unlock(self, handle: int) -> None:
        """Release a lock that `lock` took."""
        for path, (_, held) in list(self._storage.locks.items()):
            if held == handle:
                del self._storage.locks[path]

    def release_locks(self) -> None:
        """Release all locks of this process: it is gone."""
        for path, (holder, _) in list(self._storage.locks.items()):
            if holder is self:
                del self._storage.locks[path]

    def is_locked(self, path: Path | str) -> bool:
        """Return whether some process holds the lock now."""
        return str(path) in self._storage.locks

    # inside

    def _file(self, path: Path | str) -> _File:
        folder, _, name = str(path).rpartition("/")
        try:
            return self._storage.names[folder][name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)) from None

    def _names(self, path: Path) -> dict[str, _File]:
        try:
            return self._storage.names[str(path.parent)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)) from None

    def _made(self, path: Path) -> _File:
        return self._names(path).setdefault(path.name, _File(self._storage.now()))

    def _about_to_write(self, path: Path) -> float:
        part = self._touch("write", path)
        if self._storage.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return part

    def sync(self, file: _File) -> None:
        """Make a file's content durable."""
        file.synced, file.whole = bytes(file.content), False

    def extend(self, path: Path, file: _File, data: bytes) -> None:
        """Append to an open file; on a full disk half of the data get there."""
        part = self._touch("write", path)
        if self._storage.full:
            file.content += data[: len(data) // 2]
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        file.content += data[: int(part * len(data))]
        file.mtime_ns = int(self._storage.now() * 1e9)
        if part < 1:
            self._touch("torn", path)

    def sync_open(self, path: Path, file: _File) -> None:
        """Make an open file's content durable."""
        self._touch("fsync", path)
        self.sync(file)


class _AppendFile:
    def __init__(self, disk: SimulatedDisk, path: Path, file: _File) -> None:
        self._disk, self._path, self._file = disk, path, file

    def size(self) -> int:
        return len(self._file.content)

    def last_byte(self) -> bytes:
        return bytes(self._file.content[-1:])

    def append(self, data: bytes) -> None:
        self._disk.extend(self._path, self._file, data)

    def truncate(self, size: int) -> None:
        del self._file.content[size:]

    def fsync(self) -> None:
        self._disk.sync_open(self._path, self._file)

    def close(self) -> None:
        pass

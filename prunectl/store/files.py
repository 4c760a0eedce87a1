"""The file operations of a store, all in one object, and files that are replaced so that a crash leaves either the old
content or the new, never a mixture.

`disk` is that object. Nothing else in store/ and scheduler/ calls `os` or `Path` for the store's files, so that a test
can stop the process at each write, and a simulation can keep the whole store in memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import secrets
import shutil
import stat
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from prunectl.store.refusals import cannot_read, cannot_write, is_refusal

# struct flock on 64-bit Linux: short l_type, short l_whence, off_t l_start, off_t l_len, pid_t l_pid (0 for OFD).
_FLOCK = "hhqqi4x"


class Status(NamedTuple):
    """What the disk knows of a file beside its content."""

    size: int
    """Bytes."""
    mtime_ns: int
    """When it was changed last, Unix nanoseconds."""


class AppendFile(Protocol):
    """A file that is only appended to."""

    def size(self) -> int:
        """Return its bytes."""

    def last_byte(self) -> bytes:
        """Return its last byte; nothing where it is empty."""

    def append(self, data: bytes) -> None:
        """Append bytes. Raises OSError where not all could be; some may stand there then."""

    def truncate(self, size: int) -> None:
        """Cut it to so many bytes."""

    def fsync(self) -> None:
        """Wait until its content is on the disk."""

    def close(self) -> None:
        """Close it."""


class Disk:
    """The real disk. Operations raise OSError as the system does."""

    def before(self, action: str, path: Path) -> None:
        """Do nothing; a subclass may stop or fail here.

        Called with "write", "fsync" or "rename" just before each of these. `path` is the file that it is about, also
        where a temporary one is written.
        """

    # read

    def read(self, path: Path | str, offset: int = 0) -> bytes:
        """Return the file's content from byte `offset` on; a path may be a text, which is faster by the thousand."""
        with open(path, "rb") as file:
            if offset:
                file.seek(offset)
            return file.read()

    def open(self, path: Path) -> io.BufferedReader:
        """Open a file for reading."""
        return path.open("rb")

    def open_inside(self, folder: Path, name: str) -> io.BufferedReader:
        """Open a regular file by its path inside a folder, below which no link is followed.

        Raises OSError, with EINVAL for what is no regular file, such as a pipe, which is not waited for.
        """
        *above, last = Path(name).parts
        inside = os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in above:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | inside, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            file = os.open(last, os.O_RDONLY | os.O_NONBLOCK | inside, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(errno.EINVAL, "it is no regular file", name)
        return os.fdopen(file, "rb")

    def exists(self, path: Path | str) -> bool:
        """Return whether there is a file or folder; a path may be a text, which is faster by the thousand.

        Raises OSError where that cannot be told: what may not be looked at is not missing.
        """
        try:
            os.stat(path)
        except (OSError, ValueError) as error:  # a ValueError is a name that no file can have
            if is_refusal(error):
                raise
            return False
        return True

    def is_folder(self, path: Path) -> bool:
        """Return whether there is a folder."""
        return path.is_dir()

    def is_file(self, path: Path) -> bool:
        """Return whether there is a file, and no folder, pipe or device."""
        return path.is_file()

    def is_link(self, path: Path) -> bool:
        """Return whether it is a symbolic link."""
        return path.is_symlink()

    def status(self, path: Path | str) -> Status:
        """Return the file's size and time."""
        found = os.stat(path)
        return Status(found.st_size, found.st_mtime_ns)

    def glob(self, folder: Path, pattern: str = "*") -> list[Path]:
        """List what matches in the folder, sorted; nothing where there is no folder."""
        try:
            os.scandir(folder).close()  # Path.glob passes over a folder that it may not read
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(folder.glob(pattern))

    def folders(self, path: Path) -> list[str]:
        """List the names of the folders in a folder, sorted; none where there is no folder."""
        try:
            with os.scandir(path) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def free(self, path: Path) -> int:
        """Return the bytes that may still be written to the file system of a file or folder."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    # write

    def new_mode(self, path: Path) -> int:
        """Return the permissions of a file made now at the path, where none is: by the umask, or the folder's ACL."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            return stat.S_IMODE(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
            os.unlink(path)

    def mode(self, path: Path) -> int:
        """Return a file's permissions."""
        return stat.S_IMODE(os.stat(path).st_mode)

    def set_mode(self, path: Path, mode: int) -> None:
        """Give a file these permissions."""
        if self.mode(path) != mode:
            os.chmod(path, mode)

    def make_folder(self, path: Path) -> None:
        """Make the folder and those above it, where they are missing; then their names are on the disk."""
        missing = [each for each in (path, *path.parents) if not os.path.exists(each)]
        path.mkdir(parents=True, exist_ok=True)
        for each in reversed(missing):
            self.fsync(each.parent)

    def write(self, path: Path, data: bytes) -> None:
        """Write a file whole; not atomic, see `replacing`."""
        path.write_bytes(data)

    def fill(self, path: Path, content: Iterable[bytes]) -> None:
        """Write a file piece by piece; not atomic, see `replacing`."""
        with path.open("wb") as file:
            for piece in content:
                file.write(piece)

    def remove_tree(self, folder: Path) -> None:
        """Remove a folder with all that is in it, where it is there."""
        shutil.rmtree(folder, ignore_errors=True)

    def remove_empty(self, folder: Path) -> None:
        """Remove a folder where nothing is in it."""
        with contextlib.suppress(OSError):
            folder.rmdir()

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file's content; not atomic, see `replacing`."""
        shutil.copyfile(source, target)

    def append(self, path: Path) -> AppendFile:
        """Open a file for appending, made where it is missing."""
        return _AppendFile(path)

    def fsync(self, path: Path) -> None:
        """Wait until a file's content, or a folder's names, are on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file over another, at once."""
        os.replace(source, target)

    def unlink(self, path: Path, *, missing_ok: bool = False) -> None:
        """Remove a file."""
        path.unlink(missing_ok=missing_ok)

    # lock

    def lock(self, path: Path, note: str = "") -> int:
        """Take the exclusive lock on a file, made where it is missing, and write `note` into it. Returns a handle.

        Raises BlockingIOError, with what the holder wrote, where another holds it.
        """
        descriptor = _open_lock(path)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock())
        except OSError as error:
            held_by = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise BlockingIOError(error.errno, held_by) from error
        if note:
            with contextlib.suppress(OSError):  # the lock is held all the same
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, note.encode(), 0)
        return descriptor

    def unlock(self, handle: int) -> None:
        """Release a lock that `lock` took; the file stays."""
        os.close(handle)

    def is_locked(self, path: Path | str) -> bool:
        """Return whether some process holds the lock now, without taking it."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:  # a ValueError is a name that no file can have
            if is_refusal(error):
                raise
            return False
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock())
            return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
        finally:
            os.close(descriptor)


class _AppendFile:
    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o666)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def last_byte(self) -> bytes:
        size = self.size()
        return os.pread(self._descriptor, 1, size - 1) if size else b""

    def append(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def fsync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _flock() -> bytes:
    return struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def _open_lock(path: Path) -> int:
    """Open for writing, created if missing.

    An existing file is opened without O_CREAT, which Linux refuses for other users' files in sticky folders
    (fs.protected_regular), and never through a link: the note is written to it.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, 0o666)


disk: Disk = Disk()
"""The disk of every store of this process. Ask for `files.disk` at each use: `use` replaces it."""


def use(other: Disk) -> Disk:
    """Let all stores of this process live on another disk. Returns the one before."""
    global disk
    before, disk = disk, other
    return before


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; fsync it and rename it over `path` at the end.

    Raises StoreError where the folder cannot be written, DiskError where the disk is full; nothing is left behind
    then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        disk.make_folder(path.parent)
        disk.before("write", path)
        mode = disk.new_mode(temporary)
        yield temporary
        disk.set_mode(temporary, mode)  # safetensors makes files that no other user may read
        disk.before("fsync", path)
        disk.fsync(temporary)
        disk.before("rename", path)
        disk.rename(temporary, path)
        disk.before("fsync", path.parent)
        disk.fsync(path.parent)  # the rename is durable only with its folder
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            disk.unlink(temporary, missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """List temporary files of `replacing` in the folder: left by a killed process, or being written by a living one."""
    return disk.glob(folder, ".*.tmp")


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, inside `replacing`. Raises StoreError where the source cannot be read."""
    try:
        disk.open(source).close()
    except OSError as error:
        raise cannot_read(source, error) from error
    disk.copy(source, target)


def write_text(path: Path, text: str) -> None:
    """Replace the file's content atomically."""
    with replacing(path) as temporary:
        disk.write(temporary, text.encode())


def set_aside(path: Path, now: float | None = None) -> Path:
    """Rename a file that cannot be trusted, so that it is made again and can still be examined.

    Returns its new path, which ends with Unix time `now`. Raises StoreError where it cannot be renamed.
    """
    stamp = int((time.time() if now is None else now) * 1e9)
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    try:
        disk.rename(path, aside)
    except OSError as error:
        raise cannot_write(path, error) from error
    return aside


def set_asides(folder: Path) -> list[Path]:
    """List the files in the folder that `set_aside` renamed, here or in an older version."""
    return [*disk.glob(folder, "*.corrupt-*"), *disk.glob(folder, "*.damaged-*")]

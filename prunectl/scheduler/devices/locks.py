"""Locks of devices, shared by all schedulers and users of a host: one lock file per device UUID.

The folder is world-writable and sticky, like /tmp: anybody can take a free lock, nobody can delete another's file.
The lock is the kernel's, on the file, so it ends with its scheduler, however that ends. The CPU is not locked: the
kernel shares cores fairly, which it cannot do with a device's memory.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from prunectl.errors import StoreBusy, StoreError
from prunectl.scheduler.devices.base import Device
from prunectl.store.locks import Lock, is_held, process_name

FOLDER = Path("/tmp/prunectl-leases")
"""The same for every user, whatever TMPDIR says; PRUNECTL_LEASES overrides it."""


def lock_folder() -> Path:
    """Return the folder of the lock files."""
    return Path(os.environ.get("PRUNECTL_LEASES") or FOLDER)


def holder(uuid: str) -> str | None:
    """Return what the scheduler that holds the device's lock says of itself; None where the device is free."""
    path = lock_folder() / f"{uuid}.lock"
    if not is_held(path):
        return None
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "a scheduler"
    except OSError:
        return "a scheduler"


class DeviceLocks:
    """The device locks that this scheduler holds."""

    def __init__(self, folder: Path | None = None, *, note: str = "") -> None:
        """`note` is what another scheduler is told of the holder."""
        self._folder = folder or lock_folder()
        self._note = note or f"{process_name()} on {socket.gethostname()}"
        self._locks: dict[str, Lock] = {}

    def acquire(self, device: Device) -> str | None:
        """Lock the device. Returns None, or who holds it; devices without a UUID are free to all.

        Raises:
            StoreError: where the folder or the file cannot be used.
        """
        if device.uuid is None or device.uuid in self._locks:
            return None
        lock = Lock(self._folder / f"{device.uuid}.lock")
        self._create(lock.path)
        try:
            lock.acquire(self._note)
        except StoreBusy as error:
            return str(error)
        self._locks[device.uuid] = lock
        return None

    def _create(self, path: Path) -> None:
        try:
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir(mode=0o1777)
                self._folder.chmod(0o1777)  # mkdir's mode is cut by the umask
            if not stat.S_ISDIR(self._folder.lstat().st_mode):
                raise StoreError(f"{self._folder} is not a folder")
            with contextlib.suppress(FileExistsError):
                # Writable for all: the next user of the host locks the same file.
                descriptor = os.open(
                    path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666
                )
                os.fchmod(descriptor, 0o666)
                os.close(descriptor)
        except OSError as error:
            raise StoreError(f"cannot lease in {self._folder}: {error.strerror}") from error

    def refresh(self) -> None:
        """Touch the files, which keeps cleaners of /tmp away; lock a device again whose file was removed."""
        for uuid, lock in list(self._locks.items()):
            try:
                os.utime(lock.path)
            except FileNotFoundError:
                lock.release()
                with contextlib.suppress(StoreError):
                    self._create(lock.path)
                    lock.acquire(self._note)
                if not lock.held:
                    del self._locks[uuid]
            except OSError:
                continue

    def release(self, device: Device) -> None:
        """Release the device's lock, if it is held."""
        if (lock := self._locks.pop(device.uuid or "", None)) is not None:
            lock.release()

    def release_all(self) -> None:
        """Release all locks."""
        for lock in self._locks.values():
            lock.release()
        self._locks.clear()

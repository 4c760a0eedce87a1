"""Whether a folder can hold a store: room, files that are replaced whole, and locks that other processes respect.

All of it is tried for real: network file systems promise locks and do not keep them. `python -m prunectl.store.doctor
FOLDER` prints a list of findings; it is a process of its own because a lost network disk hangs whoever touches it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from prunectl.child import Asked, NoAnswer, module_command
from prunectl.errors import StoreBusy, StoreError
from prunectl.findings import Finding, ok
from prunectl.store import files
from prunectl.store.files import write_text
from prunectl.store.locks import Lock
from prunectl.text import size

COMMAND = module_command("prunectl.store.doctor")
LOCK_SECONDS = 20.0
"""For another process to be refused a lock; a lock daemon that is gone makes it wait for ever."""
SHARED_MEMORY = Path("/dev/shm")
LITTLE_SPACE, NO_SPACE = 10 << 30, 1 << 30
"""Bytes: checkpoints of one plan of the papers take up to some 10 GB; below 1 GB hardly a study ends."""
LITTLE_SHARED = 1 << 30
"""Bytes: what 24 processes that read images want, at five chunks of 4 MiB each, twice over."""
TAKEN, REFUSED = "taken", "refused"


def ask(folder: Path, seconds: float) -> Asked:
    """Ask for the findings about a store's folder, without waiting for them."""
    return Asked([*COMMAND, str(folder)], seconds)


def findings(folder: Path) -> Iterator[Finding]:
    """Try a store's folder, or the nearest one above that exists."""
    if files.disk.exists(folder) and not files.disk.is_folder(folder):
        yield Finding("store", "error", f"{folder} is not a folder", "name another with --store")
        return
    place = next(each for each in (folder, *folder.parents) if files.disk.is_folder(each))
    where = str(place) if place == folder else f"{place} ({folder} does not exist yet)"
    yield _space(place, where)
    yield _replaced(place)
    yield _locked(place)
    yield _shared_memory()


def _space(place: Path, where: str) -> Finding:
    free = files.disk.free(place)
    found = f"{size(free)} free in {where}"
    if free >= LITTLE_SPACE:
        return ok("disk", found)
    advice = (
        "free some (`prunectl store gc` removes checkpoints that nothing needs), or use --store"
    )
    return Finding("disk", "error" if free < NO_SPACE else "warning", found, advice)


def _trial_file(place: Path, name: str) -> Path:
    return place / f".prunectl-doctor-{os.getpid()}-{name}"


def _replaced(place: Path) -> Finding:
    """Replace a file's content twice, and read it."""
    path = _trial_file(place, "file")
    try:
        for text in ("one", "two"):
            write_text(path, text)
        read = files.disk.read(path).decode()
    except (OSError, StoreError) as error:
        return Finding(
            "files", "error", str(error), "choose a folder that can be written (--store)"
        )
    finally:
        with contextlib.suppress(OSError):
            files.disk.unlink(path, missing_ok=True)
    if read != "two":
        advice = "choose another file system: results would be lost on this one"
        return Finding("files", "error", f"replaced by {read!r} instead of 'two'", advice)
    return ok("files", "written, synced and renamed over each other")


def _locked(place: Path) -> Finding:
    """Take a lock, and let another process try it meanwhile and afterwards."""
    lock = Lock(_trial_file(place, "lock"))
    try:
        with lock:
            refused = _tried_elsewhere(lock.path)
        taken = _tried_elsewhere(lock.path)
    except (StoreError, NoAnswer) as error:
        return Finding("locks", "error", str(error), _OTHER_DISK)
    finally:
        with contextlib.suppress(OSError):
            files.disk.unlink(lock.path, missing_ok=True)
    if (refused, taken) == (REFUSED, TAKEN):
        return ok("locks", "one process's lock is refused to another, until it is released")
    found = f"while one process held a lock, another's was {refused}; afterwards it was {taken}"
    return Finding("locks", "error", found, _OTHER_DISK)


_OTHER_DISK = (
    "choose a store on a local disk: two schedulers on this one would not know of each other"
)


def _tried_elsewhere(path: Path) -> str:
    return Asked([*COMMAND, "--lock", str(path)], LOCK_SECONDS).answer().decode().strip()


def _try_lock(path: Path) -> str:
    """Try a lock that another process may hold."""
    try:
        with Lock(path):
            return TAKEN
    except StoreBusy:
        return REFUSED


def _shared_memory() -> Finding:
    try:
        free = files.disk.free(SHARED_MEMORY)
    except OSError as error:
        return Finding("/dev/shm", "warning", f"missing: {error.strerror}", _MORE_SHARED)
    found = f"{size(free)} free"
    if free >= LITTLE_SHARED:
        return ok("/dev/shm", found)
    return Finding("/dev/shm", "warning", found, _MORE_SHARED)


_MORE_SHARED = (
    "processes that read image files pass them through it: give it 1 GB (docker: --shm-size=1g), or set "
    "PRUNECTL_LOADERS=0"
)


def main(arguments: list[str]) -> None:
    """Print the findings about a folder; with --lock, how a lock was tried."""
    if arguments[0] == "--lock":
        print(_try_lock(Path(arguments[1])))
    else:
        print(msgspec.json.encode(list(findings(Path(arguments[0])))).decode())


if __name__ == "__main__":
    main(sys.argv[1:])

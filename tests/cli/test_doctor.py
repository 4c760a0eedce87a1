"""`doctor` on this machine, and on folders that cannot hold a store."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunectl.findings import Finding
from prunectl.store import doctor as disk
from prunectl.store.files import Disk, use
from tests.cli.conftest import prunectl


def test_a_machine_is_looked_at(tmp_path: Path) -> None:
    """Whatever this machine has: the disk can hold a store, torch can be asked, and nothing is left behind."""
    done = prunectl("doctor", "--json", "--store", tmp_path / "store")
    found = {each["about"]: each for each in json.loads(done.stdout)["findings"]}
    assert {"driver", "NVML", "torch", "cores", "threads", "disk", "/dev/shm"} <= found.keys()
    for about in ("files", "locks"):
        assert found[about]["health"] == "ok", found[about]
    errors = [each for each in found.values() if each["health"] == "error"]
    assert done.returncode == (1 if errors else 0)
    assert not list(tmp_path.iterdir())


def test_people_read_the_same(tmp_path: Path) -> None:
    done = prunectl("doctor", "--store", tmp_path)
    assert "one process's lock is refused to another" in done.stdout
    assert "errors, " in done.stdout or "error, " in done.stdout


@pytest.fixture
def other_disk() -> Any:
    """Puts another disk in place of the real one for this process."""
    before = use(Disk())
    yield use
    use(before)


def by_name(folder: Path) -> dict[str, Finding]:
    return {each.about: each for each in disk.findings(folder)}


def test_a_file_system_that_forgets_locks_is_an_error(
    tmp_path: Path, other_disk: Callable[[Disk], Disk]
) -> None:
    class Forgetful(Disk):
        def lock(self, path: Path, note: str = "") -> int:
            handle = super().lock(path, note)
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _unlocked())
            return handle

    other_disk(Forgetful())
    locks = by_name(tmp_path)["locks"]
    assert locks.health == "error"
    assert "another's was taken" in locks.found
    assert locks.advice
    assert not list(tmp_path.iterdir())


def _unlocked() -> bytes:
    import os
    import struct

    return struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)


def test_a_file_system_that_does_not_rename_is_an_error(
    tmp_path: Path, other_disk: Callable[[Disk], Disk]
) -> None:
    class Stubborn(Disk):
        def rename(self, source: Path, target: Path) -> None:
            raise OSError(22, "Invalid argument")

    other_disk(Stubborn())
    assert by_name(tmp_path)["files"].health == "error"


@pytest.mark.parametrize(
    ("free", "expected"), [(100 << 30, "ok"), (5 << 30, "warning"), (1 << 29, "error")]
)
def test_space(
    tmp_path: Path, other_disk: Callable[[Disk], Disk], free: int, expected: str
) -> None:
    class Full(Disk):
        def free(self, path: Path) -> int:
            return free

    other_disk(Full())
    found = by_name(tmp_path / "not" / "there")
    assert found["disk"].health == expected
    assert f"{tmp_path} ({tmp_path}/not/there does not exist yet)" in found["disk"].found
    assert found["/dev/shm"].health == ("ok" if free > 1 << 30 else "warning")


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = prunectl("doctor", "--json", "--store", tmp_path / "file")
    assert done.returncode == 1
    assert "is not a folder" in done.stdout

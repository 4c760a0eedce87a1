"""A disk that fills at any write, or may not be written: the command says so in one line, and goes on with room.

In full (`python -m tests.full disk`) with 48 sizes of the disk and 24 numbers of inodes, of which three are enough.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record
from prunectl.store.records.result import Result
from prunectl.store.verify import verify
from tests.cli.conftest import TINY, prunectl
from tests.full import full
from tests.support.records import as_dict

BYTES = range(300_000, 5_100_000, 100_000) if full() else (2_300_000,)
"""Of the whole disk; a finished store takes 5.3 MB."""
INODES = range(6, 78, 3) if full() else (30,)
ENOUGH = ("nr_inodes=69", "nr_inodes=72", "nr_inodes=75")
"""Some of them: a finished store has 66 files and folders."""
MINE = ("device", "started", "ended", "seconds", "peak_memory", "attempt", "time", "seq")
MINE += ("lines_before", "digest_before")
"""Fields of a result that say how it came about."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def run(plan: Path, store: Path, *changes: str) -> subprocess.CompletedProcess[str]:
    fixed = ("--store", store, "--plain", "--devices", "cpu", "--set", "seeds=[0]")
    return prunectl("run", plan, *fixed, *(word for each in changes for word in ("--set", each)))


def results(store: Path) -> dict[str, dict[str, Any]]:
    """What each stage came to."""
    found = {}
    for path in StorePaths(store).stages.glob("*/result.json"):
        fields = as_dict(read_record(path, Result))
        found[path.parent.name] = {k: v for k, v in fields.items() if k not in MINE}
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The results where there is room."""
    folder = tmp_path_factory.mktemp("roomy")
    plan = folder / "tiny.toml"
    plan.write_text(TINY)
    assert run(plan, folder / "store").returncode == 0
    return results(folder / "store")


@pytest.mark.parametrize(
    "limit", [*(f"size={n}" for n in BYTES), *(f"nr_inodes={n}" for n in INODES)]
)
def test_a_disk_that_fills_stops_the_run_and_with_room_it_goes_on_to_equal_numbers(
    plan: Path, disk: Path, expected: dict[str, dict[str, Any]], limit: str
) -> None:
    store = disk / "store"
    remount(disk, limit)
    done = run(plan, store)
    # Where there was room for all but the database, which is made again at any time, all is done and it is only told.
    begin = "error: " if done.returncode else "the answer may be behind: "
    assert done.returncode == 3 or results(store) == expected, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith(begin)]
    if errors or limit not in ENOUGH:
        assert len(errors) == 1, done.stderr
        assert "No space left" in errors[0]
        assert "store gc" in errors[0]
    else:
        assert (store / "results.duckdb").exists()
    assert not list(store.glob("*.tmp*")) + list(store.glob(".*.tmp*"))
    kept = {path: path.read_bytes() for path in store.glob("stages/*/result.json")}
    remount(disk, "size=32m,nr_inodes=10000")
    done = run(plan, store)
    assert done.returncode == 0, done.stderr
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert results(store) == expected
    assert not verify(StorePaths(store)).problems


def test_a_store_that_cannot_be_written_can_be_read(plan: Path, disk: Path) -> None:
    store = disk / "store"
    assert run(plan, store, 'grid.strategy=["fine-tune"]').returncode == 0
    remount(disk, "ro")
    done = run(plan, store)
    assert done.returncode == 3
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
    for command in (("status",), ("rank",), ("sql", "SELECT count(*) FROM iterations")):
        done = prunectl(*command, "--store", store)
        assert done.returncode == 0, done.stderr

"""The disk in memory does what the real one does; and what a power cut may take, and what not."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from prunectl.store import files
from prunectl.store.files import Disk, replacing
from prunectl.store.simulated_files import SimulatedDisk, Storage

NAMES = ["a.json", "b.json", "rewind-3.safetensors", ".a.json.1.tmp", "lock"]
FOLDERS = ["", "stages", "stages/k1", "stages/k2"]
place = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES))
content = st.binary(max_size=6)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("make_folder"), st.sampled_from(FOLDERS)),
        st.tuples(st.sampled_from(["write", "append"]), place, content),
        st.tuples(st.sampled_from(["rename", "copy"]), place, place),
        st.tuples(st.sampled_from(["unlink", "unlink_missing", "read", "size", "exists"]), place),
        st.tuples(st.just("truncate"), place, st.integers(0, 4)),
        st.tuples(
            st.sampled_from(["lock", "unlock", "is_locked"]),
            st.tuples(st.sampled_from(FOLDERS), st.just("lock")),
        ),
        st.tuples(st.just("fsync"), place),
        st.tuples(
            st.just("glob"), st.sampled_from(FOLDERS), st.sampled_from(["*.json", "*/*.json", "rewind-*"])
        ),
        st.tuples(st.just("folders"), st.sampled_from(FOLDERS)),
    ),
    max_size=40,
)  # fmt: skip


class Run:
    """Operations on one disk, each with what came of it."""

    def __init__(self, disk: Disk, root: Path) -> None:
        self.disk, self.root = disk, root
        self.handles: dict[Path, int] = {}
        disk.make_folder(root)

    def path(self, where: tuple[str, str] | str) -> Path:
        return self.root / (where if isinstance(where, str) else "/".join(filter(None, where)))

    def do(self, operation: tuple[Any, ...]) -> Any:
        name, where, *rest = operation
        path = self.path(where)
        try:
            return self._do(name, path, *rest)
        except OSError as error:
            return type(error)

    def _do(self, name: str, path: Path, *rest: Any) -> Any:
        disk = self.disk
        match name:
            case "append":
                file = disk.append(path)
                file.append(rest[0])
                found = file.size(), file.last_byte()
                file.close()
                return found
            case "truncate":
                file = disk.append(path)
                size = min(rest[0], file.size())
                file.truncate(size)
                file.close()
                return size
            case "rename" | "copy":
                if path != self.path(rest[0]):
                    getattr(disk, name)(path, self.path(rest[0]))
                return None
            case "unlink_missing":
                return disk.unlink(path, missing_ok=True)
            case "size":
                return disk.status(path).size
            case "read":
                with disk.open(path) as opened:
                    return disk.read(path), disk.read(path, 2), opened.read()
            case "exists":
                return disk.exists(path), disk.exists(str(path)), disk.is_folder(path)
            case "lock":
                self.handles[path] = disk.lock(path, "me")
                return None
            case "unlock":
                return disk.unlock(self.handles.pop(path)) if path in self.handles else None
            case "glob":
                return [found.relative_to(self.root) for found in disk.glob(path, rest[0])]
            case _:
                return getattr(disk, name)(path, *rest)


@settings(max_examples=300, deadline=None)
@given(operations)
def test_it_does_what_the_real_disk_does(todo: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        real = Run(Disk(), Path(folder) / "store")
        simulated = Run(SimulatedDisk(Storage(lambda: 1.0)), Path("/store"))
        for operation in todo:
            # A lock's file may not go: the kernel then locks another file of that name.
            if operation[0] in ("unlink", "unlink_missing", "rename", "copy", "write") and any(
                "lock" in part for part in operation[1:] if isinstance(part, tuple)
            ):
                continue
            assert real.do(operation) == simulated.do(operation), operation
        for handle in real.handles.values():
            real.disk.unlock(handle)


def cut(disk: SimulatedDisk, storage: Storage, seed: int) -> None:
    storage.power_cut(random.Random(seed))


@pytest.fixture
def storage() -> Storage:
    return Storage(lambda: 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_replaced_survives_whole(storage: Storage, seed: int) -> None:
    """`replacing` is old or new after a power cut at any moment, and new once it has returned."""
    path, left = Path("/store/plan.json"), [99]

    class Cut(Exception):
        pass

    def touch(action: str, where: Path) -> float:
        left[0] -= 1
        if left[0] == 0:
            raise Cut
        return 1.0

    disk = SimulatedDisk(storage, touch)
    before = files.use(disk)
    try:
        with replacing(path) as temporary:
            disk.write(temporary, b"the old content")
        left[0] = seed + 1
        returned = False
        try:
            with replacing(path) as temporary:
                disk.write(temporary, b"the new and longer content")
            returned = True
        except Cut:
            left[0] = 99
        storage.power_cut(random.Random(seed))
        found = disk.read(path)
        assert found in (
            (b"the new and longer content",)
            if returned
            else (b"the old content", b"the new and longer content")
        )
    finally:
        files.use(before)


def test_of_what_was_appended_a_synced_part_stays(storage: Storage) -> None:
    lengths = set()
    for seed in range(40):
        fresh = Storage(lambda: 1.0)
        disk = SimulatedDisk(fresh)
        disk.make_folder(Path("/store"))
        file = disk.append(Path("/store/log"))
        file.append(b"synced ")
        file.fsync()
        disk.fsync(Path("/store"))
        file.append(b"not synced")
        fresh.power_cut(random.Random(seed))
        found = disk.read(Path("/store/log"))
        assert b"synced not synced".startswith(found)
        assert found.startswith(b"synced ")
        lengths.add(len(found))
    assert len(lengths) > 3, "cut anywhere"


def test_a_name_that_was_not_synced_may_be_gone() -> None:
    found = set()
    for seed in range(20):
        storage = Storage(lambda: 1.0)
        disk = SimulatedDisk(storage)
        disk.make_folder(Path("/store"))
        file = disk.append(Path("/store/log"))
        file.append(b"x")
        file.fsync()
        storage.power_cut(random.Random(seed))
        found.add(disk.exists(Path("/store/log")))
    assert found == {True, False}


def test_a_full_disk_takes_half_a_line(storage: Storage) -> None:
    disk = SimulatedDisk(storage)
    disk.make_folder(Path("/store"))
    file = disk.append(Path("/store/log"))
    storage.full = True
    with pytest.raises(OSError, match="No space left"):
        file.append(b"0123456789")
    assert disk.read(Path("/store/log")) == b"01234"
    with pytest.raises(OSError, match="No space left"):
        disk.write(Path("/store/other"), b"x")

"""What the system refuses to read or write is reported as that: it is no damage, and nothing is set aside for it."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prunectl.errors import DiskError
from prunectl.spec.key import Spec
from prunectl.store import files, requests
from prunectl.store.files import Disk
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record
from prunectl.store.records.events import read_events
from prunectl.store.records.journal import last_attempt
from prunectl.store.records.plan import write_study
from prunectl.store.records.requests import Hold
from prunectl.store.refusals import REMEDIES
from prunectl.store.tensors import read_checked
from prunectl.store.verify import verify
from prunectl.worker.checkpoint import load_masks, load_state

Make = Callable[..., Any]


class Refusing(Disk):
    """The real disk, but for files with a word in their name, which it refuses to open."""

    def __init__(self, number: int, word: str) -> None:
        self.number, self.word = number, word

    def _look(self, path: Path | str) -> None:
        if self.word in str(path):
            raise OSError(self.number, os.strerror(self.number), str(path))

    def read(self, path: Path, offset: int = 0) -> bytes:
        self._look(path)
        return super().read(path, offset)

    def open(self, path: Path) -> io.BufferedReader:
        self._look(path)
        return super().open(path)


@pytest.fixture
def refuse() -> Iterator[Callable[[int, str], None]]:
    """Lets this process's stores live on a disk that refuses; the real one comes back at the end."""
    before = files.disk
    yield lambda number, word: files.use(Refusing(number, word)) and None
    files.use(before)


@pytest.fixture
def lab(laboratory: Make) -> Any:
    """A dense stage and one that is pruned from it, with their plan."""
    made = laboratory('grid.strategy=["fine-tune"]')
    write_study(made.paths, made.plan.study())
    for key in made.path("fine-tune")[:2]:
        made.run(key)
    return made


def names(paths: StorePaths) -> set[str]:
    return {str(path.relative_to(paths.root)) for path in paths.root.rglob("*")}


@pytest.mark.parametrize("number", REMEDIES, ids=errno.errorcode.get)
def test_each_reader_says_what_is_refused_and_what_to_do(
    lab: Any, refuse: Callable[[int, str], None], number: int
) -> None:
    stage = lab.paths.stage(lab.path("fine-tune")[1])
    before = names(lab.paths)
    refuse(number, stage.key)
    for read, path in (
        (load_state, stage.final),
        (load_masks, stage.mask),
        (read_checked, stage.final),
        (read_events, stage.events),
        (last_attempt, stage.events),
        (lambda path: read_record(path, Spec), stage.spec),
    ):
        with pytest.raises(DiskError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert os.strerror(number) in str(caught.value)
        assert REMEDIES[number] in str(caught.value)
    assert names(lab.paths) == before


@pytest.mark.parametrize("word", ["final", "mask"])
def test_a_stage_whose_parent_cannot_be_read_fails_for_the_disk_and_sets_nothing_aside(
    lab: Any, refuse: Callable[[int, str], None], word: str
) -> None:
    parent, key = lab.path("fine-tune")[1:3]
    before = names(lab.paths)
    refuse(errno.EACCES, f"{parent}/{word}")
    with pytest.raises(DiskError, match="Permission denied"):
        lab.run(key)
    assert [record["reason"] for record in lab.events(key, "failed")] == ["disk"]
    assert before <= names(lab.paths)
    files.use(Disk())
    assert lab.run(key)["kept"] > 0


def test_a_request_that_may_not_be_read_is_named_and_stays(
    tmp_path: Path, refuse: Callable[[int, str], None]
) -> None:
    paths, told = StorePaths(tmp_path), []
    name = requests.send(paths, Hold(trials=("a",)))
    (paths.requests / "none.json").write_text("{")
    refuse(errno.EMFILE, name)
    assert requests.pending(paths, told.append) == []
    assert [text.split()[0] for text in told] == ["none.json"]
    [sentence] = requests.unreadable(paths)
    assert "Too many open files" in sentence
    files.use(Disk())
    assert [each.id for each in requests.pending(paths)] == [name]


def test_verify_names_each_file_once_and_goes_on(
    lab: Any, refuse: Callable[[int, str], None]
) -> None:
    stage = lab.paths.stage(lab.path("fine-tune")[1])
    for name in ("final.safetensors", "mask.safetensors", "events.jsonl", "result.json"):
        refuse(errno.EACCES, f"{stage.key}/{name}")
        found = verify(lab.paths)
        named = [problem for problem in found.problems if name in problem]
        assert len(named) == 1, found.problems
        assert "Permission denied" in named[0]


def test_what_may_not_be_looked_at_is_not_missing(tmp_path: Path) -> None:
    """Only a process without root's powers is refused: see tests/cli/test_store_of_a_group.py."""
    disk = Disk()
    (tmp_path / "file").write_text("")
    assert disk.exists(tmp_path / "file")
    for name in ("none", "file/inside", "a" * 300, "\0"):
        assert not disk.exists(tmp_path / name)
    assert disk.glob(tmp_path / "none") == []
    assert disk.glob(tmp_path / "file") == []


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_all_files_of_a_store_have_the_permissions_that_the_umask_leaves(
    laboratory: Make, mask: int
) -> None:
    before = os.umask(mask)
    try:
        lab = laboratory('grid.strategy=["fine-tune"]')
        write_study(lab.paths, lab.plan.study())
        for key in lab.path("fine-tune")[:2]:
            lab.run(key)
        verify(lab.paths)  # makes the database
    finally:
        os.umask(before)
    modes = {
        path.name: oct(path.stat().st_mode & 0o777)
        for path in lab.paths.root.rglob("*")
        if path.is_file()
    }
    assert {"final.safetensors", "mask.safetensors", "result.json", "results.duckdb"} <= set(modes)
    assert set(modes.values()) == {oct(0o666 & ~mask)}

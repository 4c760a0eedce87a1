"""Digests of files: what is remembered is what the files hold now, and a memory that fails costs time alone."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunectl.errors import DataError
from prunectl.ml.datasets import content
from prunectl.ml.datasets.content import BYTES, GUNZIPPED, Content, digests, reading_all


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Files of a test are younger than what is remembered; the rule itself has a test of its own.
    monkeypatch.setattr(content, "SETTLED_NS", 0)
    return tmp_path / "cache" / "prunectl"


class Counting:
    """A way to read that counts the files that are read."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.content = dataclasses.replace(BYTES, read=self._read)

    def _read(self, path: Path, most: int) -> Iterator[bytes]:
        self.files.append(path)
        return BYTES.read(path, most)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_each_file_is_read_once(tmp_path: Path) -> None:
    files = [write(tmp_path / str(n), b"%d" % n) for n in range(5)]
    counting = Counting()
    for _ in range(3):
        assert digests(files, content=counting.content) == [sha(b"%d" % n) for n in range(5)]
    assert counting.files == files


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    file = write(tmp_path / "a", b"one")
    before = file.stat()
    assert digests([file]) == [sha(b"one")]
    time.sleep(0.02)  # a tick of the file system's clock
    write(file, b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests([file]) == [sha(b"two")]


def test_another_file_under_the_same_name_is_seen(tmp_path: Path) -> None:
    file = write(tmp_path / "a", b"one")
    assert digests([file]) == [sha(b"one")]
    write(tmp_path / "b", b"two").replace(file)
    assert digests([file]) == [sha(b"two")]


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "SETTLED_NS", 60 * 10**9)
    file, counting = write(tmp_path / "a", b"one"), Counting()
    for _ in range(2):
        digests([file], content=counting.content)
    assert counting.files == [file, file]


def test_what_is_remembered_of_one_content_is_not_that_of_another(tmp_path: Path) -> None:
    file = write(tmp_path / "a.gz", gzip.compress(b"inside"))
    assert digests([file]) == [sha(file.read_bytes())]
    assert digests([file], content=GUNZIPPED) == [sha(b"inside")]
    assert digests([file], algorithm="md5") == [hashlib.md5(file.read_bytes()).hexdigest()]


def test_all_are_read_where_that_is_asked(tmp_path: Path) -> None:
    file, counting = write(tmp_path / "a", b"one"), Counting()
    for _ in range(2):
        with reading_all():
            digests([file], content=counting.content)
    assert counting.files == [file, file]


@pytest.mark.parametrize("spoilt", ["a file in the cache's place", "damaged", "no home"])
def test_a_memory_that_cannot_be_used_costs_time_alone(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    cache.parent.mkdir()
    if spoilt == "a file in the cache's place":
        write(cache, b"")
    elif spoilt == "damaged":
        cache.mkdir()
        write(cache / "digests.sqlite", b"no database " * 999)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    file, counting = write(tmp_path / "a", b"one"), Counting()
    for _ in range(2):
        assert digests([file], content=counting.content) == [sha(b"one")]
    assert counting.files == [file, file]


@pytest.mark.parametrize(
    ("data", "how"),
    [(None, BYTES), (b"not gzip", GUNZIPPED), (gzip.compress(b"x" * 999, mtime=0)[:20], GUNZIPPED)],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, data: bytes | None, how: Content
) -> None:
    file = tmp_path / "a.gz"
    if data is not None:
        write(file, data)
    with pytest.raises(DataError, match=str(file)):
        digests([file], content=how)


def test_progress_tells_of_what_is_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "TELL_SECONDS", 0.0)
    files = [write(tmp_path / str(n), bytes(500_000)) for n in range(4)]
    told: list[str] = []
    digests(files, told.append, what="pictures")
    assert told[-1] == "reading pictures: 4 of 4, 2 MB"
    told.clear()
    digests(files, told.append)
    assert told == []

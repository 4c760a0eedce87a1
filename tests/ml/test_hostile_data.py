"""Files of data made to harm: each is named in one line, in seconds and little memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.ml.datasets.inflate import gunzipped
from prunectl.ml.datasets.matlab import read_arrays
from tests.full import full
from tests.support import hostile_files
from tests.support.raw_images import png

SECONDS = 10.0
"""Of processor time; each took less than one."""


def test_bombs_and_false_headers_are_named_in_seconds_and_little_memory(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in hostile_files.FILES]
    for path, (make, _) in zip(paths, hostile_files.FILES.values(), strict=True):
        path.write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_files", *paths],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for path, (said, seconds) in zip(paths, found, strict=True):
        wanted = hostile_files.FILES[path.name][1]
        assert wanted in said, path.name
        assert not wanted or said.startswith(str(path)), said
        assert "\n" not in said
        assert seconds < SECONDS, path.name


def test_gzipped_files_are_read_as_the_standard_library_reads_them(tmp_path: Path) -> None:
    data = hostile_files.GREY.tobytes() * 40_000
    for name, packed in {
        "one": gzip.compress(data),
        "members": b"".join(gzip.compress(data[n : n + 9999]) for n in range(0, len(data), 9999)),
        "padded": gzip.compress(data[:70_000])
        + bytes(512)
        + gzip.compress(data[70_000:])
        + bytes(99),
        "empty": gzip.compress(b""),
    }.items():
        path = tmp_path / name
        path.write_bytes(packed)
        assert b"".join(gunzipped(path, len(data))) == gzip.decompress(packed)
    for cut in (1, 9, 20, 500):
        path.write_bytes(gzip.compress(os.urandom(9000))[:-cut])
        with pytest.raises(EOFError):
            list(gunzipped(path, len(data)))


@given(
    st.integers(1, 4),
    st.sampled_from(["u1", "i1", "i2", "u2", "i4", "f4", "f8"]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_matlab_files_are_read_as_scipy_reads_them(
    count: int, kind: str, packed: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    content = {
        "X": random.integers(0, 100, (2, 3, 3, count)).astype(np.uint8),
        "y": random.integers(1, 11, (count, 1)).astype(kind),
        "something else": np.array([{}], object),
    }
    file = io.BytesIO()
    scipy.io.savemat(file, content, do_compression=packed)
    found = read_arrays(file.getvalue(), {"X", "y"}, 1 << 20)
    wanted = scipy.io.loadmat(file)
    assert set(found) == {"X", "y"}
    for name, array in found.items():
        assert np.array_equal(array, wanted[name])


@given(st.data())
@settings(max_examples=4000 if full() else 300, deadline=None)
def test_a_changed_byte_ends_in_arrays_or_in_one_line(data: st.DataObject) -> None:
    """Of every format: a reader raises nothing else than DataError, whatever byte is another or missing."""
    suffix = data.draw(st.sampled_from(sorted(SOUND)))
    content = bytearray(SOUND[suffix])
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        assert "\n" not in hostile_files.read(path)


SOUND = {
    ".gz": gzip.compress(b"\0\0\x08\3" + struct.pack(">III", 2, 3, 4) + bytes(range(24))),
    ".idx": b"\0\0\x08\1" + struct.pack(">I", 5) + bytes(range(5)),
    ".cifar": hostile_files.pickled_array(b"(K\x01M\x00\x0ct", bytes(range(256)) * 12),
    ".mat": hostile_files.mat(
        hostile_files.element(
            15, zlib.compress(hostile_files.matrix(b"X", (2, 2, 3, 2), bytes(24)))
        ),
        hostile_files.matrix(b"y", (2, 1), b"\1\2"),
    ),
    ".png": png(hostile_files.GREY, "grey", 8),
}
"""A file of each format, by suffix, that its reader takes."""


@pytest.mark.parametrize("suffix", SOUND)
def test_the_sound_files_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(SOUND[suffix])
    assert hostile_files.read(path) == ""

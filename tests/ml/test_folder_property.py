"""Over generated folders: every picture is trained on as a person sees it, or named; never neither.

The suite tries a few; `python -m tests.full folders` thousands.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prunectl.errors import DataError
from prunectl.ml.datasets.image_files import ImageReader, Sample, resize_and_crop
from prunectl.ml.datasets.images import Images, Streamed, load
from prunectl.ml.datasets.listing import Preprocessing
from prunectl.ml.datasets.registry import complete, describe, ensure
from prunectl.spec.settings import DataSettings
from tests.full import full
from tests.support.encodings import ENCODINGS, Encoding, blocks

SIDE = 16
CLASSES = ("ant", "bee")
PLACES = [(split, label) for split in ("train", "test") for label in CLASSES]
GOOD = sorted(name for name, each in ENCODINGS.items() if not each.refused)

LEFT_OUT = {
    "train/ant/.hidden.png": "skipped by rule",
    "test/bee/._0.png": "skipped by rule",
    "train/.git/0.png": "skipped by rule",
    "train/__MACOSX/0.png": "skipped by rule",
    "train/bee/Thumbs.db": "skipped by rule",
    "train/ant/notes.txt": "with the suffix .txt not read",
    "test/ant/clip.gif": "with the suffix .gif not read",
    "train/bee/day/0.png": "deeper than CLASS/",
    "test/bee/a/b/0.jpg": "deeper than CLASS/",
    "train/loose.png": "outside of the folders of classes",
}
"""Empty files, and the words of the note that counts them."""
UNREAD = ("val/", "more/")
"""Folders that are named."""
PROBLEMS = ("train/dodo/", "test/ant/gone.png", "train/bee/loop.png", "train/ant/pipe")
"""A class without pictures, links that lead nowhere and to themselves, a FIFO."""


@dataclass(frozen=True)
class File:
    """A file with the suffix of a picture, in a class."""

    number: int
    place: tuple[str, str]
    encoded: str
    colours: bytes
    """Of four blocks."""
    size: tuple[int, int]

    @property
    def encoding(self) -> Encoding:
        return ENCODINGS[self.encoded]

    @property
    def name(self) -> str:
        return f"{'/'.join(self.place)}/{self.number:02}-{self.encoded}{self.encoding.suffix}"

    def content(self) -> bytes:
        return self.encoding.encode(blocks(list(self.colours), *self.size))

    def is_seen_in(self, found: Tensor) -> bool:
        """Whether an image [3, SIDE, SIDE] is what a person sees of the file."""
        seen = self.encoding.seen(blocks(list(self.colours), *self.size))
        wanted = resize_and_crop(
            torch.from_numpy(seen.copy()).permute(2, 0, 1), Preprocessing((3, SIDE, SIDE))
        )
        return int((found.int() - wanted.int()).abs().max()) <= self.encoding.tolerance


@st.composite
def folders(draw: st.DrawFn) -> tuple[list[File], list[str]]:
    """Files, at least one in order in each class of each split, and what else lies there."""
    colours = st.binary(min_size=12, max_size=12)
    sizes = st.tuples(*[st.sampled_from([16, 32])] * 2)
    any_encoding = st.sampled_from(GOOD) | st.sampled_from(sorted(ENCODINGS))
    wanted = [(place, draw(st.sampled_from(GOOD))) for place in PLACES]
    wanted += draw(st.lists(st.tuples(st.sampled_from(PLACES), any_encoding), max_size=6))
    files = [
        File(number, place, encoded, draw(colours), draw(sizes))
        for number, (place, encoded) in enumerate(wanted)
    ]
    others = st.sampled_from([*LEFT_OUT, *UNREAD, *PROBLEMS])
    return files, draw(st.lists(others, unique=True, max_size=4))


def write(root: Path, files: list[File], others: list[str]) -> None:
    for file in files:
        (root / file.name).parent.mkdir(parents=True, exist_ok=True)
        (root / file.name).write_bytes(file.content())
    for place in others:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if place.endswith("/"):
            path.mkdir()
        elif place.endswith("pipe"):
            os.mkfifo(path)
        elif place in PROBLEMS:
            path.symlink_to(path.name if "loop" in place else "nowhere")
        else:
            path.write_bytes(b"")


@given(folders(), st.sampled_from(["always", "never"]))
@settings(max_examples=4000 if full() else 60, deadline=None)
def test_every_picture_is_trained_on_as_it_is_seen_or_named(
    folder: tuple[list[File], list[str]], held: str
) -> None:
    files, others = folder
    refused = {file.name for file in files if file.encoding.refused}
    problems = set(others) & set(PROBLEMS)
    told: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write(root, files, others)
        options = complete("folder", {"path": place, "size": SIDE, "held": held})
        try:
            fingerprint = describe("folder", options).fingerprint
            ensure("folder", root / ".data", options, fingerprint, told.append)
        except DataError as error:
            text = str(error)
            check_left_out([text], others)
            assert all(place.rstrip("/").rpartition("/")[2] in text for place in problems)
            named = {file.name for file in files if file.name in text}
            assert named == refused if held == "always" else named <= refused
            assert named or problems
            return
        assert not problems
        check_left_out(told, others)
        loaded = load(DataSettings("folder", fingerprint, tuple(sorted(options.items()))))
        assert isinstance(loaded, Images if held == "always" else Streamed)
        for split in ("train", "test"):
            listed = [file for file in files if file.place[0] == split]
            check_images(loaded, split, sorted(listed, key=lambda file: file.name))


def check_left_out(said: list[str], others: list[str]) -> None:
    """What is left out is counted, or named."""
    text = "\n".join(said)
    whats = [LEFT_OUT[place] for place in others if place in LEFT_OUT]
    for what in whats:
        assert re.search(rf"\b{whats.count(what)}\b[^\n]* {re.escape(what)}", text)
    for place in set(others) & set(UNREAD):
        assert re.search(rf"not read: [^\n]*{place}", text)


def check_images(loaded: Images | Streamed, split: str, files: list[File]) -> None:
    """What is trained on is what is seen; what is met only while it is streamed is named."""
    found, targets = getattr(loaded, f"{split}_images"), getattr(loaded, f"{split}_targets")
    assert targets.tolist() == [CLASSES.index(file.place[1]) for file in files]
    assert len(found) == len(files)
    for index, file in enumerate(files):
        image = found[index]
        if isinstance(loaded, Streamed):
            image = ImageReader(found.preprocessing)[Sample(image)]
            if isinstance(image, DataError):
                assert file.encoding.refused
                assert file.name in str(image)
                continue
            image = image.permute(2, 0, 1)
        assert not file.encoding.refused
        assert file.is_seen_in(image), file

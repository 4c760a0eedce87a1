"""A folder of one's own: what of it is read, what is said of the rest, and what its fingerprint covers."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from prunectl.errors import DataError
from prunectl.ml.datasets import content, listing, picture_check
from prunectl.ml.datasets.registry import complete, describe, ensure
from prunectl.spec.settings import DataSettings
from tests.support.encodings import ENCODINGS, blocks
from tests.support.image_maker import write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Classes ant, bee and cat: 2 pictures each to train on, 1 to test."""
    return write_images(tmp_path / "mine", 2, 1)


def picture(path: Path, encoding: str = "png") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ENCODINGS[encoding].encode(blocks(range(12))))
    return path


def refused(folder: Path) -> list[str]:
    """The lines of what is said of a folder that cannot be trained on."""
    with pytest.raises(DataError) as caught:
        describe("folder", {"path": str(folder)})
    return str(caught.value).splitlines()


def notes(folder: Path) -> tuple[str, ...]:
    return describe("folder", {"path": str(folder)}).notes


def look(folder: Path, **options: str) -> list[str]:
    """What a run says of a folder before anything is queued."""
    own = complete("folder", {"path": str(folder), **options})
    told: list[str] = []
    ensure("folder", folder.parent / "data", own, describe("folder", own).fingerprint, told.append)
    return told


# --- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_what_is_tested_on_has_several_names(folder: Path, name: str) -> None:
    (folder / "test").rename(folder / name)
    about = describe("folder", {"path": str(folder)})
    assert (about.classes, about.train, about.test, about.notes) == (3, 6, 3, ())


def test_of_test_and_val_it_is_said_which_is_used(folder: Path) -> None:
    shutil.copytree(folder / "test", folder / "val")
    picture(folder / "val" / "ant" / "more.png")
    about = describe("folder", {"path": str(folder)})
    assert about.test == 3
    assert about.notes == ("trained on train/, tested on test/; not read: val/",)


@pytest.mark.parametrize(
    ("gone", "found", "said"),
    [
        ("test", ["val", "valid"], "val and valid could both be what is tested on"),
        ("test", [], "test/ is not there (found: train; test/ may be called val, valid, validation)"),
        ("train", ["Train"], "train/ is not there (found: Train, test;"),
    ],
)  # fmt: skip
def test_a_split_that_is_missing_or_ambiguous(
    folder: Path, gone: str, found: list[str], said: str
) -> None:
    shutil.rmtree(folder / gone)
    for name in found:
        (folder / name).mkdir()
    (line,) = refused(folder)
    assert said in line


RULE = [".DS_Store", "._0.png", ".hidden.png", "Thumbs.db", "desktop.ini"]


@pytest.mark.parametrize("place", ["train", "train/ant", "test", "test/bee"])
def test_what_systems_leave_is_no_class_and_no_picture(folder: Path, place: str) -> None:
    before = describe("folder", {"path": str(folder)})
    for name in RULE:
        (folder / place / name).write_bytes(b"")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"):
        picture(folder / place / name / "0.png")
    after = describe("folder", {"path": str(folder)})
    assert after.fingerprint == before.fingerprint
    (note,) = after.notes
    assert note == (
        f"9 skipped by rule (hidden, Thumbs.db, __MACOSX and the like), as {place}/.DS_Store"
    )


def test_what_is_left_out_is_counted(folder: Path) -> None:
    for number in range(3):
        (folder / f"train/ant/{number}.gif").write_bytes(b"")
        picture(folder / f"train/bee/day{number}/x/0.png")
    (folder / "train/ant/README").write_text("")
    picture(folder / "train/0.png")
    shutil.rmtree(folder / "test/ant")
    assert notes(folder) == (
        "test has none of 1 of 3 classes: ant",
        "1 file without a suffix not read, as train/ant/README",
        "3 files with the suffix .gif not read, as train/ant/0.gif",
        "3 pictures lie deeper than CLASS/: not read, as train/bee/day0/x/0.png",
        "1 picture lies outside of the folders of classes: not read, as train/0.png",
    )


# --- what is wrong ------------------------------------------------------------------------------


def empty_class(folder: Path) -> str:
    (folder / "train/dodo").mkdir()
    return "class dodo has no pictures in train (nothing to be read in it)"


def empty_in_test(folder: Path) -> str:
    (folder / "test/ant/0.png").unlink()
    return "class ant has no pictures in test (nothing to be read in it)"


def unread_class(folder: Path) -> str:
    for number in range(2):
        (folder / f"train/ant/{number}.png").rename(folder / f"train/ant/{number}.gif")
    return "class ant has no pictures in train (2 files with the suffix .gif are not read)"


def nested_class(folder: Path) -> str:
    (folder / "train/ant/day").mkdir()
    for number in range(2):
        (folder / f"train/ant/{number}.png").rename(folder / f"train/ant/day/{number}.png")
    return "class ant has no pictures in train (2 pictures lie deeper than CLASS/, as train/ant/day/0.png)"


def class_of_test_alone(folder: Path) -> str:
    picture(folder / "test/emu/0.png")
    return "class emu is in test alone: train has none of it"


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "train/ant/pipe.png")
    return "train/ant/pipe.png is a FIFO"


def device(folder: Path) -> str:
    (folder / "train/ant/null.png").symlink_to("/dev/null")
    return "train/ant/null.png is a device"


def unix_socket(folder: Path) -> str:
    here = os.getcwd()
    os.chdir(folder / "train")  # the name of a socket has 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("sock")
    finally:
        os.chdir(here)
    return "train/sock is a socket"


def dangling(folder: Path) -> str:
    (folder / "train/ant/gone.png").symlink_to("nowhere")
    return "train/ant/gone.png is a link that leads nowhere"


def circle(folder: Path) -> str:
    (folder / "train/ant/a.png").symlink_to("a.png")
    return "train/ant/a.png is a link in a circle"


def back(folder: Path) -> str:
    (folder / "train/bee/back").symlink_to("../..")
    return "train/bee/back is a link back to a folder that it is in"


def class_back(folder: Path) -> str:
    (folder / "train/again").symlink_to(".")
    return "train/again is a link back to a folder that it is in"


def back_below(folder: Path) -> str:
    (folder / "train/bee/day").mkdir()
    (folder / "train/bee/day/back").symlink_to(folder / "train")
    return "train/bee/day/back is a link back to a folder that it is in"


def empty_file(folder: Path) -> str:
    (folder / "train/ant/0.png").write_bytes(b"")
    return "train/ant/0.png: the file is empty"


def damaged(folder: Path) -> str:
    picture(folder / "test/bee/more.png", "short-png")
    return "test/bee/more.png: image file is truncated"


def frames(folder: Path) -> str:
    picture(folder / "train/bee/more.png", "png-frames")
    return "train/bee/more.png: 2 frames or pages: which of them is the picture is not known"


STRUCTURE = [
    *(empty_class, empty_in_test, unread_class, nested_class, class_of_test_alone, fifo, device),
    *(unix_socket, dangling, circle, back, class_back, back_below),
]
PICTURES = [empty_file, damaged, frames]


@pytest.mark.parametrize("spoil", STRUCTURE)
def test_what_is_wrong_with_a_folder(folder: Path, spoil: Callable[[Path], str]) -> None:
    said = spoil(folder)
    assert refused(folder) == [f"{folder}: 1 problem", f"  {said}"]


@pytest.mark.parametrize("held", ["always", "never"])
@pytest.mark.parametrize("spoil", PICTURES)
def test_what_is_wrong_with_a_picture(
    folder: Path, spoil: Callable[[Path], str], held: str
) -> None:
    said = spoil(folder)
    describe("folder", {"path": str(folder)})
    if held == "never" and spoil is damaged:  # its header is in order
        assert look(folder, held=held) == []
        return
    with pytest.raises(DataError) as caught:
        look(folder, held=held)
    head, line = str(caught.value).splitlines()
    assert head == f"{folder}: 1 problem"
    assert line.startswith(f"  {said}")


def test_all_that_is_wrong_is_said_at_once(folder: Path) -> None:
    # Those that take each other's files away aside.
    spoilt = [*(s for s in STRUCTURE if s not in (unread_class, nested_class)), *PICTURES]
    wanted = {spoil(folder) for spoil in spoilt}
    picture(folder / "train/bee/day/0.png")
    head, *lines = refused(folder)
    assert head == f"{folder}: {len(wanted)} problems"
    assert len(lines) == len(wanted) + 1
    for said in wanted:
        assert sum(line.startswith(f"  {said}") for line in lines) == 1
    assert "1 picture lies deeper than CLASS/" in lines[-1]


def test_of_very_many_problems_each_reason_is_counted(folder: Path) -> None:
    for number in range(50):
        picture(folder / f"train/ant/e{number:02}.png", "empty")
    picture(folder / "train/ant/f.png", "png-frames")
    with pytest.raises(DataError) as caught:
        look(folder)
    assert str(caught.value).splitlines() == [
        f"{folder}: 2 problems",
        "  50 files: the file is empty: train/ant/e00.png, train/ant/e01.png, train/ant/e02.png, "
        "train/ant/e03.png, train/ant/e04.png, … 45 more",
        "  1 file: 2 frames or pages: which of them is the picture is not known: train/ant/f.png",
    ]
    for number in range(50):
        (folder / f"train/c{number:02}").mkdir()
    lines = refused(folder)
    assert len(lines) == 21
    assert lines[-1] == "  … 33 more"


def test_names_that_are_no_text_are_escaped(folder: Path) -> None:
    (folder / "train" / "x\n\udcff").mkdir()
    (line,) = refused(folder)[1:]
    assert "class x\\n\\udcff has no pictures" in line


# --- looked at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["always", "never"])
def test_pictures_in_order_are_looked_at_once(
    folder: Path, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(folder / "train/ant/clear.png", "png-alpha")
    first = look(folder, held=held)
    assert first == [
        f"note: {folder}: 1 picture with transparency laid over #ffffff (option `background`), "
        "as train/ant/clear.png"
    ]
    looked: list[Path] = []
    real = picture_check.look_at

    def counted(path: Path, decoding: listing.Decoding, *, whole: bool) -> bool:
        looked.append(path)
        assert whole == (held == "always")
        return real(path, decoding, whole=whole)

    monkeypatch.setattr(picture_check, "look_at", counted)
    assert look(folder, held=held) == first
    assert looked == []
    assert "#000000" in look(folder, held=held, background="#000000")[0]
    assert len(looked) == 10
    (folder / "train/ant/clear.png").rename(folder / "train/bee/clear.png")
    assert "train/bee/clear.png" in look(folder, held=held)[0]
    assert len(looked) == 20


def test_a_folder_that_is_not_in_order_is_looked_at_until_it_is(folder: Path) -> None:
    empty_file(folder)
    empty_class(folder)
    for _ in range(2):  # nothing of the pictures is remembered without a fingerprint
        assert len(refused(folder)) == 3
    (folder / "train/dodo").rename(folder / ".dodo")
    for _ in range(2):
        with pytest.raises(DataError, match="1 problem"):
            look(folder)
    picture(folder / "train/ant/0.png")
    assert look(folder) == []


# --- its fingerprint ----------------------------------------------------------------------------


def fingerprint(folder: Path, **options: str) -> str:
    return describe("folder", {"path": str(folder), **options}).fingerprint


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(
    folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    (other / "test").rename(other / "val")
    (other / "train/ant/1.png").rename(other / "train/ant/2.png")
    assert fingerprint(folder) == fingerprint(other, held="never")
    assert fingerprint(folder).startswith(listing.FINGERPRINT)


def relabel(folder: Path) -> None:
    (folder / "train/ant/0.png").rename(folder / "train/bee/00.png")


def rename_class(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split / "ant").rename(folder / split / "zebra")


def rename_class_in_place(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split / "ant").rename(folder / split / "any")


def swap_order(folder: Path) -> None:
    (folder / "train/ant/0.png").rename(folder / "train/ant/9.png")


def move_to_test(folder: Path) -> None:
    # The last picture to train on becomes the first to test: all digests stay in their order.
    shutil.rmtree(folder / "test/ant")
    shutil.rmtree(folder / "test/bee")
    (folder / "train/cat/1.png").rename(folder / "test/cat/-0.png")


def edit(folder: Path) -> None:
    file = folder / "train/bee/1.png"
    about = file.stat()
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [relabel, rename_class, rename_class_in_place, swap_order, move_to_test, edit]
)
def test_the_fingerprint_covers_labels_order_and_every_file(
    folder: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "SETTLED_NS", 0)
    before = fingerprint(folder)
    change(folder)
    assert fingerprint(folder) != before


def test_every_file_of_a_large_folder_counts(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 150, 50)
    before = fingerprint(folder)
    file = folder / "train/bee/77.png"
    file.write_bytes(file.read_bytes() + b"\0")
    assert fingerprint(folder) != before


def test_keys_of_an_older_kind_are_told_from_others() -> None:
    assert listing.has_older_key(DataSettings("folder", "sha256-00"))
    assert listing.has_older_key(DataSettings("folder", "sampled-00"))
    assert not listing.has_older_key(DataSettings("folder", "content-00"))
    assert not listing.has_older_key(DataSettings("mnist", "sha256-00"))


def test_progress_is_told_of_what_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "TELL_SECONDS", 0.0)
    told: list[str] = []
    about = describe("folder", {"path": str(folder)}, told.append)
    assert told[-1].startswith(f"reading the pictures of {folder}: 9 of 9, ")
    told.clear()
    ensure("folder", folder, {"path": str(folder)}, about.fingerprint, told.append)
    assert told[-1].startswith(f"reading pictures of {folder} to find bad ones: 9 of 9, ")

"""Image files become what a person sees in them, or are refused by name; pixels are made first, then encoded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunectl.errors import DataError
from prunectl.ml.datasets.decode import decode, look_at
from prunectl.ml.datasets.listing import AS_SEEN, Decoding
from tests.support import image_maker
from tests.support.encodings import ENCODINGS, blocks, grey_of
from tests.support.raw_images import exif, png, tiff, turned

PIXELS = blocks([[250, 10, 60], [30, 200, 90], [0, 0, 255], [120, 130, 140]], 16, 32)
"""Four colours whose reds differ, of no symmetry."""
SEEN = [name for name, encoding in ENCODINGS.items() if not encoding.refused]
REFUSED = [name for name, encoding in ENCODINGS.items() if encoding.refused]


def write(folder: Path, name: str) -> Path:
    path = folder / f"x{ENCODINGS[name].suffix}"
    path.write_bytes(ENCODINGS[name].encode(PIXELS))
    return path


def apart(found: np.ndarray, wanted: np.ndarray) -> int:
    """The most levels that two pictures differ by."""
    assert found.shape == wanted.shape
    return int(np.abs(found.astype(int) - wanted.astype(int)).max())


@pytest.mark.parametrize("name", SEEN)
def test_a_picture_is_what_a_person_sees(tmp_path: Path, name: str) -> None:
    encoding, path = ENCODINGS[name], write(tmp_path, name)
    wanted = encoding.seen(PIXELS)
    assert apart(decode(path, 3), wanted) <= encoding.tolerance
    # ITU-R 601's luma, as Pillow's documentation gives it.
    luma = np.rint(wanted @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[:, :, None]
    assert apart(decode(path, 1), luma) <= encoding.tolerance + 1
    assert isinstance(look_at(path, AS_SEEN, whole=True), bool)


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_can_see_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    with pytest.raises(DataError) as decoded:
        decode(path, 3)
    assert str(decoded.value).startswith(f"{path}: ")
    with pytest.raises(DataError) as looked:
        look_at(path, AS_SEEN, whole=True)
    assert str(looked.value) == str(decoded.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("empty", "the file is empty"),
        ("text", "no picture"),
        ("postscript-called-png", "BMP, JPEG, PNG, PPM, TIFF, WEBP are"),
        ("tiff-pages", "2 frames or pages"),
        ("tiff-int-32", "range = [black, white]"),
        ("png-16-clear", "transparent colour"),
    ],
)
def test_a_header_is_enough_to_refuse(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(DataError) as caught:
        look_at(write(tmp_path, name), AS_SEEN, whole=False)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("name", "see_through"),
    [("png", False), ("png-alpha", True), ("png-palette-clear", True), ("png-clear", True)],
)
def test_a_header_tells_of_transparency(tmp_path: Path, name: str, see_through: bool) -> None:
    path = write(tmp_path, name)
    assert look_at(path, AS_SEEN, whole=False) is look_at(path, AS_SEEN, whole=True) is see_through


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: No such file"):
        decode(tmp_path / "gone.png", 3)


def test_a_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[2J\udcff.png"
    path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        decode(path, 3)
    assert str(caught.value) == f"{tmp_path}/a\\n\\x1b[2J\\udcff.png: the file is empty"
    assert str(caught.value).isprintable()


# --- what the data set says ---------------------------------------------------------------------


def test_the_background_is_what_the_data_set_says(tmp_path: Path) -> None:
    path = write(tmp_path, "png-alpha-0")
    seen = decode(path, 3, Decoding(background="#0a141e"))
    assert seen[0, 0].tolist() == [10, 20, 30]
    assert seen[0, -1].tolist() == PIXELS[0, -1].tolist()


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32, np.float32])
def test_a_range_says_what_black_and_white_are(tmp_path: Path, kind: type) -> None:
    values = (PIXELS[:, :, 0].astype(int) * 16 - 100 * (kind is not np.uint16)).astype(kind)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(values, bits=values.itemsize * 8))
    low = float(values.min() - 16 * PIXELS[:, :, 0].min())
    seen = decode(path, 3, Decoding(value_range=(low, low + 255 * 16)))
    assert apart(seen, grey_of(PIXELS)) == 0
    with pytest.raises(DataError, match=r"outside of .* range = \[black, white\]"):
        decode(path, 3, Decoding(value_range=(low + 1, low + 255 * 16)))
    with pytest.raises(DataError, match=r"outside of"):
        decode(path, 3, Decoding(value_range=(low, float(values.max()) - 1)))


@pytest.mark.parametrize("name", ["png-16", "tiff-16", "png-alpha-16"])
def test_a_range_is_not_for_colour_of_sixteen_bits(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="16-bit colour"):
        decode(write(tmp_path, name), 3, Decoding(value_range=(0, 4095)))


def test_sixteen_bits_go_to_the_nearest_level(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    path = tmp_path / "x.png"
    path.write_bytes(png(values, "grey", 16))
    exact = values / 65535 * 255
    assert np.abs(decode(path, 1) - exact).max() <= 0.5


def test_photographs_as_they_lie_are_not_turned(tmp_path: Path) -> None:
    for name in ("png-turned-6", "webp-turned-8"):
        path = write(tmp_path, name)
        stored = turned(PIXELS, int(name[-1]))
        assert apart(decode(path, 3, Decoding(upright=False)), stored) == 0
        assert apart(decode(path, 3), PIXELS) == 0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("data", [b"", b"Exif\0\0garbage", exif(6)[:20], exif(9), exif(0)])
def test_damaged_exif_data_turn_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(PIXELS).save(path, quality=95, subsampling=0, exif=data)
    assert apart(decode(path, 3), PIXELS) <= 8


def test_more_pictures_behind_a_jpegs_own_are_passed_over(tmp_path: Path) -> None:
    # Telephones put depth maps and other exposures there (MPO); every viewer shows the first.
    path, other = tmp_path / "x.jpg", Image.fromarray(255 - PIXELS)
    Image.fromarray(PIXELS).save(
        path, "MPO", save_all=True, append_images=[other], quality=95, subsampling=0
    )
    with Image.open(path) as opened:
        assert opened.format == "MPO"
    assert apart(decode(path, 3), PIXELS) <= 8


def test_no_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(DataError, match="no picture"):
        decode(write(tmp_path, "postscript-called-png"), 3)
    assert not (tmp_path / "ran").exists()


def test_pictures_are_read_where_nothing_can_be_imported_any_more(tmp_path: Path) -> None:
    """As another user, or without a file descriptor to spare; Pillow would remember that it could not."""
    kinds = ("png", "jpg", "bmp", "webp", "tif", "ppm")
    paths = [tmp_path / f"x.{kind}" for kind in kinds]
    for path in paths:
        Image.fromarray(PIXELS).save(path)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from prunectl.ml.datasets.decode import decode\n"
        "sys.meta_path.clear()\n"
        "for path in sys.argv[1:]:\n"
        "    print(decode(Path(path), 3).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == [str(PIXELS.shape)] * len(kinds), done.stderr


def test_the_name_on_the_file_does_not_matter(tmp_path: Path) -> None:
    # ImageNet has a PNG called .JPEG.
    path = tmp_path / "a.JPEG"
    path.write_bytes(ENCODINGS["png"].encode(PIXELS))
    assert apart(decode(path, 3), PIXELS) == 0


@pytest.mark.parametrize("damage", ["empty", "short", "gone"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, damage: str) -> None:
    path = image_maker.write_images(tmp_path, 1, 1, "jpg") / "train/ant/0.jpg"
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[:200] if damage == "short" else b"")
    with pytest.raises(DataError, match=r"ant/0\.jpg"):
        decode(path, 3)

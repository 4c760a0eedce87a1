"""What pictures may ask for: headers that promise more than their file can hold, and files that take hours to decode.

Pillow itself refuses pictures of more than 179 megapixels, and text and profiles that unpack to more than 64 MB.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO

from PIL import ExifTags, Image

LARGE_PIXELS = 1 << 24
"""Pictures of more are decoded one at a time: eight of the largest would take 20 GB at once."""
PIXELS_PER_BYTE = 1500
"""The most of a large picture. A photograph has 2 to 50; of one colour a PNG has 350 (grey 1,050), a JPEG 260."""
MOST_FRAMES = 100
"""Counted: a TIFF has no list of its pages, and to find each one Pillow looks through those before."""
MOST_DECODED = 1 << 32
"""Pixels times scans of a JPEG, each of which is decoded into the whole picture: some seconds."""
SCAN_BYTES = 10
"""The least that a scan takes; it begins with `SCAN`, which pixels never hold."""
SCAN = b"\xff\xda"

_ONE_AT_A_TIME = threading.Lock()


def check_bounds(image: Image.Image, file: BinaryIO) -> None:
    """Raise ValueError for a picture whose file cannot hold what its header says, or would take too long to decode."""
    pixels, size = image.width * image.height, os.fstat(file.fileno()).st_size
    if pixels > LARGE_PIXELS and pixels > PIXELS_PER_BYTE * size:
        raise ValueError(
            f"{image.width:,} × {image.height:,} pixels in {size:,} bytes: more than a picture has"
        )
    _check_tiles(image, pixels)
    if image.format in ("JPEG", "MPO") and pixels * size > MOST_DECODED * SCAN_BYTES:
        scans = _content(file).count(SCAN)
        if pixels * scans > MOST_DECODED:
            raise ValueError(f"{scans:,} scans of {pixels:,} pixels: more than a picture has")


def _content(file: BinaryIO) -> bytes:
    """Return all of a file, left at the place where it is: Pillow reads on from there."""
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    return data


def frames(image: Image.Image) -> int:
    """Return how many frames or pages there are, at most `MOST_FRAMES`."""
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    count = 1
    with contextlib.suppress(EOFError):
        while count < MOST_FRAMES:
            image.seek(count)
            count += 1
    image.seek(0)
    return count


@contextlib.contextmanager
def in_turn(image: Image.Image) -> Iterator[None]:
    """Wait until no other large picture is decoded in this process; small ones do not wait."""
    if image.width * image.height <= LARGE_PIXELS:
        yield
    else:
        with _ONE_AT_A_TIME:
            yield


def _check_tiles(image: Image.Image, pixels: int) -> None:
    """Raise ValueError for a TIFF whose tiles are far larger than itself: memory is taken for one as a whole."""
    tags = getattr(image, "tag_v2", {})
    wide, tall = (tags.get(tag, 0) for tag in (ExifTags.Base.TileWidth, ExifTags.Base.TileLength))
    if (
        not isinstance(wide, int)
        or not isinstance(tall, int)
        or wide * tall > pixels + LARGE_PIXELS
    ):
        raise ValueError(f"tiles of {wide} × {tall} pixels: larger than the picture")

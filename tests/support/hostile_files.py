"""Files of data made to harm: small ones that unpack to 10 GB, and headers that promise what no file holds.

As a program it reads some as the data sets do, with little memory: `python -m tests.support.hostile_files FILE...`.
"""

from __future__ import annotations

import gzip
import json
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from prunectl.errors import DataError
from prunectl.ml.datasets import cifar, idx, published, svhn
from prunectl.ml.datasets.decode import look_at
from prunectl.ml.datasets.listing import AS_SEEN
from tests.support.raw_images import png

MEMORY = 2 << 30
"""Bytes of address space that the program has, of which Python and its modules take a quarter."""
PIECE = 1 << 24
TEN_GB = 10 << 30
GREY = np.zeros((4, 4), np.uint8)


def deflated_zeros(count: int) -> bytes:
    """Return a raw deflate stream of so many zeros, a multiple of 16 MB; a thousandth of that, made in no time."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = stream.compress(bytes(PIECE)) + stream.flush(zlib.Z_FULL_FLUSH)
    return piece * (count // PIECE) + b"\x03\x00"


def zlib_zeros(count: int) -> bytes:
    """As `deflated_zeros`, in zlib's format."""
    return b"\x78\xda" + deflated_zeros(count) + bytes(4)


def gzip_bomb() -> bytes:
    """The header of an IDX file that holds 13,000,000 images, and 10 GB of pixels."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    header = b"\0\0\x08\3" + struct.pack(">III", 13_000_000, 28, 28)
    return (
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        + stream.compress(header)
        + stream.flush(zlib.Z_FULL_FLUSH)
        + deflated_zeros(TEN_GB)
        + bytes(8)
    )


def element(kind: int, content: bytes, size: int | None = None) -> bytes:
    """One of a MAT-file, padded unless it is a compressed one."""
    padding = bytes(-len(content) % 8 if kind != 15 else 0)
    return struct.pack("<II", kind, len(content) if size is None else size) + content + padding


def mat(*elements: bytes) -> bytes:
    """A MAT-file of level 5."""
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def matrix(name: bytes, shape: tuple[int, ...], content: bytes, array_class: int = 9) -> bytes:
    """An array of bytes of a MAT-file."""
    parts = [
        element(6, struct.pack("<II", array_class, 0)),
        element(5, struct.pack(f"<{len(shape)}i", *shape)),
        element(1, name),
        element(2, content),
    ]
    return element(14, b"".join(parts))


def pickled_array(shape: bytes, pixels: bytes) -> bytes:
    """A batch of CIFAR's whose array has this shape, a pickled tuple, in the opcodes of Python 2."""
    return (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01"
        + shape
        + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", len(pixels))
        + pixels
        + b"tbU\x06labels](K\x07eu."
    )


def large_png(width: int, height: int, data: bytes) -> bytes:
    """A PNG that says it has this size, whatever its pixels are."""
    small = png(GREY, "grey", 8)
    header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
    pixels = b"IDAT" + data
    end = small.index(b"IDAT") - 4
    return (
        small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:end]
        + struct.pack(">I", len(data)) + pixels + struct.pack(">I", zlib.crc32(pixels)) + small[-12:]
    )  # fmt: skip


def tiff_tags(*more: tuple[int, int], width: int = 10, height: int = 10, pages: int = 1) -> bytes:
    """A grey TIFF of long tags in ascending order, with pages that are all alike."""
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), *more]
    size = 2 + 12 * len(tags) + 4
    out = b"II*\0" + struct.pack("<I", 8)
    for page in range(1, pages + 1):
        out += struct.pack("<H", len(tags))
        out += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        out += struct.pack("<I", 8 + page * size if page < pages else 0)
    return out + bytes(200)


def many_scans() -> bytes:
    """A progressive JPEG of 44 megapixels whose last scan stands there 300 times: minutes to decode."""
    out = BytesIO()
    Image.new("L", (8_000, 5_500)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 300 + b"\xff\xd9"


def wide_webp() -> bytes:
    """The header of a WebP of 65,536 × 65,535 pixels, for which its library takes memory before it looks further."""
    canvas = b"\x02\0\0\0" + (65_535).to_bytes(3, "little") + (65_534).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + canvas


FILES: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "bomb.idx.gz": (gzip_bomb, "holds more than 94,080,000 bytes"),
    "members.idx.gz": (lambda: gzip.compress(b"") * 500_000, "more than 10,000 gzip members"),
    "name.idx.gz": (lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"a" * 10_000_000, "ends before"),
    "claim.idx": (lambda: b"\0\0\x08\3" + struct.pack(">III", 2**31, 28, 28) + bytes(99), "115 bytes do not"),
    "rank.idx": (lambda: b"\0\0\x08\xff" + b"\xff" * 1020, "an array of 255 dimensions"),
    "claim.cifar": (lambda: pickled_array(b"(J\x00\xf2\x05\x2aM\x00\x0ct", bytes(3072)), "3,072 bytes do not hold"),
    "length.cifar": (lambda: pickled_array(b"(K\x01M\xff\x0bt", bytes(3071)), "3071"),
    "bytes.cifar": (lambda: b"\x80\x02T" + struct.pack("<I", 2**31 - 1) + b"a", "expected 2147483647 bytes"),
    "bytes8.cifar": (lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a", "bytes in a bytes8"),
    "memo.cifar": (lambda: b"\x80\x02Nr\xff\xff\xff\xff.", "no dictionary"),
    "empty.cifar": (lambda: b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftR.", "no dictionary"),
    "deep.cifar": (lambda: b"\x80\x02)" + b"\x85" * 900_000 + b".", "no dictionary"),
    "deepkey.cifar": (lambda: b"\x80\x02})" + b"\x85" * 900_000 + b"Ns.", "keys that are no texts"),
    "opcodes.cifar": (lambda: b"\x80\x02" + b"N" * 10_000_000 + b".", "more than 1,000,000 opcodes"),
    "global.cifar": (lambda: b"\x80\x02cos\nsystem\nU\x04true\x85R.", "os.system, which no image needs"),
    "bomb.mat": (lambda: mat(element(15, zlib_zeros(TEN_GB))), "holds more than 450,091,008 bytes"),
    "bombs.mat": (
        lambda: mat(*[element(15, zlib.compress(matrix(b"Z%d" % n, (9,), bytes(9)))) for n in range(101)]),
        "more than 100 arrays",
    ),
    "long.mat": (lambda: mat(element(14, b"", 2**31 - 8)), "an element of 2,147,483,640 bytes where 0 are left"),
    "claim.mat": (lambda: mat(matrix(b"X", (32, 32, 3, 2**31 - 1), bytes(3072))), "3,072 bytes do not hold"),
    "cell.mat": (lambda: mat(matrix(b"X", (1, 1), b"", array_class=1)), "X is no array of real numbers"),
    "size.png": (lambda: large_png(100_000, 100_000, b"x"), "10000000000 pixels"),
    "claim.png": (lambda: large_png(13_000, 13_000, zlib.compress(bytes(9))), "13,000 × 13,000 pixels in"),
    "profile.png": (lambda: png(GREY, "grey", 8, {b"iCCP": b"a\0\0" + zlib_zeros(TEN_GB)}), "too large"),
    "ztxt.png": (lambda: png(GREY, "grey", 8, {b"zTXt": b"a\0\0" + zlib_zeros(TEN_GB)}), "too large"),
    "itxt.png": (lambda: png(GREY, "grey", 8, {b"iTXt": b"a\0\1\0\0\0" + zlib_zeros(TEN_GB)}), "too large"),
    "pixels.png": (lambda: large_png(4, 4, zlib_zeros(TEN_GB)), ""),
    "chunk.png": (lambda: png(GREY, "grey", 8)[:33] + b"\x7f\xff\xff\xfftEXtabc", "Truncated"),
    "claim.ppm": (lambda: b"P6 13000 13000 255\n123", "13,000 × 13,000 pixels in 22 bytes"),
    "digits.ppm": (lambda: b"P6 " + b"9" * 10_000_000, "Token too long"),
    "pages.tiff": (lambda: tiff_tags((273, 8), (278, 10), (279, 100), pages=3_000), "100 or more frames or pages"),
    "tiles.tiff": (lambda: tiff_tags((322, 40_000), (323, 40_000), (324, 8), (325, 100)), "tiles of 40000 × 40000"),
    "strips.tiff": (
        lambda: tiff_tags((273, 8), (278, 13_000), (279, 100), width=13_000, height=13_000),
        "13,000 × 13,000 pixels in",
    ),
    "scans.jpeg": (many_scans, "scans of 44,000,000 pixels"),
    "canvas.webp": (wide_webp, ""),
}  # fmt: skip
"""By name: what makes it, and what is said of it; "" where it may be a picture, or it depends on the machine."""

READERS: Mapping[str, Callable[[Path], object]] = {
    ".gz": idx.read_file,
    ".idx": idx.read_file,
    ".cifar": lambda path: cifar.read_batch(path, b"labels"),
    ".mat": svhn.read_mat,
}
"""By suffix; the others are pictures."""


def read(path: Path) -> str:
    """Read a file as its data set does. Returns what was said against it."""
    try:
        if path.suffix == ".gz":
            published.md5("mnist", path)
        look = READERS.get(path.suffix, lambda picture: look_at(picture, AS_SEEN, whole=True))
        look(path)
    except DataError as error:
        return str(error)
    return ""


def main(*paths: str) -> None:
    """Read files; write a line of JSON of each, what was said and the seconds of processor time that it took."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for path in paths:
        begin = time.process_time()
        said = read(Path(path))
        print(json.dumps([said, time.process_time() - begin]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

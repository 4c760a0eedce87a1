"""Image files byte by byte, by the formats' specifications: what Pillow cannot write, or would write as it reads it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RAW_COLOURS = {"grey": 0, "rgb": 2, "palette": 3, "grey-alpha": 4, "rgb-alpha": 6}


def png(values: NDArray[Any], colour: str, depth: int, chunks: Mapping[bytes, bytes] = {}) -> bytes:
    """Return a PNG of values [height, width, channels] as they are, with chunks before the pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    height, width = values.shape[:2]
    rows = values.reshape(height, -1)
    if depth < 8:
        bits = (rows[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        packed = rows.astype(f">u{depth // 8}").view(np.uint8).reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, depth, RAW_COLOURS[colour], 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            *(chunk(name, content) for name, content in chunks.items()),
            chunk(b"IDAT", body),
            chunk(b"IEND", b""),
        ]
    )


def tiff(
    values: NDArray[Any], *, bits: int, white_is_zero: bool = False, order: str = "<"
) -> bytes:
    """Return a TIFF of one strip of values [height, width(, 3)]; kinds are those of the values, 12 bits are packed."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint16)
        first, second = pairs[:, 0], pairs[:, 1]
        parts = (first >> 4, (first & 15) << 4 | second >> 8, second & 255)
        data = np.stack(parts, 1).astype(np.uint8).tobytes()
    else:
        data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = [  # number, whether it has 4 bytes, count, value
        (256, True, 1, width),
        (257, True, 1, height),
        (258, False, channels, bits),
        (259, False, 1, 1),
        (262, False, 1, 2 if channels == 3 else int(not white_is_zero)),
        (273, True, 1, None),  # where the strip begins
        (277, False, 1, channels),
        (278, True, 1, height),
        (279, True, 1, len(data)),
        (339, False, channels, kind),
    ]
    after = 8 + 2 + 12 * len(tags) + 4
    start = after + 6 * sum(count == 3 for _, _, count, _ in tags)
    entries, extra = b"", b""
    for number, wide, count, value in tags:
        entries += struct.pack(f"{order}HHI", number, 4 if wide else 3, count)
        if count == 3:
            entries += struct.pack(f"{order}I", after + len(extra))
            extra += struct.pack(f"{order}3H", *[value] * 3)
        elif wide:
            entries += struct.pack(f"{order}I", start if value is None else value)
        else:
            entries += struct.pack(f"{order}HH", value, 0)
    mark = {"<": b"II", ">": b"MM"}[order]
    return (
        mark
        + struct.pack(f"{order}HIH", 42, 8, len(tags))
        + entries
        + struct.pack(f"{order}I", 0)
        + extra
        + data
    )


def turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return pixels as they are stored where viewers turn them by an EXIF orientation (EXIF 2.3, page 37)."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation].copy()


def exif(orientation: int) -> bytes:
    """Return EXIF data that hold an orientation."""
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()

"""Unpacks deflated data, never more than the caller allows: 10 MB may hold 10 GB of zeros. Free of torch and numpy."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from prunectl.ml.datasets.regular_file import open_file

CHUNK_BYTES = 1 << 16
MOST_MEMBERS = 10_000
"""Of a gzip file, which may consist of any number, each of no content; bgzip makes one of every 64 kB."""

_GZIP = 16 + zlib.MAX_WBITS


def gunzipped(path: Path, most: int) -> Iterator[bytes]:
    """Yield what a gzip file holds, in pieces.

    Raises OSError where it is no file, zlib.error where it is not gzipped, EOFError where its end is missing,
    ValueError where it holds more than `most` bytes.
    """
    member: zlib._Decompress | None = zlib.decompressobj(_GZIP)
    unpacked, members = 0, 1
    with open_file(path) as file:
        while packed := file.read(CHUNK_BYTES):
            while packed:
                if member is None:
                    packed = packed.lstrip(b"\0")  # padding between and behind members
                    if not packed:
                        break
                    member, members = zlib.decompressobj(_GZIP), members + 1
                    if members > MOST_MEMBERS:
                        raise ValueError(f"has more than {MOST_MEMBERS:,} gzip members")
                piece = member.decompress(packed, CHUNK_BYTES)
                unpacked += len(piece)
                if unpacked > most:
                    raise ValueError(f"holds more than {most:,} bytes")
                yield piece
                if member.eof:
                    packed, member = member.unused_data, None
                else:
                    packed = member.unconsumed_tail
    if member is not None:
        raise EOFError("the gzip file ends before its content does")


def inflated(packed: bytes | memoryview, most: int) -> bytes:
    """Return what a zlib stream holds.

    Raises zlib.error where it is none, EOFError where its end is missing, ValueError where it holds more than `most`
    bytes.
    """
    stream = zlib.decompressobj()
    data = stream.decompress(packed, most + 1)
    if len(data) > most:
        raise ValueError(f"holds more than {most:,} bytes")
    if not stream.eof:
        raise EOFError("the compressed data end before their content does")
    return data

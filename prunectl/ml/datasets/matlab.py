"""Reads MATLAB's MAT-files of level 5 ("MAT-File Format", MathWorks), as far as plain numeric arrays go.

SciPy's reader takes far more, cells and objects too, and allocates what a file says: 10 MB may hold 10 GB of zeros.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Set

import numpy as np
from numpy.typing import NDArray

from prunectl.ml.datasets.inflate import inflated

HEADER_BYTES = 128
LITTLE_ENDIAN_5 = b"\x00\x01IM"
"""How the header ends: version 1.0, and the order of its bytes."""

_TYPES = {
    1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8",
}  # fmt: skip
"""NumPy's names of the types of numbers, by MATLAB's number (miINT8, …)."""
_MATRIX, _COMPRESSED = 14, 15
_CLASSES = range(6, 16)
"""Of arrays of numbers: mxDOUBLE_CLASS to mxUINT64_CLASS; the others are cells, structures, objects, texts, sparse."""
_COMPLEX = 0x08
"""Flag of an array with an imaginary part."""
MOST_ELEMENTS = 100
"""Of one file: each is an array."""


def read_arrays(data: bytes, wanted: Set[str], most: int) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a file that have the names `wanted`, in MATLAB's order of dimensions.

    Raises ValueError where it is no such file, one of them is missing or not made of real numbers, or all that is
    compressed takes more than `most` bytes; EOFError and zlib.error where it is damaged.
    """
    if len(data) < HEADER_BYTES or data[HEADER_BYTES - 4 : HEADER_BYTES] != LITTLE_ENDIAN_5:
        raise ValueError("no MAT-file of level 5, little-endian")
    found: dict[str, NDArray[np.generic]] = {}
    for number, (kind, content) in enumerate(_elements(memoryview(data)[HEADER_BYTES:])):
        if number >= MOST_ELEMENTS:
            raise ValueError(f"more than {MOST_ELEMENTS} arrays")
        if kind == _COMPRESSED:
            unpacked = memoryview(inflated(content, most))
            most -= len(unpacked)
            kind, content = next(_elements(unpacked), (0, unpacked))
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind}, not an array")
        parts = list(_elements(content, 4))
        name = _name(parts)
        if name in found:
            raise ValueError(f"two arrays {name}")
        if name in wanted:
            found[name] = _array(name, parts)
    missing = sorted(wanted - set(found))
    if missing:
        raise ValueError(f"without the array {' and '.join(missing)}")
    return found


def _elements(data: memoryview, most: int = MOST_ELEMENTS + 1) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of the first `most` elements. Raises ValueError where one is longer than what holds it."""
    place = 0
    for _ in range(most):
        if place == len(data):
            return
        if len(data) - place < 8:
            raise ValueError("an element is cut off")
        kind, size = struct.unpack_from("<II", data, place)
        start, small = place + 8, kind >> 16
        if small:  # of up to four bytes, which stand in the second half of the tag
            kind, size, start = kind & 0xFFFF, small, place + 4
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        if size > len(data) - start:
            raise ValueError(f"an element of {size:,} bytes where {len(data) - start:,} are left")
        yield kind, data[start : start + size]
        # Compressed elements are not padded to 8 bytes, and what is in them may lack its padding at the end.
        after = (
            start + size
            if kind == _COMPRESSED
            else place + 8
            if small
            else start + -(-size // 8) * 8
        )
        place = min(after, len(data))


def _name(parts: list[tuple[int, memoryview]]) -> str:
    if len(parts) < 3 or parts[2][0] != 1:
        raise ValueError("an array without a name")
    return bytes(parts[2][1]).decode("latin-1")


def _array(name: str, parts: list[tuple[int, memoryview]]) -> NDArray[np.generic]:
    """Return the array of an element's parts: flags, dimensions, name, numbers."""
    (flags_type, flags), (shape_type, shape_bytes), *_ = parts
    if flags_type != 6 or len(flags) != 8 or shape_type != 5 or len(shape_bytes) % 4:
        raise ValueError(f"{name}: flags or dimensions are damaged")
    flag_bits = int.from_bytes(flags[:4], "little")
    if flag_bits & 0xFF not in _CLASSES or flag_bits >> 8 & _COMPLEX:
        raise ValueError(f"{name} is no array of real numbers")
    if len(parts) < 4 or parts[3][0] not in _TYPES:
        raise ValueError(f"{name} holds no numbers")
    shape = struct.unpack(f"<{len(shape_bytes) // 4}i", shape_bytes)
    dtype, content = np.dtype(_TYPES[parts[3][0]]), parts[3][1]
    if (
        not 2 <= len(shape) <= 8
        or min(shape) < 0
        or math.prod(shape) * dtype.itemsize != len(content)
    ):
        raise ValueError(f"{name}: {len(content):,} bytes do not hold an array of shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape, order="F")

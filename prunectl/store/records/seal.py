"""The checksum of a record: its last member, over the bytes before it.

    {"key":"1f…","score":93.1,"sum":"90ae5f3c21d4b8e7"}

It is BLAKE2b with a digest of 8 bytes: it finds damage, all but one in 2⁶⁴, and no forgery. Adding it to a line takes
0.9 μs, checking it 1.2 μs. It says nothing of a line that is gone, or of a record in the place of another: those are
found by the marks of logs (`base.LinesBefore`) and by the digests that a result has of its stage's files.
"""

from __future__ import annotations

from hashlib import blake2b

SIZE = 8
"""Bytes of a digest, which has twice as many hex digits."""
_NAME = b',"sum":"'
_END = b'"}'
_DIGITS = 2 * SIZE
_TAIL = len(_NAME) + _DIGITS + len(_END)


def digest(data: bytes) -> str:
    """Return the digest of some bytes, 16 hex digits."""
    return blake2b(data, digest_size=SIZE).hexdigest()


def chained(before: str, line: bytes) -> str:
    """Return the digest of a log's lines up to `line`, from that of those before it; "" for none."""
    return blake2b(before.encode() + line, digest_size=SIZE).hexdigest()


def seal(data: bytes) -> bytes:
    """Add the checksum to a record's JSON: an object with at least one member."""
    body = data[:-1]
    return body + _NAME + digest(body).encode() + _END


def is_sealed(data: bytes) -> bool:
    """Return whether JSON ends with a checksum, right or wrong."""
    return data.endswith(_END) and data[-_TAIL:].startswith(_NAME)


def holds(data: bytes) -> bool:
    """Return whether JSON ends with a checksum that is right."""
    found = blake2b(data[:-_TAIL], digest_size=SIZE).hexdigest()
    return data[-_TAIL:] == _NAME + found.encode() + _END

"""Read checkpoints without torch: their tensors as numpy arrays, after a check of their checksum.

The files are those of worker/checkpoint.py, which writes and reads them with torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from prunectl.errors import StoreError
from prunectl.store import files
from prunectl.store.files import replacing
from prunectl.store.records import seal
from prunectl.store.refusals import cannot_read

if TYPE_CHECKING:
    import numpy

_TYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip
"""Names of types in safetensors, and in numpy and torch. numpy has no bfloat16, and no checkpoint has it."""

Arrays = dict[str, "numpy.ndarray[Any, Any]"]


_METADATA = {"stage", "step", "sha256", "sum"}


class CorruptFile(StoreError):
    """The file is torn, or its content is not what its checksum says."""


@dataclass(frozen=True)
class CheckedFile:
    """A file whose checksum holds."""

    checksum: str
    arrays: Arrays
    metadata: Mapping[str, str]
    bytes: int
    """The file's size."""

    @property
    def stage(self) -> str | None:
        """Key of the stage it belongs to, by its metadata."""
        return self.metadata.get("stage")

    def masks(self) -> Arrays:
        """Return the boolean tensors of weights (of more than one dimension), flattened."""
        return {
            name: array.reshape(-1)
            for name, array in self.arrays.items()
            if array.dtype == bool and array.ndim > 1
        }


def metadata_sum(metadata: Mapping[str, str]) -> str:
    """Return the checksum of a training state's stage, step and tensors together."""
    said = [metadata.get(name, "") for name in ("stage", "step", "sha256")]
    return seal.digest(" ".join(said).encode())


def holds(metadata: Mapping[str, str]) -> bool:
    """Return whether metadata is what was written, all of it; also where an older version wrote no checksum."""
    return metadata.keys() <= _METADATA and metadata.get("sum") in (None, metadata_sum(metadata))


def read_checked(path: Path) -> CheckedFile:
    """Read a checkpoint or mask.

    Raises FileNotFoundError as is, StoreError where it cannot be read, CorruptFile where its checksum does not hold.
    """
    import numpy
    from safetensors import SafetensorError, deserialize

    try:
        content = files.disk.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot_read(path, error) from error
    try:
        found = deserialize(content)  # type: ignore[no-untyped-call]
        metadata = _metadata(content)
    except (SafetensorError, ValueError) as error:
        raise CorruptFile(f"{path} cannot be read: {error}") from error
    digest = hashlib.sha256()
    arrays: Arrays = {}
    for name, tensor in sorted(found, key=lambda each: each[0]):
        kind = _TYPES.get(tensor["dtype"])
        if kind is None:
            raise CorruptFile(f"{path}: {name} is of type {tensor['dtype']}, which numpy has not")
        digest.update(f"{name} torch.{kind} {list(tensor['shape'])};".encode())
        digest.update(tensor["data"])
        try:
            arrays[name] = numpy.frombuffer(tensor["data"], dtype=kind).reshape(tensor["shape"])
        except (ValueError, OverflowError, TypeError) as error:  # more dimensions than any has
            raise CorruptFile(f"{path}: {name} is no tensor: {error}") from error
    if metadata.get("sha256") != digest.hexdigest() or not holds(metadata):
        raise CorruptFile(f"{path} is not what its checksum says")
    return CheckedFile(digest.hexdigest(), arrays, metadata, len(content))


def _metadata(content: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file that was read, whose header is 8 bytes with its length, then JSON.

    Not by its path again: a stage that is running replaces the file at any time. Raises ValueError for what is none.
    """
    length = int.from_bytes(content[:8], "little")
    return msgspec.json.decode(content[8 : 8 + length], type=_Header).metadata


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__", default={})


def stored_checksum(path: Path) -> str:
    """Read what a checkpoint's or mask's checksum is to be, without reading its tensors.

    Raises CorruptFile where the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return str((file.metadata() or {})["sha256"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CorruptFile(f"{path} cannot be read: {error}") from error


def write_tensors(path: Path, tensors: Arrays, metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, atomically. Raises StoreError where the file cannot be written."""
    from safetensors.numpy import save

    with replacing(path) as temporary:
        files.disk.write(temporary, save(tensors, dict(metadata)))

"""Checking safetensors files without torch: the header is JSON, the rest are the tensors' bytes."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
"""The checksum names types as torch does."""


class BadFile(Exception):
    """The file is torn, or its content is not what its checksum says."""


@dataclass(frozen=True)
class Checked:
    """A file whose checksum holds."""

    checksum: str
    stage: str | None
    """Key of the stage that it says it is of."""
    layout: dict[str, dict[str, Any]]
    """dtype, shape and data_offsets of each tensor."""
    data: memoryview
    """All tensors' bytes."""

    def masks(self) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
        """The boolean tensors of weights (of more than one dimension), flat."""
        return {
            name: np.frombuffer(self._bytes(entry), dtype=np.bool_)
            for name, entry in self.layout.items()
            if entry["dtype"] == "BOOL" and len(entry["shape"]) > 1
        }

    def _bytes(self, entry: dict[str, Any]) -> memoryview:
        start, end = entry["data_offsets"]
        return self.data[start:end]


def check(path: Path) -> Checked:
    """Read a file that `stage.checkpoint` wrote and compute its checksum again.

    Raises FileNotFoundError as is, BadFile where it is not what it was.
    """
    content = memoryview(path.read_bytes())
    try:
        (length,) = struct.unpack("<Q", content[:8])
        layout = json.loads(bytes(content[8 : 8 + length]))
        metadata = layout.pop("__metadata__", {})
        data = content[8 + length :]
        checksum = _checksum(layout, data)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"{path} cannot be read: {error!r}") from error
    if checksum != metadata.get("sha256"):
        raise BadFile(f"{path} is not what its checksum says")
    return Checked(checksum, metadata.get("stage"), layout, data)


def _checksum(layout: dict[str, dict[str, Any]], data: memoryview) -> str:
    digest = hashlib.sha256()
    for name in sorted(layout):
        entry = layout[name]
        start, end = entry["data_offsets"]
        if end > len(data):
            raise ValueError("the file is too short")
        digest.update(f"{name} torch.{TORCH_NAMES[entry['dtype']]} {entry['shape']};".encode())
        digest.update(data[start:end])
    return digest.hexdigest()

"""Where data sets lie that are not the data root's own: remembered by fingerprint, ROOT/places/FINGERPRINT.json.

A stage names its images by their fingerprint and never by a path, so that it is the same stage wherever they lie.
Whoever starts a run writes down what the plan says of the place, and the workers look it up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from prunectl.errors import DataError

Value = str | int | float


def remember(root: Path, fingerprint: str, options: Mapping[str, Value]) -> None:
    """Write the options down, in place of what was known before. Raises DataError where that cannot be."""
    options = dict(options)
    if options.get("path"):
        options["path"] = str(Path(str(options["path"])).expanduser().absolute())
    path = _file(root, fingerprint)
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(options), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error


def recall(root: Path, fingerprint: str) -> dict[str, Value]:
    """What was written down last; nothing where nothing was. Raises DataError for what is not JSON."""
    path = _file(root, fingerprint)
    try:
        found: dict[str, Value] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error


def _file(root: Path, fingerprint: str) -> Path:
    return root / "places" / f"{fingerprint}.json"

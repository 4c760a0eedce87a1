"""Where data sets lie that are outside the data root: written down by fingerprint, ROOT/places/FINGERPRINT.json.

A stage names its images by their fingerprint and never by a path, so that it is the same stage wherever they lie.
The process that starts a run saves what the plan says of the place, and workers load it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from prunectl.errors import DataError
from prunectl.ml.datasets.regular_file import read_bounded

Value = str | int | float | tuple[float, ...]

MOST_BYTES = 1 << 20
"""Of one file, which holds a path and a few options."""


def save_options(root: Path, fingerprint: str, options: Mapping[str, Value]) -> None:
    """Write the options, in place of those of before. Raises DataError where that cannot be."""
    options = dict(options)
    if options.get("path"):
        options["path"] = str(Path(str(options["path"])).expanduser().absolute())
    path = _file(root, fingerprint)
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(options), encoding="utf-8")
        # In one step, because workers may be reading it.
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error


def load_options(root: Path, fingerprint: str) -> dict[str, Value]:
    """Return the options written last; none where none were. Raises DataError for a file that is no JSON object."""
    path = _file(root, fingerprint)
    try:
        found = json.loads(read_bounded(path, MOST_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a JSON object")
    return found


def _file(root: Path, fingerprint: str) -> Path:
    return root / "places" / f"{fingerprint}.json"

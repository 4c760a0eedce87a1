"""Stage keys: the sha256 of a stage's canonical JSON.

Fields that have their default are left out, so a new option never orphans old results; `NUMERICS` is inside,
so a change of what the same settings compute always does. Floats are written as Python's shortest repr.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from prunectl.spec.stage import StageSpec

NUMERICS = 1
"""Raised when the same settings are to give other numbers (initialisation, data order, masks, the step)."""


_PLAIN = frozenset({str, int, float, bool, type(None)})


class _Nothing:
    """The default of a field that has none."""


@lru_cache
def _fields(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """Names and defaults of a dataclass's fields."""
    out: list[tuple[str, Any]] = []
    for item in dataclasses.fields(kind):
        default = _Nothing() if item.default is dataclasses.MISSING else item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        out.append((item.name, default))
    return tuple(out)


def canonical(value: object) -> Any:
    """A dataclass tree as JSON-able data without the fields that have their default."""
    if isinstance(value, tuple | list):
        return [item if type(item) in _PLAIN else canonical(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Any] = {}
        for name, default in _fields(type(value)):
            content = getattr(value, name)
            if content != default:
                out[name] = content if type(content) in _PLAIN else canonical(content)
        return out
    return value


def to_json(value: object) -> str:
    """Canonical JSON of a dataclass tree: sorted keys, no spaces, defaults left out."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def stage_key(spec: StageSpec) -> str:
    """The key of a stage: 64 hex digits."""
    text = f'{{"numerics":{NUMERICS},"stage":{to_json(spec)}}}'
    return hashlib.sha256(text.encode()).hexdigest()


def spec_to_dict(spec: StageSpec) -> dict[str, Any]:
    """For spec.json: the canonical form with the numerics version."""
    return {"numerics": NUMERICS, "stage": canonical(spec)}


_ADAPTER = TypeAdapter(StageSpec)


def spec_from_dict(data: dict[str, Any]) -> StageSpec:
    """The inverse of `spec_to_dict`.

    Raises ValueError for another numerics version: its numbers would not be what the key says.
    """
    if data.get("numerics") != NUMERICS:
        raise ValueError(f"numerics {data.get('numerics')}, but this prunectl computes {NUMERICS}")
    return _ADAPTER.validate_python(data["stage"])

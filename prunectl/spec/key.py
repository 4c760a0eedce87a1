"""Stage keys: the sha256 of a stage's canonical JSON.

Fields that have their default are left out, so a new option never orphans old results; `NUMERICS` is inside,
so a change of what the same settings compute always does. Floats are written as Python's shortest repr.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from prunectl.spec.stage import StageSpec

NUMERICS = 1
"""Incremented when the same settings are to give other numbers (initialisation, data order, masks, the step)."""


_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types that are their own canonical form. Without the call for them a key takes 40 μs instead of 66."""


@lru_cache
def _defaults(kind: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass with their defaults; MISSING, which equals nothing else, where there is none."""
    return {
        item.name: item.default if item.default_factory is MISSING else item.default_factory()
        for item in fields(kind)
    }


def canonical(value: object) -> Any:
    """Return a dataclass tree as JSON-able data without the fields that have their default."""
    if isinstance(value, tuple | list):
        return [item if type(item) in _PLAIN else canonical(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Any] = {}
        for name, default in _defaults(type(value)).items():
            content = getattr(value, name)
            if content != default:
                out[name] = content if type(content) in _PLAIN else canonical(content)
        return out
    return value


def to_json(value: object) -> str:
    """Return the canonical JSON of a dataclass tree: sorted keys, no spaces, defaults left out."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def stage_key(spec: StageSpec) -> str:
    """Return the key of a stage: 64 hex digits."""
    text = f'{{"numerics":{NUMERICS},"stage":{to_json(spec)}}}'
    return hashlib.sha256(text.encode()).hexdigest()


def spec_to_dict(spec: StageSpec) -> dict[str, Any]:
    """Return the content of spec.json: the canonical form with the numerics version."""
    return {"numerics": NUMERICS, "stage": canonical(spec)}


_ADAPTER = TypeAdapter(StageSpec)


def spec_from_dict(data: dict[str, Any]) -> StageSpec:
    """Read back what `spec_to_dict` wrote.

    Raises ValueError for another numerics version: its numbers would not be what the key says.
    """
    if data.get("numerics") != NUMERICS:
        raise ValueError(f"numerics {data.get('numerics')}, but this prunectl computes {NUMERICS}")
    return _ADAPTER.validate_python(data["stage"])

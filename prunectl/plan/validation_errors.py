"""pydantic's findings in the words of a plan: the key, what was found, what is allowed, the nearest name."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from prunectl.errors import PlanError

Place = tuple[str | int, ...]


def explain(error: ValidationError, model: type[BaseModel], data: Any, prefix: Place) -> PlanError:
    """The first finding as a PlanError whose `key` starts with `prefix`; file and line are for the caller."""
    # A key that is missing is usually the one that is misspelt: unknown keys come first.
    ordered = sorted(error.errors(), key=lambda item: item["type"] == "missing")
    findings = [(_plain(item["loc"], data), item) for item in ordered]
    place = findings[0][0]
    candidates = [item for where, item in findings if where[: len(place)] == place]
    found = _value(data, place)
    item = _most_telling(candidates, found)
    place = _plain(item["loc"], data)
    key = _dotted((*prefix, *place))
    kind = item["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _fields(model, place[:-1])
        return PlanError(
            "unknown key", key=key, found=str(place[-1]), allowed=allowed or ("no keys",)
        )
    if kind == "missing":
        return PlanError("this key is missing", key=key)
    if kind == "literal_error":
        allowed = tuple(re.findall(r"'([^']*)'", str(item["ctx"]["expected"])))
        return PlanError("not an allowed value", key=key, found=_shown(found), allowed=allowed)
    if kind == "value_error":
        return PlanError(str(item["ctx"]["error"]), key=key, found=_shown(found))
    message = item["msg"].replace("Input should", "should").replace("Tuple", "List")
    value = _value(data, place)
    return PlanError(
        message.replace("tuple", "list"), key=key, found=None if value is None else _toml(value)
    )


def _most_telling(candidates: Sequence[Any], found: Any) -> Any:
    """Of a union's findings, the one about the alternative the user meant."""
    literal = [item for item in candidates if item["type"] == "literal_error"]
    worded = [item for item in candidates if item["type"] == "value_error"]
    if isinstance(found, dict):
        inner = [item for item in candidates if item not in literal]
        return max(inner or candidates, key=lambda item: len(item["loc"]))
    if isinstance(found, str):
        return (worded or literal or candidates)[0]
    return candidates[0]


_ALTERNATIVES = frozenset({"str", "int", "float", "bool"})
"""What pydantic calls the plain types of a union, in the place of a key."""


def _plain(loc: Place, data: Any) -> Place:
    """The location without pydantic's names for the alternatives of a union."""
    out: list[str | int] = []
    inside = data
    for part in loc:
        if isinstance(inside, dict) and part not in inside and part in _ALTERNATIVES:
            continue
        if isinstance(inside, dict) and (part in inside or _is_key(part)):
            out.append(part)
            inside = inside.get(part)
        elif isinstance(inside, list | tuple) and isinstance(part, int):
            out.append(part)
            inside = inside[part] if part < len(inside) else None
    return tuple(out)


def _is_key(part: str | int) -> bool:
    return isinstance(part, str) and re.fullmatch(r"[a-z0-9_.-]+", part) is not None


def _value(data: Any, place: Place) -> Any:
    for part in place:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _shown(value: Any) -> Any:
    return value if isinstance(value, str) or value is None else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    return repr(value) if not isinstance(value, str) else f'"{value}"'


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _fields(model: Any, place: Place) -> tuple[str, ...]:
    """The keys allowed in the table at `place`."""
    current: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        current = _field_type(current, part)
        if current is None:
            return ()
    return _names(current)


def _names(kind: Any) -> tuple[str, ...]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return tuple(field.alias or name for name, field in kind.model_fields.items())
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    names: list[str] = []
    for inner in typing.get_args(kind):
        names.extend(name for name in _names(inner) if name not in names)
    return tuple(names)


def _field_type(kind: Any, part: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
        return None
    if dataclasses.is_dataclass(kind):
        return None
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        return inner[1]
    for item in inner:
        found = _field_type(item, part)
        if found is not None:
            return found
    return None

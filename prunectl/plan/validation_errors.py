"""Translation of pydantic's findings into plan errors: the key, what was found, what is allowed, the nearest name."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from prunectl.errors import PlanError

Place = tuple[str | int, ...]
_MOST_FINDINGS = 1000
"""That are looked at: a file of unknown keys has a million, and those of one value stand together."""


def plan_error(
    error: ValidationError, model: type[BaseModel], data: Any, prefix: Place
) -> PlanError:
    """Make a PlanError of the first finding, its `key` starting with `prefix`, without file and line."""
    # A key that is missing is usually the one that is misspelt: unknown keys come first.
    every = error.errors(include_url=False, include_input=False)
    ordered = sorted(every, key=lambda item: item["type"] == "missing")
    findings = [(_plain(item["loc"], data), item) for item in ordered[:_MOST_FINDINGS]]
    place = findings[0][0]
    # A value of a union type has a finding for each alternative that it is not.
    candidates = [item for where, item in findings if where[: len(place)] == place]
    found = _value(data, place)
    item = _most_telling(candidates, found)
    place = _plain(item["loc"], data)
    key = dotted((*prefix, *place))
    kind = item["type"]
    if kind == "extra_forbidden":
        allowed = _allowed_keys(model, place[:-1]) or ("no keys",)
        return PlanError("unknown key", key=key, found=str(place[-1]), allowed=allowed)
    if kind == "missing":
        return PlanError("this key is missing", key=key)
    if kind == "literal_error":
        # "'one-shot' or 'iterative'"
        allowed = tuple(re.findall(r"'([^']*)'", str(item["ctx"]["expected"])))
        return PlanError("not an allowed value", key=key, found=_shown(found), allowed=allowed)
    if kind == "value_error":
        return PlanError(str(item["ctx"]["error"]), key=key, found=_shown(found))
    message = item["msg"].replace("Input should", "should").replace("Tuple", "List")
    message = message.replace("tuple", "list")
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        message = f"{words} {_toml(item['ctx'][name])}"
    value = _value(data, place)
    return PlanError(message, key=key, found=None if value is None else _toml(value))


_LIMITS = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}
"""What pydantic calls a number outside its range: in words, and the limit's name in its context."""


def _most_telling(candidates: Sequence[Any], found: Any) -> Any:
    """Choose, of a union's findings, the one about the alternative that the user meant."""
    literal = [item for item in candidates if item["type"] == "literal_error"]
    worded = [item for item in candidates if item["type"] == "value_error"]
    if isinstance(found, dict):  # meant as a table: the finding furthest inside
        tables = [item for item in candidates if item not in literal]
        return max(tables or candidates, key=lambda item: len(item["loc"]))
    if isinstance(found, str):
        return (worded or literal or candidates)[0]
    return candidates[0]


_ALTERNATIVES = frozenset({"str", "int", "float", "bool"})
"""What pydantic calls the plain types of a union, in the place of a key."""


def _plain(loc: Place, data: Any) -> Place:
    """Drop pydantic's names for the alternatives of a union from a location."""
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


def dotted(place: Place) -> str:
    """Write a key as in ``grid.skip[0].network``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _allowed_keys(model: Any, place: Place) -> tuple[str, ...]:
    """List the keys allowed in the table at `place`."""
    for part in place:
        if isinstance(part, str):
            model = _field_type(model, part)
    return tuple(dict.fromkeys(_keys(model)))


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _keys(kind: Any) -> Iterator[str]:
    """Yield the keys of a table, or of all tables of a union."""
    if _is_table(kind):
        yield from (field.alias or name for name, field in kind.model_fields.items())
    else:
        for inner in typing.get_args(kind):
            yield from _keys(inner)


def _field_type(kind: Any, part: str) -> Any:
    """Find the type of the key `part` in a table, a dictionary, or the first of a union that has it; else None."""
    if _is_table(kind):
        fields = kind.model_fields.items()
        return next((f.annotation for name, f in fields if part in (name, f.alias)), None)
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return inner[1]
    found = (_field_type(each, part) for each in inner)
    return next((each for each in found if each is not None), None)

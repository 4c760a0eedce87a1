"""Records built from their declared types by hypothesis: whole ones, and ones with one lie."""

from __future__ import annotations

import functools
import json
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from prunectl.spec.stage import Stage
from prunectl.spec.trial import Trial
from prunectl.store.records.base import PERCENTAGES, encode
from prunectl.store.records.result import PARTS_OF, Counts, Result

FRACTIONS = st.sampled_from(["0", "1"]) | st.integers(0, 10**20).map("0.{}".format)
"""The only texts of a pattern."""
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t"), max_size=8
)
"""Control characters come back escaped."""


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type as records declare it, numbers that are not finite included where they may be."""
    limits: dict[str, Any] = {}
    if get_origin(hint) is Annotated:
        for meta in get_args(hint)[1:]:
            limits |= {"min_value": meta.ge} if meta.ge is not None else {}
            limits |= {"max_value": meta.le} if meta.le is not None else {}
            limits |= {"min_size": meta.min_length} if meta.min_length is not None else {}
            if meta.pattern is not None:
                return FRACTIONS
        hint = get_args(hint)[0]
        if get_origin(hint) is Annotated:
            return strategy(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is int:
        return st.integers(**{"min_value": -(2**62), "max_value": 2**62} | limits)
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False, **limits)
    if hint is str:
        return TEXT
    if hint is bool:
        return st.booleans()
    if hint is type(None):
        return st.none()
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return records(hint)
    if origin is dict:
        return st.dictionaries(strategy(arguments[0]), strategy(arguments[1]), max_size=2)
    if origin is tuple and Ellipsis in arguments:
        return st.lists(strategy(arguments[0]), max_size=2, **limits).map(tuple)
    if origin is tuple:
        return st.tuples(*map(strategy, arguments))
    if origin is not None and arguments and all(isinstance(each, str) for each in arguments):
        return st.sampled_from(arguments)
    return st.one_of(*map(strategy, arguments))


@functools.cache
def records(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Records of a type: any of its fields given, the others at their defaults."""
    hints = get_type_hints(kind, include_extras=True)
    given_ = {item.name: strategy(hints[item.name]) for item in msgspec.structs.fields(kind)}
    required = {
        item.name: given_.pop(item.name) for item in msgspec.structs.fields(kind) if item.required
    }
    return st.fixed_dictionaries(required, optional=given_).map(
        lambda fields: kind(**consistent(kind, fields))
    )


def consistent(kind: type[msgspec.Struct], fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record that do not contradict each other."""
    if issubclass(kind, Counts):
        for _ in range(2):
            for part, whole in PARTS_OF:
                some, total = fields.get(part), fields.get(whole)
                if some is not None and total is not None:
                    fields |= {part: min(some, total), whole: max(some, total)}
    if issubclass(kind, Stage | Trial):
        for name in ("order_seed", "augment_seed"):
            if fields.get(name) == fields["seed"]:
                del fields[name]
    if issubclass(kind, Stage) and not fields["train"].augment.draws:
        fields.pop("augment_seed", None)
    for name in PERCENTAGES.intersection(fields.get("metrics") or ()):
        fields["metrics"][name] = min(abs(fields["metrics"][name] or 0.0), 100.0)
    if issubclass(kind, Result):
        fields |= {
            "flag": "diverged",
            "ended": max(fields.get(name) or 0.0 for name in ("started", "ended")),
        }
    return fields


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every member of some JSON: (what holds it, its name)."""
    found: list[tuple[Any, Any]] = []
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in inside:
        found.append((value, name))
        if isinstance(each, dict | list):
            found += places(each)
    return found


def damaged(data: st.DataObject, record: Any) -> bytes:
    """A record's JSON with a member removed, added, or of another type, at any depth."""
    content = json.loads(encode(record))
    holder, name = data.draw(st.sampled_from([*places(content), (content, "added")]))
    match data.draw(st.sampled_from(["remove", "add", "change"])):
        case "remove" if name != "added":
            del holder[name]
        case "add" if isinstance(holder, dict):
            holder[data.draw(TEXT)] = data.draw(JUNK)
        case _:
            holder[name] = data.draw(JUNK)
    return json.dumps(content).encode()

"""What records say of their fields, for people: in SQL, in store/README.md, and in one way for all that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT

from prunectl.spec.ranges import BIGGEST, EXACT, LARGE, SMALL

THIS, LAST = "this evaluation", "the last evaluation"
PARTS = {
    "train_": ("on the training items as they were seen since the evaluation before {when}", ""),
    "validation_": ("on the validation split at {when}", "null without one"),
    "best_": (
        "on the test set, the best of all evaluations",
        "not ranked, for it is chosen on the test set",
    ),
    "_start": ("on the test set before the first step, after any rewinding", ""),
    "_pruned": (
        "of the parent's end weights under the new mask on the test set, before any rewinding",
        "null for a dense network",
    ),
    "": ("on the test set at {when}", ""),
}
"""What a prefix or suffix of a metric's, a score's or a loss's name says of it, and what else there is to know."""
QUANTITIES = {
    "score": ("score", "in the unit of the task's metric"),
    "loss": ("loss", "in nats or what the task minimises"),
}
"""What every task measures besides its metrics, in words, with its unit."""


def measured(
    name: str, when: str = THIS, quantities: Mapping[str, tuple[str, str]] = QUANTITIES
) -> str:
    """Describe a number by its name: of ``validation_score`` what is scored, when, and in which unit.

    Raises KeyError for a name that is not one of `quantities` with a prefix or suffix.
    """
    part = next(each for each in PARTS if name.startswith(each) or name.endswith(each))
    where, note = PARTS[part]
    what, unit = quantities[name.removeprefix(part).removesuffix(part)]
    return f"{what} {where.format(when=when)}, {unit}" + (f"; {note}" if note else "")


class Described(NamedTuple):
    """A field of a record, for people."""

    name: str
    """As on the disk."""
    type: str
    """With its range: ``integer 0 to 2^53 or null``."""
    default: str
    """As JSON; "" where there is none."""
    text: str
    """What it means; "" where nothing is declared."""


def described(kind: type[Any]) -> list[Described]:
    """List a record's fields: its own first, those of `LogRecord` last."""
    hints = get_type_hints(kind, include_extras=True)
    return [
        Described(
            field.encode_name,
            _type_text(hints[field.name]),
            _default_text(field),
            _description(hints[field.name]),
        )
        for field in msgspec.structs.fields(kind)
    ]


def _description(hint: Any) -> str:
    """Return the description that a hint is annotated with last."""
    metas = hint.__metadata__ if get_origin(hint) is Annotated else ()
    return next((meta.description for meta in reversed(metas) if meta.description), "")


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.default is NODEFAULT and field.default_factory is NODEFAULT:
        return ""
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    fields = msgspec.structs.fields(default) if isinstance(default, msgspec.Struct) else ()
    bare = fields and all(getattr(default, each.name) == each.default for each in fields)
    return "{}" if bare else msgspec.json.encode(default).decode()


_LIMITS: dict[float, str] = {
    BIGGEST: "2^63 − 1",
    -BIGGEST: "−2^63 + 1",
    EXACT: "2^53",
    SMALL: "2^31 − 1",
    -SMALL: "−2^31 + 1",
}
"""How limits are written whose digits say nothing."""


def _range_text(meta: msgspec.Meta) -> str:
    """Write a range for people: ``0 to 2^53``, ``≥ 0``; "" for none, or ± `LARGE`, which all numbers have."""
    least, most = (
        None if limit is None or abs(limit) == LARGE else _LIMITS.get(limit, str(limit))
        for limit in (meta.ge, meta.le)
    )
    if least is not None and most is not None:
        return f"{least} to {most}"
    return f"≥ {least}" if least is not None else "" if most is None else f"≤ {most}"


_PLAIN = {int: "integer", float: "number", str: "text", bool: "bool", type(None): "null"}


def _type_text(hint: Any) -> str:
    """Write a type for people: ``number ≥ 0 or null``, ``[text …]``, ``{text: number}``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [text for meta in hint.__metadata__ if (text := _range_text(meta))]
        return " ".join([_type_text(arguments[0]), *ranges])
    if origin is Literal:
        return " or ".join(f'"{each}"' for each in arguments)
    inner = [_type_text(each) for each in arguments if each is not Ellipsis]
    if origin is dict:
        return f"{{{': '.join(inner)}}}"
    if origin is tuple:
        return f"[{', '.join(inner)}{' …' if Ellipsis in arguments else ''}]"
    if inner:
        return " or ".join(inner)
    return _PLAIN[hint] if hint in _PLAIN else record_name(hint)


def record_name(kind: type[Any]) -> str:
    """Return what a record is called for people: its tag, ``epoch``, or else its type's name."""
    return str(kind.__struct_config__.tag or kind.__name__)

"""What all records share: the door that JSON comes in by, and the fields of a log's lines.

A record is a msgspec Struct with a description, unit and range per field; `described` lists them for people. Decoding
is the only way in: what does not fit the declaration is a `BadRecord` that names the file, the field and what was
found. A missing field has its default, an unknown one is passed over, and a number that is not finite is null on the
disk and None here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, UnsetType

from prunectl.errors import StoreError
from prunectl.store.files import write_text

Found = TypeVar("Found")

Finite = float | None
"""A number; None where it is not finite, or was not measured."""
Metrics = dict[str, float | None]
"""What a task measured, by name (`spec.task.Metric`), with the prefixes and suffixes of `PARTS`."""
Key = Annotated[str, Meta(description="the stage's key, 64 hex digits")]
Seconds = Annotated[float, Meta(description="Unix seconds")]
Count = Annotated[int, Meta(ge=0)]
Amount = Annotated[float, Meta(ge=0)]
Steps = Count
Number = Annotated[int, Meta(ge=-1, le=2**53)]
Attempt = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""Numbers of records: the next ones are counted on from them, so that a damaged one must not spoil all that follow."""


NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not JSON, or not the type that is wanted."""

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


class BadRecord(StoreError):
    """A record that is not what its type declares."""


class LogRecord(msgspec.Struct, tag_field="type", kw_only=True):
    """A line of a log; `journal.Journal` fills these fields in as it appends."""

    seq: Annotated[Number, Meta(description="number of the record in its log, from 0")] = -1
    attempt: Annotated[
        Attempt,
        Meta(
            description="number of the attempt that logged it, from 1; in the scheduler's log of the run, or of the "
            "attempt at a stage that it is about",
        ),
    ] = 0
    time: Annotated[float, Meta(description="when it was logged, Unix seconds")] = 0.0


class Measured(LogRecord, kw_only=True):
    """A record of what a task measured."""

    metrics: Annotated[
        Metrics,
        Meta(
            description="all that the task measured but for the loss, the score included: by the metric's name for the "
            f"test set, else with a prefix or suffix ({', '.join(filter(None, PARTS))})"
        ),
    ] = {}


class _Classified(msgspec.Struct):
    """Metrics as they stood in records before tasks had names: beside the other fields."""

    accuracy: float | UnsetType | None = UNSET
    top5: float | UnsetType | None = UNSET
    train_accuracy: float | UnsetType | None = UNSET
    validation_accuracy: float | UnsetType | None = UNSET
    best_accuracy: float | UnsetType | None = UNSET
    accuracy_pruned: float | UnsetType | None = UNSET
    accuracy_start: float | UnsetType | None = UNSET


OLD_METRICS = _Classified.__struct_fields__
"""Fields of records from before tasks had names, which are read as metrics."""


def read_old_metrics(record: Measured, data: bytes | str) -> None:
    """Fill in metrics and scores of a record that was written before they had a field of their own.

    Raises msgspec.ValidationError where one of them is no number.
    """
    old = msgspec.json.decode(data, type=_Classified)
    for name in OLD_METRICS:
        value, score = getattr(old, name), name.replace("accuracy", "score")
        if not isinstance(value, UnsetType):
            record.metrics = {**record.metrics, name: value}
            if hasattr(record, score):
                setattr(record, score, value)


def decode(data: bytes | str, kind: type[Found], where: object) -> Found:
    """Decode JSON as a record. Raises BadRecord, naming `where` and the field, for what is not one."""
    try:
        found = msgspec.json.decode(data, type=kind)
        if isinstance(found, Measured) and not found.metrics:
            read_old_metrics(found, data)
        return found
    except NOT_DECODED as error:
        # A ValidationError is a DecodeError: both say what was expected, and where.
        what = "is not JSON" if not isinstance(error, msgspec.ValidationError) else "is malformed"
        raise BadRecord(f"{where} {what}: {error}") from error


def read_record(path: Path, kind: type[Found]) -> Found:
    """Read a file that holds one record.

    Raises FileNotFoundError and NotADirectoryError as they are, StoreError where it cannot be read, BadRecord for what
    is not one.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:  # a ValueError is a name that no file can have
        raise StoreError(f"cannot read {path}: {error}") from error
    return decode(data, kind, path)


def write_record(path: Path, record: object) -> None:
    """Replace the file's content atomically by the record; numbers that are not finite become null."""
    write_text(path, encode(record).decode() + "\n")


def encode(record: object) -> bytes:
    """Return the record as compact JSON on one line; bytes of names that are no text are written as ``\\udcff``."""
    try:
        return msgspec.json.encode(record)
    except (
        UnicodeEncodeError
    ):  # Python's stand-ins for such bytes, in a path, a message or a traceback
        plain = msgspec.to_builtins(record, builtin_types=(msgspec.Raw,))
        return msgspec.json.encode(_writable(plain))


def _writable(value: Any) -> Any:
    """Return plain values with all texts such that UTF-8 can hold them."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_writable(name): _writable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(each) for each in value]
    return value


class Described(NamedTuple):
    """A field of a record, for people."""

    name: str
    """As on the disk."""
    type: str
    """With its range: ``integer ≥ 0 or null``."""
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
    return "{}" if bare else encode(default).decode()


_PLAIN = {int: "integer", float: "number", str: "text", bool: "bool", type(None): "null"}


def _type_text(hint: Any) -> str:
    """Write a type for people: ``number ≥ 0 or null``, ``[text …]``, ``{text: number}``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [f" ≥ {meta.ge}" for meta in hint.__metadata__ if meta.ge is not None]
        limits += [f" ≤ {meta.le}" for meta in hint.__metadata__ if meta.le is not None]
        return "".join([_type_text(arguments[0]), *limits])
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

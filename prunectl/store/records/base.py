"""What all records share: the door that JSON comes in by, and the fields of a log's lines.

A record is a msgspec Struct with a description, unit and range per field; `described` lists them for people. Decoding
is the only way in: what does not fit the declaration is a `BadRecord` that names the file, the field and what was
found. A missing field has its default, an unknown one is passed over, and a number that is not finite is null on the
disk and None here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from prunectl.errors import StoreError
from prunectl.store.files import write_text

Found = TypeVar("Found")

Finite = float | None
"""A number; None where it is not finite, or was not measured."""
Metrics = dict[str, float | None]
"""What a task measured, by name (`spec.task.Metric`): of the test set under the metric's own name, else with a prefix
or suffix: train_, validation_, best_, _start, _pruned."""
Key = Annotated[str, Meta(description="the stage's key, 64 hex digits")]
Seconds = Annotated[float, Meta(description="Unix seconds")]
Count = Annotated[int, Meta(ge=0)]
Amount = Annotated[float, Meta(ge=0)]
Steps = Count
Number = Annotated[int, Meta(ge=-1, le=2**53, description="0, 1, 2 … through the log")]
Attempt = Annotated[
    int, Meta(ge=0, le=2**31 - 1, description="1, 2 …: how often the log's writer was started")
]
"""Numbers that the next ones are counted on from: a damaged one must not spoil all that follow."""


NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not JSON, or not the type that is wanted."""


class BadRecord(StoreError):
    """A record that is not what its type declares."""


class LogRecord(msgspec.Struct, tag_field="type", kw_only=True):
    """A line of a log; `journal.Journal` fills these fields in as it appends."""

    seq: Number = -1
    attempt: Attempt = 0
    time: Annotated[float, Meta(description="Unix seconds")] = 0.0


class Measured(LogRecord, kw_only=True):
    """A record of what a task measured."""

    metrics: Annotated[
        Metrics, Meta(description="what the task measured, by name, the score included")
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


def read_old_metrics(record: Measured, data: bytes | str) -> None:
    """Fill in metrics and scores of a record that was written before they had a field of their own.

    Raises msgspec.ValidationError where one of them is no number.
    """
    old = msgspec.json.decode(data, type=_Classified)
    for name in _Classified.__struct_fields__:
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


def described(kind: type[Any]) -> list[tuple[str, str, str]]:
    """List a record's own fields as (name on the disk, type, description), the inherited ones first."""
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        text, limits = "", []
        for meta in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
            text = meta.description or text
            limits += [f"≥ {meta.ge}"] if meta.ge is not None else []
            limits += [f"≤ {meta.le}"] if meta.le is not None else []
        kind_text = _type_text(hint)
        found.append((field.encode_name, ", ".join([kind_text, *limits]), text))
    return found


def _type_text(hint: Any) -> str:
    """Write a type for people: ``number or null``, ``[text …]``, ``{name: number}``."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    plain = {int: "integer", float: "number", str: "text", bool: "bool", type(None): "null"}
    if hint in plain:
        return plain[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is dict:
        return f"{{{_type_text(arguments[0])}: {_type_text(arguments[1])}}}"
    if origin in (tuple, list):
        inner = [_type_text(each) for each in arguments if each is not Ellipsis]
        return (
            f"[{', '.join(inner)} …]"
            if Ellipsis in arguments or origin is list
            else f"[{', '.join(inner)}]"
        )
    if arguments:
        return " or ".join(
            f'"{each}"' if isinstance(each, str) else _type_text(each) for each in arguments
        )
    return getattr(hint, "__name__", str(hint))

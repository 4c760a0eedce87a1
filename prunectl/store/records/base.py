"""What all records share: the door that JSON comes in by, and the fields of a log's lines.

A record is a msgspec Struct with a description, unit and range per field (`texts.described`). Decoding is the only way
in: what does not fit the declaration, or is outside its range (`spec.ranges`), is a `BadRecord` that names the file,
the field and what was found; all else the tables of the database hold. A missing field has its default, an unknown one
is passed over, and a number that is not finite is null on the disk and None here.

On the disk a record carries a checksum (`seal`), which is looked at first. spec.json has none: its key is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from prunectl.errors import StoreError
from prunectl.spec.ranges import EXACT, Count, Moment, Real, Small
from prunectl.spec.task import CLASSIFICATION
from prunectl.store import files, refusals
from prunectl.store.files import write_text
from prunectl.store.records import seal, store_format
from prunectl.store.records.texts import PARTS
from prunectl.text import printable

Found = TypeVar("Found")

Finite = Real | None
"""A number; None where it is not finite, or was not measured."""
Time = Moment | None
"""Unix seconds; None where it is not known."""
Metrics = dict[str, Finite]
"""What a task measured, by name (`spec.task.Metric`), with the prefixes and suffixes of `PARTS`."""
Key = Annotated[str, Meta(description="the stage's key, 64 hex digits")]
Steps = Count
Number = Annotated[int, Meta(ge=-1, le=EXACT)]
Attempt = Small
LinesBefore = Annotated[
    Count | None,
    Meta(description="lines of the log before this record; null where it was written without"),
]
DigestBefore = Annotated[
    str, Meta(description="digest of these lines, each with the digest of those before it")
]
"""These two fields make a record a mark of its log: what stands before it cannot change, or be gone, in silence."""


PERCENTAGES = frozenset(
    f"{part}{metric.name}" if part.endswith("_") else f"{metric.name}{part}"
    for part in PARTS
    for metric in CLASSIFICATION.metrics
    if metric.unit == "%"
)
"""Metrics of classification, which no other task has under these names."""
MOST_PERCENT = 100 + 1e-6
"""With room for what float32 makes of 100."""

NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not JSON, or not the type that is wanted."""


_CONTROL = re.compile(
    rb"(?<!\\)((?:\\\\)*)(?:\\(u00(?:0[0-8b-fB-F]|1.|7[fF]|[89].)|[bf])|(\x7f|\xc2[\x80-\x9f]))"
)
"""A control character in JSON, escaped or not; line breaks and tabs as JSON writes them, \\n, \\r, \\t, are none."""


class BadRecord(StoreError):
    """A record that is not what its type declares; what it says is one line."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


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
    time: Annotated[Moment, Meta(description="when it was logged, Unix seconds")] = 0.0


class Measured(LogRecord, kw_only=True):
    """A record of what a task measured. Raises ValueError for a percentage that is none."""

    metrics: Annotated[
        Metrics,
        Meta(
            description="all that the task measured but for the loss, the score included: by the metric's name for the "
            f"test set, else with a prefix or suffix ({', '.join(filter(None, PARTS))})"
        ),
    ] = {}

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            # What is not finite is null on the disk. The range is asked first: nearly all are within it.
            if (
                value is not None
                and not 0 <= value <= MOST_PERCENT
                and math.isfinite(value)
                and name in PERCENTAGES
            ):
                raise ValueError(f"{name} is {value:g} %, not 0 to 100")


class _Classified(msgspec.Struct):
    """Metrics as they stood in records before tasks had names: beside the other fields."""

    accuracy: Finite | UnsetType = UNSET
    top5: Finite | UnsetType = UNSET
    train_accuracy: Finite | UnsetType = UNSET
    validation_accuracy: Finite | UnsetType = UNSET
    best_accuracy: Finite | UnsetType = UNSET
    accuracy_pruned: Finite | UnsetType = UNSET
    accuracy_start: Finite | UnsetType = UNSET


OLD_METRICS = _Classified.__struct_fields__
"""Fields of records from before tasks had names, which are read as metrics."""


def _read_old_metrics(record: Measured, data: bytes | str) -> None:
    old = msgspec.json.decode(data, type=_Classified)
    for name in OLD_METRICS:
        value, score = getattr(old, name), name.replace("accuracy", "score")
        if not isinstance(value, UnsetType):
            record.metrics = {**record.metrics, name: value}
            if hasattr(record, score):
                setattr(record, score, value)


def decode_by(
    decoder: msgspec.json.Decoder[Found], data: bytes | str, *, has_controls: bool = True
) -> Found:
    """Decode JSON as a record, also one that was written before metrics had a field. Raises one of `NOT_DECODED`.

    Control characters in its texts are escaped: no text of a store is a command to a terminal. `has_controls`: whether
    there can be any, by `may_have_controls`.
    """
    found = decoder.decode(without_controls(data) if has_controls else data)
    if isinstance(found, Measured) and not found.metrics:
        _read_old_metrics(found, data)
    return found


def without_controls(data: bytes | str) -> bytes:
    """Escape the control characters in texts of some JSON: as those of ``\\u001b`` they are printed."""
    if isinstance(data, str):
        data = data.encode(errors="surrogatepass")
    return _CONTROL.sub(_escaped, data) if may_have_controls(data) else data


def may_have_controls(data: bytes) -> bool:
    """Return whether there can be control characters in the texts of some JSON: nearly never.

    Of a whole log at once: by lines it took 3.8 of the 13.5 s of reading 742,000 of them. Texts of several bytes are
    looked for only behind a first one: of a log of 25 kB that takes 1.4 μs, and 150 μs otherwise.
    """
    if b"\\" in data and any(mark in data for mark in (b"\\u00", b"\\b", b"\\f")):
        return True
    return b"\x7f" in data or b"\xc2" in data


def _escaped(found: re.Match[bytes]) -> bytes:
    before, escape, raw = found.groups()
    name = escape if raw is None else b"u%04x" % ord(raw.decode())
    return bytes(before) + b"\\\\" + bytes(name)


_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(data: bytes | str, kind: type[Found], where: object) -> Found:
    """Decode JSON as a record. Raises BadRecord, naming `where` and the field, for what is not one."""
    try:
        if kind not in _DECODERS:
            _DECODERS[kind] = msgspec.json.Decoder(kind)
        found: Found = decode_by(_DECODERS[kind], data)
        return found
    except NOT_DECODED as error:
        # A ValidationError is a DecodeError: both say what was expected, and where.
        what = "is not JSON" if not isinstance(error, msgspec.ValidationError) else "is malformed"
        raise BadRecord(f"{where} {what}: {error}") from error


def read_record(path: Path, kind: type[Found]) -> Found:
    """Read a file that holds one record.

    Raises FileNotFoundError and NotADirectoryError as they are, StoreError where it cannot be read (DiskError where the
    system refuses), BadRecord for what is not one, or is not what its checksum says.
    """
    data = read_file(path)
    if (why := unsound(data.removesuffix(b"\n"), path)) is not None:
        raise BadRecord(f"{path} {why}")
    return decode(data, kind, path)


def unsound(
    data: bytes,
    path: Path,
    may_lack_checksum: Callable[[Path], bool] = store_format.may_lack_checksum,
) -> str | None:
    """Return what is wrong with the checksum of a record of the file, to follow the file's name; None where it holds,
    and for a record of an older version, which has none."""
    if seal.holds(data):
        return None
    if seal.is_sealed(data):
        return "is not what its checksum says"
    return None if may_lack_checksum(path) else "has no checksum"


def read_file(path: Path) -> bytes:
    """Read a file of a store as it is; errors as `read_record`, but that it may hold anything."""
    try:
        return files.disk.read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise refusals.cannot_read(path, error) from error
    except ValueError as error:  # a name that no file can have
        raise StoreError(f"cannot read {path}: {error}") from error


def write_record(path: Path, record: object) -> None:
    """Replace the file's content atomically by the record and its checksum; numbers that are not finite become null."""
    write_text(path, encode_sealed(record).decode() + "\n")


def encode_sealed(record: object) -> bytes:
    """Return the record as it stands on the disk: `encode` and its checksum."""
    return seal.seal(encode(record))


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

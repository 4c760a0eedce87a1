"""Every record is declared with what it means, and store/README.md says it."""

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from prunectl import spec
from prunectl.spec.ranges import Count
from prunectl.store import records
from prunectl.store.records import events
from prunectl.store.records.base import LogRecord
from prunectl.store.records.result import Result
from prunectl.store.records.texts import described
from tests.support.store_readme import FILES, about, fields, reachable, readme

ROOT = Path(__file__).parents[2]
KINDS = list(dict.fromkeys(kind for file in FILES for kind in reachable(file.records)))


def test_the_readme_is_up_to_date():
    """python -m tests.support.store_readme > store/README.md"""
    assert (ROOT / "store/README.md").read_text(encoding="utf-8") == readme()


@pytest.mark.parametrize("kind", [LogRecord, *KINDS], ids=lambda kind: kind.__qualname__)
def test_every_field_has_a_text_on_one_line(kind):
    texts = [about(kind), *(field.text for field in fields(kind))]
    assert all(text and text == " ".join(text.split()) for text in texts)
    assert not any("|" in "".join(field) for field in fields(kind)), "it would end a cell"


@pytest.mark.parametrize("room", [records, spec])
def test_no_record_is_forgotten(room):
    """But for what others are made from, parts that are read of them, and `Unknown`, which is never written."""
    bases = {base for kind in KINDS for base in kind.__mro__}
    for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, msgspec.Struct) and not name.startswith("_") and name != "Unknown":
                assert kind in bases | {msgspec.Struct}, f"{module.name}.{name} is in no file"


def test_reasons_and_types_of_records_are_listed():
    text = readme()
    for reason, meaning in events.REASONS.items():
        assert f"| `{reason}` | {meaning} |" in text
    for file in FILES:
        assert file.path in text
    for tag in ("start", "epoch", "done", "stage_failed", "lanes"):
        assert f'(`"type": "{tag}"`)' in text


class Inner(msgspec.Struct):
    """A part."""

    one: int = 1


class Sample(msgspec.Struct):
    """A record."""

    must: str
    count: Annotated[Count | None, Meta(description="how many")] = None
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    word: Literal["a", "b"] | None = "a"
    pairs: tuple[tuple[int, float], ...] = ()
    parts: dict[str, Inner] = {}
    part: Inner = msgspec.field(default_factory=Inner, name="Part")
    other: Inner = msgspec.field(default_factory=lambda: Inner(2))


def test_a_field_is_described_with_type_range_and_default():
    assert [tuple(field) for field in described(Sample)] == [
        ("must", "text", "", ""),
        ("count", "integer 0 to 2^53 or null", "null", "how many"),
        ("share", "number 0 to 1", "0.5", ""),
        ("word", '"a" or "b" or null', '"a"', ""),
        ("pairs", "[[integer, number] …]", "[]", ""),
        ("parts", "{text: Inner}", "{}", ""),
        ("Part", "Inner", "{}", ""),
        ("other", "Inner", '{"one":2}', ""),
    ]


def test_a_record_of_a_log_leaves_out_what_all_of_them_have():
    assert {field.name for field in described(Result)} - {field.name for field in fields(Result)} == {
        "seq", "attempt", "time",
    }  # fmt: skip

"""What an older version wrote, unpacked, and the command of this one."""

from __future__ import annotations

import json
import math
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import here

__all__ = ["OldStore", "current", "differences", "here", "old"]

ARCHIVE = Path(__file__).parent / "store-c6e061d.tar.xz"


@dataclass(frozen=True)
class OldStore:
    """A copy of the store of version c6e061d, and what that version answered."""

    folder: Path
    answers: dict[str, Any]

    def events(self) -> dict[str, bytes]:
        """The event log of every stage."""
        return {
            path.parent.name: path.read_bytes()
            for path in sorted(self.folder.glob("store/stages/*/events.jsonl"))
        }


@pytest.fixture
def old(tmp_path: Path) -> Iterator[OldStore]:
    """A fresh copy; tests/support/make_old_store.py says what is in it. Answers about cores were given on two."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(min(2, os.cpu_count() or 1)))
    yield OldStore(tmp_path, json.loads((tmp_path / "answers.json").read_text()))
    os.sched_setaffinity(0, cores)


JUDGED_ANEW = {
    *("best", "tied", "n_needed", "gap", "gap_ci", "pairs"),
    *("compression_loss_0", "compression_loss_0_25", "compression_loss_0_5", "compression_loss_1"),
}
"""What is said of numbers is not what it was: marks keep the truly best method with 95 % and need three seeds, and
without loss is what seeds show."""
MARKS = re.compile(r" (?:★|≈|\$\\(?:star|approx)\$)| ?!(?: \d+ of \d+ (?:diverged|collapsed))?")


def unmarked(text: str) -> str:
    """A table without its marks."""
    return MARKS.sub("", text)


def current(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that an answer of then had: `rank --all` left out the versions of a plan that are not current."""
    return [row for row in rows if row.get("current", True) not in (False, "false")]


def differences(then: Any, now: Any, place: str = "") -> Iterator[str]:
    """Where an answer is not what it was. What a later version added to a table or record is no difference, nor
    is the last bit of a sum, whose order DuckDB does not promise."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name, value in then.items():
            if name in JUDGED_ANEW:
                continue
            yield from differences(value, now.get(name, "no such key"), f"{place}.{name}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, (value, other) in enumerate(zip(then, now, strict=True)):
            yield from differences(value, other, f"{place}[{number}]")
    elif isinstance(then, float) and isinstance(now, float | int):
        if not math.isclose(then, now, rel_tol=1e-9):
            yield f"{place}: {then} then, {now} now"
    elif isinstance(then, str) and isinstance(now, str):
        if unmarked(then) != unmarked(now):
            yield f"{place}: {then!r} then, {now!r} now"
    elif then != now:
        yield f"{place}: {then!r} then, {now!r} now"

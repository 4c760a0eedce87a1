"""Every command, option and exit code of an older version is there."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.compatibility.conftest import OldStore, current, differences
from tests.support.command import Done
from tests.support.list_commands import commands

MOVED = {"bench store", "bench tui"}
"""What became scripts of the source tree: the commands name them and end with 2."""
OTHER_COLUMNS = {"sql -r leaderboard -p plan=tiny --format md"}
"""Calls whose table has other columns, about what is judged anew."""
CODES = {"store rebuild --store none": 3}
"""Calls that end otherwise now: a folder that was mistyped is no longer made into a store."""


def losses(words: str, then: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[str]:
    """What a command took and does not take as it did. An option may have gained names and choices, and a command
    options that may be left out."""
    for old in then:
        names = set(old["names"])
        new = next((each for each in now if names & set(each["names"])), None)
        if new is None or not names <= set(new["names"]):
            yield f"{words}: {old['names']} is gone"
        elif new["required"] > old["required"] or (
            new["choices"] and not set(old["choices"]) <= set(new["choices"])  # none: any word
        ):
            yield f"{words}: {old['names']} takes less: {new}"
        elif any(new[each] != old[each] for each in ("flag", "repeated", "number")):
            yield f"{words}: {old['names']} is another thing: {new}"
    known = {name for old in then for name in old["names"]}
    for new in now:
        if new["required"] and not known & set(new["names"]):
            yield f"{words}: {new['names']} is needed now"


def test_every_command_takes_what_it_took(old: OldStore) -> None:
    now = commands()
    then = old.answers["commands"]
    assert then.keys() <= now.keys()
    found = [
        loss
        for words, parameters in then.items()
        if words not in MOVED
        for loss in losses(words, parameters, now[words])
    ]
    assert found == []


def table(text: str) -> list[dict[str, Any]]:
    """Rows of CSV in an order of their own (queries leave some open), numbers as numbers."""

    def value(field: str) -> str | float:
        try:
            return float(field)
        except ValueError:
            return field

    rows = csv.DictReader(io.StringIO(text))
    found = [{name: value(field) for name, field in row.items()} for row in rows]
    return sorted(found, key=lambda row: str(list(row.values())))


def test_every_call_ends_as_it_ended(
    here: Callable[..., Done], old: OldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(old.folder)
    found = []
    for call in old.answers["calls"]:
        words = " ".join(call["command"])
        done = here(*call["command"])
        if done.returncode != CODES.get(words, call["code"]):
            found.append(f"{words}: {call['code']} then, {done.returncode} now: {done.stderr}")
        elif "csv" in call["command"]:
            found += differences(table(call["out"]), current(table(done.stdout)), words)
        elif "out" in call and words not in OTHER_COLUMNS:
            found += differences(call["out"], done.stdout, words)
    assert found == []


@pytest.mark.parametrize("words", sorted(MOVED))
def test_what_became_a_script_is_named(here: Callable[..., Done], words: str) -> None:
    done = here(*words.split(), "--quick")
    assert done.returncode == 2
    assert f"python -m tests.bench.{words.split()[1]} --quick" in done.stderr

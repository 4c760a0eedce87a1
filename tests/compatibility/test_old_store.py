"""A store that an older version wrote gives the answers that it gave there, and is not trained again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tests.compatibility.conftest import OldStore, current, differences
from tests.support.command import Done

Here = Callable[..., Done]


EVERY_VERSION = (
    " FROM iterations ",
    " FROM (SELECT DISTINCT * EXCLUDE (version, current) FROM iterations_all) ",
)
"""`iterations` had the trials of every version of a plan, each once; what has them now."""

DIGITS = re.compile("(?<=own|hot)@[0-9a-f]{6}")
"""Labels of what a plan defines itself now end so; ids do not know."""


def answer(here: Here, question: dict[str, Any]) -> dict[str, Any]:
    """What this version says."""
    done = here(*(word.replace(*EVERY_VERSION) for word in question["command"]))
    out: Any = DIGITS.sub("", done.stdout)
    if not isinstance(question["out"], str):
        out = json.loads(out)
        out = current(out) if question["command"][0] == "rank" else out
    return {"code": done.returncode, "out": out, "err": done.stderr}


def compared(question: dict[str, Any]) -> tuple[str, ...]:
    """The exit code and what is on stdout. stderr is narration, but for the verdict of `verify`: a database of an
    older schema says there that it is made anew."""
    return ("code", "out", "err") if question["command"] == ["store", "verify"] else ("code", "out")


def ask(here: Here, questions: list[dict[str, Any]]) -> list[str]:
    """Where the answers are not the same."""
    found = []
    for question in questions:
        then = {name: question[name] for name in compared(question)}
        words = " ".join(question["command"])[:60]
        found += [f"{words}: {text}" for text in differences(then, answer(here, question))]
    return found


def test_what_it_holds(old: OldStore) -> None:
    """So that what is compared below is all of what a store may hold."""
    stages = old.folder / "store" / "stages"
    results = [json.loads(path.read_text()) for path in stages.glob("*/result.json")]
    diverged = [result for result in results if result["flag"] == "diverged"]
    assert diverged
    assert {(result["loss"], result["train_loss"]) for result in diverged} == {(None, None)}
    assert any(result["replay"] for result in results)
    status = old.answers["questions"][0]["out"]
    assert {trial["state"] for trial in status["trials"]} == {"done", "failed", "cancelled"}
    assert len(status["plans"]) == 5
    assert len(list((old.folder / "store" / "plans").iterdir())) == 6
    log = (old.folder / "store" / "scheduler.jsonl").read_text()
    assert "stopped" in log


def test_the_answers_are_the_same_before_and_after_a_rebuild(
    here: Here, old: OldStore, monkeypatch: Any
) -> None:
    monkeypatch.chdir(old.folder)
    before = old.events()
    questions = old.answers["questions"]
    assert ask(here, questions) == []
    done = here("store", "rebuild")
    assert done.returncode == 0, done.stderr
    # `rank` of single plans, `show` and `compare` read the same views and records: 3 of 5 s.
    again = [each for each in questions if each["command"][0] in ("status", "sql", "store")]
    assert ask(here, again) == []
    assert old.events() == before


def test_its_plans_are_done(here: Here, old: OldStore, monkeypatch: Any) -> None:
    """And a trial that was cancelled stays so."""
    monkeypatch.chdir(old.folder)
    before = old.events()
    for run in old.answers["runs"]:
        done = here(*run["command"])
        assert done.returncode == run["code"], done.stderr
        if "all " in run["err"]:
            assert done.stderr.partition(" (")[0] == run["err"].partition(" (")[0]
        else:
            assert done.stderr.splitlines()[-1] == run["err"].splitlines()[-1]
    assert old.events() == before

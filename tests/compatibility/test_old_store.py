"""A store that an older version wrote gives the answers that it gave there, and is not trained again."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prunectl.errors import ExitCode
from prunectl.store.db.ingest import ingest
from prunectl.store.locks import Lock
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.events import Note, ends_with, read_events
from prunectl.store.records.journal import Journal
from prunectl.store.records.plan import current_studies, write_plans
from prunectl.store.records.stage import read_result
from prunectl.store.records.store_format import list_unsealed, read_format, record_files
from prunectl.store.verify import verify
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
    command = (word.replace(*EVERY_VERSION) for word in question["command"])
    done = here(*(word.replace(", n_needed,", ",") for word in command))
    out: Any = DIGITS.sub("", done.stdout)
    if not isinstance(question["out"], str):
        out = json.loads(out)
        out = current(out) if question["command"][0] == "rank" else out
        out = in_order(question, out)
    err = "".join(
        line
        for line in done.stderr.splitlines(keepends=True)
        if not line.startswith("note: ") or "no checksum" not in line
    )
    return {"code": done.returncode, "out": out, "err": err}


def in_order(question: dict[str, Any], rows: Any) -> Any:
    """The rows by cell, where they were ordered by what is judged anew."""
    if " FROM ranking" not in " ".join(question["command"]):
        return rows
    return sorted(rows, key=lambda row: (row["plan"], row["cell"], row["iteration"]))


def compared(question: dict[str, Any]) -> tuple[str, ...]:
    """The exit code and what is on stdout. stderr is narration, but for the verdict of `verify`: a database of an
    older schema says there that it is made anew."""
    return ("code", "out", "err") if question["command"] == ["store", "verify"] else ("code", "out")


def ask(here: Here, questions: list[dict[str, Any]]) -> list[str]:
    """Where the answers are not the same."""
    found = []
    for question in questions:
        then = {name: question[name] for name in compared(question)}
        then["out"] = in_order(question, then["out"])
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


def test_records_without_checksums_are_listed_once_and_get_them_when_asked(
    here: Here, old: OldStore, monkeypatch: Any
) -> None:
    """And the answers are the same, from tables made anew of sealed records."""
    monkeypatch.chdir(old.folder)
    paths = StorePaths(old.folder / "store")
    questions = [
        each
        for each in old.answers["questions"]
        if each["command"][0] in ("sql", "rank")
        and "FROM ingested" not in " ".join(each["command"])
    ]
    assert ask(here, questions) == []
    listed = read_format(paths).unsealed
    assert len(listed) == len(list(record_files(paths)))
    done = here("store", "verify")
    assert (done.returncode, f"{len(listed)} records" in done.stderr) == (0, True), done.stderr
    done = here("store", "verify", "--seal")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(listed)} records got their checksums" in done.stderr
    assert read_format(paths).unsealed == ()
    assert list(list_unsealed(paths)) == []
    # But for the records of ends as they stand in the log, which vouch for more now.
    assert [text for text in ask(here, questions) if "digest_before" not in text] == []
    for path in paths.stages.glob("*/result.json"):
        result = read_result(StagePaths(path.parent))
        assert result.lines_before
        assert ends_with(read_events(path.parent / "events.jsonl"), result)
    before = {path: path.read_bytes() for path in record_files(paths)}
    assert "0 records got" in here("store", "verify", "--seal").stderr
    assert before == {path: path.read_bytes() for path in record_files(paths)}


def test_sealing_that_was_kept_from_the_database_is_done_again(here: Here, old: OldStore) -> None:
    """Which else took every log for another than it had read."""
    paths = StorePaths(old.folder / "store")
    ingest(paths)
    command = ("store", "verify", "--seal", "--store", str(paths.root))
    with Lock(paths.database_lock):
        done = here(*command)
    assert done.returncode == ExitCode.STORE
    assert "is locked" in done.stderr
    done = here(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_format(paths).unsealed == ()
    assert ingest(paths).left_out == []


def test_beside_a_scheduler_of_that_version_nothing_is_taken_for_damaged(old: OldStore) -> None:
    """It goes on writing records without checksums, also after this version has handed it a plan."""
    paths = StorePaths(old.folder / "store")
    [study, *_] = current_studies(paths)
    with Lock(paths.scheduler_lock):
        write_plans(paths, [study])
        assert not paths.format.exists()
    ingest(paths)
    assert paths.format.exists()


def test_a_folder_that_is_mistyped_is_not_made_a_store(here: Here, tmp_path: Path) -> None:
    done = here("store", "verify", "--seal", "--store", tmp_path / "typo")
    assert done.returncode == ExitCode.STORE
    assert not (tmp_path / "typo").exists()


def test_what_lost_its_checksum_or_never_had_one_is_damaged(old: OldStore) -> None:
    """Once it is known which records have none: also a line after a log's first one with a checksum."""
    paths = StorePaths(old.folder / "store")
    ingest(paths)
    [stage, *_] = sorted(path.parent for path in paths.stages.glob("*/result.json"))
    new = paths.runs / "20990101-000000-abcd.json"
    shutil.copy(next(paths.runs.glob("*.json")), new)
    log = paths.stage(stage.name).events
    with contextlib.closing(Journal(log)) as journal:
        journal.append(Note(text="sealed"))
    with log.open("a") as file:
        file.write('{"type":"note","seq":9999,"attempt":9,"time":9,"text":"not sealed"}\n')
    found = verify(paths).problems
    assert any(f"{new} has no checksum" in text for text in found)
    assert any("has a line at byte" in text and "no checksum" in text for text in found)
    assert len(found) == 2, found
    assert [record.text for record in read_events(log).records if isinstance(record, Note)] == [
        "sealed"
    ]


def test_a_result_that_its_log_does_not_bear_out_is_not_sealed(here: Here, old: OldStore) -> None:
    paths = StorePaths(old.folder / "store")
    [stage, *_] = sorted(path.parent for path in paths.stages.glob("*/final.safetensors"))
    result = stage / "result.json"
    result.write_text(re.sub(r'"loss":\d', '"loss":7', result.read_text(), count=1))
    done = here("store", "verify", "--seal", "--store", str(paths.root))
    assert done.returncode == 3
    assert f"{result} is not what events.jsonl says of the stage's end" in done.stdout
    assert read_format(paths).unsealed == (
        f"stages/{stage.name}/events.jsonl", f"stages/{stage.name}/result.json",
    )  # fmt: skip

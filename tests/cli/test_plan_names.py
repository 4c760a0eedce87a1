"""A plan's name is one study: its versions stay apart, and another study of the name is refused or named anew."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prunectl as package
from prunectl.plan.expand import expand
from prunectl.plan.load import load
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import plan_versions, write_plans
from tests.cli.conftest import Done
from tests.support.tiny_plans import tiny_plan

Here = Callable[..., Done]

TINY = tiny_plan(seeds=(0,), strategies=("fine-tune",), iterations=1)
OTHER = TINY.replace('"lenet-300-100"', '"convnet"').replace("toy", "other")
"""Another network on another data set: another study."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StorePaths:
    """A folder with tiny.toml, which the store has as run, and not trained."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)
    paths = StorePaths(tmp_path / "store")
    write_plans(paths, [expand(load(Path("tiny.toml")), None).study()])
    return paths


def versions(paths: StorePaths) -> dict[str, list[str]]:
    """The files of each plan's versions, number 1 first."""
    return {
        name: [study.file for study in each.studies] for name, each in plan_versions(paths).items()
    }


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_another_study_of_the_name_is_refused(here: Here, store: StorePaths) -> None:
    Path("other.toml").write_text(OTHER)
    Path("fine.toml").write_text(OTHER.replace('name = "tiny"', 'name = "fine"'))
    before = content(store.root)
    for words in (("other.toml",), ("fine.toml", "other.toml")):
        done = here("run", *words, "--plain")
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: other.toml:2: name: tiny is another study in ")
    assert "there:   tiny.toml: lenet-300-100 on toy, 1 trial" in done.stderr
    assert "here:    other.toml: convnet on other, 1 trial" in done.stderr
    assert "--as NAME" in done.stderr
    assert "--new-version" in done.stderr
    assert content(store.root) == before
    shown = here("show", "other.toml", "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["trials"] == 1
    assert "`prunectl run` refuses this: other.toml:2: name: tiny is another study" in shown.stderr


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("elsewhere/tiny.toml", ("lenet-300-100", "convnet")),  # the same name of the file
        ("changed.toml", ("lr = 0.05", "lr = 0.01")),
        ("changed.toml", ('["lenet-300-100"]', '["convnet", "lenet-300-100"]')),  # one in common
        ("tiny.toml", None),
    ],
)
def test_what_continues_a_study_is_a_version_of_it(
    here: Here, store: StorePaths, file: str, change: tuple[str, str] | None
) -> None:
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text(TINY.replace(*change) if change else TINY)
    assert "refuses" not in here("show", file).stderr


def test_one_thing_in_common_is_not_enough(here: Here, store: StorePaths) -> None:
    """The network alone, or the data set alone."""
    for change in (("lenet-300-100", "convnet"), ("toy", "other")):
        Path("other.toml").write_text(TINY.replace(*change))
        assert "refuses" in here("show", "other.toml").stderr


def test_another_name_is_as_if_it_stood_in_the_file(here: Here, store: StorePaths) -> None:
    Path("other.toml").write_text(OTHER)
    named = json.loads(here("show", "other.toml", "--as", "other", "--json").stdout)
    Path("named.toml").write_text(OTHER.replace('name = "tiny"', 'name = "other"'))
    assert (
        named["trial_list"] == json.loads(here("show", "named.toml", "--json").stdout)["trial_list"]
    )
    assert here("show", "other.toml", "--as", "other").stderr == ""
    assert Path("other.toml").read_text() == OTHER
    # What TOML reads as a number is a name like others, and the last word is that of --as.
    assert here("show", "other.toml", "--as", "1e5", "--set", "name=z").stdout.startswith("1e5 ")


@pytest.mark.parametrize("command", ["run", "show"])
def test_a_bad_name_is_refused_as_in_the_file(here: Here, store: StorePaths, command: str) -> None:
    before = content(store.root)
    for name in ("A B", "", "x" * 65, 'q"', "é"):
        done = here(command, "tiny.toml", "--as", name)
        assert done.returncode == 2
        assert done.stderr.startswith("error: --as: String should")
    assert content(store.root) == before


def test_one_name_is_for_one_plan(here: Here, store: StorePaths) -> None:
    Path("other.toml").write_text(OTHER)
    for words in (("run", "tiny.toml", "other.toml"), ("show", "--trial", "0")):
        done = here(*words, "--as", "z")
        assert done.returncode == 2
        assert "--as" in done.stderr
    assert versions(store) == {"tiny": ["tiny.toml"]}


def accuracies(paths: StorePaths) -> list[float]:
    rows: list[dict[str, Any]] = package.open(paths.root).sql(
        "SELECT accuracy FROM iterations_all WHERE iteration = 1 ORDER BY version"
    )
    return [row["accuracy"] for row in rows]


def test_versions_are_never_averaged(
    here: Here, store: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two learning rates under one name, then a study of its own as the third version; run for real."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    Path("other.toml").write_text(OTHER)
    runs = (
        ("tiny.toml",),
        ("tiny.toml", "--set", "recipe.schedule.lr=0.0005"),
        ("other.toml", "--new-version"),
    )
    for words in runs:
        done = here("run", *words, "--plain", "--devices", "cpu")
        assert done.returncode == 0, done.stderr
    assert versions(store) == {"tiny": ["tiny.toml", "tiny.toml", "other.toml"]}
    assert len(set(accuracies(store))) == 3
    current = package.open(store.root).iterations("tiny")
    assert [(row["iteration"], row["network"]) for row in current] == [
        (0, "convnet"),
        (1, "convnet"),
    ]
    sql = "SELECT strategy, target_sparsity, count(*) AS n, avg(accuracy) AS a FROM iterations GROUP BY ALL"
    answer = json.loads(here("sql", sql, "--format", "json").stdout)
    assert {row["n"] for row in answer} == {1}
    assert accuracies(store)[2] in {row["a"] for row in answer}
    # A version that was there before is used again without a word, and is the current one then.
    done = here("run", *runs[1], "--plain")
    assert (done.returncode, "all 1 trials are done" in done.stderr) == (0, True)
    said = here("status").stdout
    assert re.findall(r"^tiny v\d: .*$", said, re.M) == [
        f"tiny v{number}: {file}, 1 trial, last run {moment}; {what}"
        for (number, file, what), moment in zip(
            (
                (1, "tiny.toml", "prunectl rank tiny --version 1"),
                (2, "tiny.toml", "current"),
                (3, "other.toml", "prunectl rank tiny --version 3"),
            ),
            re.findall(r"last run (\S+ \S+);", said),
            strict=True,
        )
    ]
    every = here("rank", "--all").stdout
    assert re.findall(r"^(tiny v\d)(?: \(not current\))? · (\S+)", every, re.M) == [
        ("tiny v2", "lenet-300-100"), ("tiny v3", "convnet"), ("tiny v1", "lenet-300-100")
    ]  # fmt: skip
    shown = here("rank", "tiny", "--version", "3", "--format", "json").stdout
    assert {row["network"] for row in json.loads(shown)} == {"convnet"}
    trials = package.open(store.root).sql("SELECT DISTINCT version, trial FROM iterations_all")
    assert len(trials) == 3
    for row in trials:
        shown = here("show", "--trial", row["trial"]).stdout
        assert f"plan        tiny v{row['version']}, version " in shown
    # The study of its own goes on from where it was.
    assert here("run", "other.toml", "--plain", "--devices", "cpu").returncode == 0


def test_an_imported_version_is_told(here: Here, store: StorePaths, tmp_path: Path) -> None:
    Path("other.toml").write_text(OTHER)
    away = StorePaths(tmp_path / "away")
    write_plans(away, [expand(load(Path("other.toml")), None).study()])
    assert (
        here("export", "--study", "tiny", "--out", "parcel", "--store", away.root).returncode == 0
    )
    done = here("import", "parcel")
    assert done.returncode == 0
    assert "has 2 versions now: what was taken is version 2, current is version 1" in done.stderr
    assert versions(store) == {"tiny": ["tiny.toml", "other.toml"]}
    assert "was here already" not in here("import", "parcel").stderr
    assert os.listdir(store.stages) == [] if store.stages.exists() else True


def test_the_last_versions_are_listed(here: Here, store: StorePaths) -> None:
    for seed in range(1, 8):
        write_plans(store, [expand(load(Path("tiny.toml"), [f"seeds=[{seed}]"]), None).study()])
    write_plans(store, [expand(load(Path("tiny.toml")), None).study()])
    said = here("status").stdout
    assert "tiny: 2 earlier versions, which --json lists" in said
    assert re.findall(r"^tiny v(\d): .*?(; current)?$", said, re.M) == [
        ("1", "; current"),
        *((number, "") for number in "45678"),
    ]
    (plan,) = json.loads(here("status", "--json").stdout)["plans"]
    assert (plan["version"], [each["number"] for each in plan["versions"]]) == (1, [*range(1, 9)])

"""Mistakes end with one message, their exit code, no traceback, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import TINY, Done

Here = Callable[..., Done]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[recipe]", "[recipe", "tiny.toml:19: not valid TOML"),
        ("seeds", "seds", "tiny.toml:3: seds: unknown key"),
        ("lenet-300-100", "lenet-300", "did you mean: lenet-300-100"),
        ('["toy"]', '["toyy"]', "did you mean: toy"),
        ('"weight-rewind"]', '"weight-rewnd"]', "did you mean: weight-rewind"),
        ("batch = 64", 'batch = "64"', "tiny.toml:21: recipe.batch: should be a valid integer"),
        ("rate = 0.5, iterations = 2", "sparsities = [1.2]", "should be less than 1"),
        ('network = ["lenet-300-100"]', "network = []", "grid.network"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "distinct"),
        ('"fine-tune",', '"fine-tune", "fine-tune",', "duplicate: fine-tune"),
    ],
)
def test_a_bad_plan(here: Here, tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in TINY
    (tmp_path / "tiny.toml").write_text(TINY.replace(old, new, 1))
    done = here("run", "tiny.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert os.listdir(tmp_path) == ["tiny.toml"]


def test_a_missing_plan(here: Here, tmp_path: Path) -> None:
    done = here("run", "none.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: none.toml: no such plan file\n"
    assert os.listdir(tmp_path) == []


def test_missing_data_files_are_named(here: Here, plan: Path, tmp_path: Path) -> None:
    done = here(
        "run",
        plan,
        "--store",
        tmp_path / "store",
        "--data",
        tmp_path / "data",
        "--set",
        'grid.dataset=["cifar10"]',
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "data_batch_1" in last
    assert str(tmp_path / "data" / "cifar-10-batches-py") in last
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.isdir("/proc"), reason="root writes anywhere")
def test_an_unwritable_store(here: Here, plan: Path) -> None:
    done = here("run", plan, "--store", "/proc/prunectl")
    assert done.returncode == 3
    assert "/proc/prunectl" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_is_a_file(here: Here, plan: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    done = here("run", plan, "--store", tmp_path / "store")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert (tmp_path / "store").read_text() == "not a folder"


@pytest.mark.parametrize("command", [["status"], ["rank"], ["sql", "select 1"]])
def test_a_store_that_is_not_there(here: Here, tmp_path: Path, command: list[str]) -> None:
    done = here(*command, "--store", tmp_path / "nothing")
    assert done.returncode == 3
    assert "prunectl run" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_an_unknown_device(here: Here, plan: Path, tmp_path: Path) -> None:
    done = here("run", plan, "--store", tmp_path / "store", "--devices", "cuda:7")
    assert done.returncode == 2
    assert "unknown device 'cuda:7'" in done.stderr
    assert not (tmp_path / "store").exists()

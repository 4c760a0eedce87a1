"""From a plan to a ranked table, with real workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prunectl.store.paths import StorePaths
from prunectl.worker.checkpoint import load_state
from tests.cli.conftest import TINY, prunectl


def sql(store: Path, query: str) -> list[dict[str, Any]]:
    done = prunectl("sql", query, "--format", "json", "--store", store)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny plan, run to its end with two workers in `store`."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "tiny.toml").write_text(TINY)
    done = prunectl("run", "tiny.toml", "--slots", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "run.out").write_text(done.stdout)
    (folder / "run.err").write_text(done.stderr)
    return folder


def test_every_trial_has_all_its_iterations_once(world: Path) -> None:
    rows = sql(
        world / "store",
        "select strategy, seed, iteration, kept, prunable, accuracy from iterations order by all",
    )
    assert len(rows) == 2 * 2 * 3
    dense = rows[0]["prunable"]
    assert dense == 64 * 300 + 300 * 100 + 100 * 4
    for row in rows:
        assert row["kept"] == round(dense / 2 ** row["iteration"])
        assert 0 <= row["accuracy"] <= 100


def test_stdout_is_the_table_and_stderr_the_story(world: Path) -> None:
    out, err = (world / "run.out").read_text(), (world / "run.err").read_text()
    assert "fine-tune" in out
    assert "weight-rewind" in out
    assert "done 10/10" in err
    assert "trials: 4 done" in err


def test_the_dense_stage_is_trained_once_per_seed(world: Path) -> None:
    stages = sql(world / "store", "select count(*) n from stages where iteration = 0")
    assert stages == [{"n": 2}]


def test_the_same_plan_again_is_all_done_at_once(world: Path) -> None:
    done = prunectl("run", "tiny.toml", cwd=world)
    assert done.returncode == 0
    assert "all 4 trials are done" in done.stderr
    assert done.stdout == (world / "run.out").read_text()


def test_another_number_of_workers_gives_the_same_bits(world: Path, tmp_path: Path) -> None:
    done = prunectl("run", world / "tiny.toml", "--slots", "1", "--store", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    one, two = StorePaths(tmp_path / "one"), StorePaths(world / "store")
    keys = sorted(path.name for path in two.stages.iterdir())
    assert keys == sorted(path.name for path in one.stages.iterdir())
    for key in keys:
        first, second = load_state(one.stage(key).final), load_state(two.stage(key).final)
        assert all(value.equal(second.weights[name]) for name, value in first.weights.items())
    query = "select * exclude (seconds, time, attempt) from epochs order by stage, epoch"
    assert sql(one.root, query) == sql(two.root, query)


def test_a_new_strategy_trains_only_its_own_stages(world: Path, tmp_path: Path) -> None:
    """And replays to a rewind point that was not kept."""
    store = tmp_path / "store"
    only = 'grid.strategy=["fine-tune"]'
    first = prunectl(
        "run", world / "tiny.toml", "--store", store, "--set", only, "--set", "seeds=[0]"
    )
    assert first.returncode == 0, first.stderr
    paths = StorePaths(store)
    for path in paths.stages.glob("*/rewind-*"):
        path.unlink()
    before = {path: path.read_bytes() for path in paths.stages.glob("*/result.json")}
    more = ["--set", 'grid.strategy=["fine-tune","weight-rewind"]', "--set", "seeds=[0]"]
    shown = prunectl("show", world / "tiny.toml", "--store", store, "--json", *more)
    preview = json.loads(shown.stdout)
    assert (preview["stages"], preview["stages_done"]) == (5, 3)
    assert len(preview["replays"]) == 1
    assert preview["steps_to_run"] == 2 * 12 + preview["replays"][0]["steps"]
    second = prunectl("run", world / "tiny.toml", "--store", store, *more)
    assert second.returncode == 0, second.stderr
    after = {path: path.read_bytes() for path in paths.stages.glob("*/result.json")}
    assert len(after) == 3 + 2 + 1
    assert all(after[path] == content for path, content in before.items())
    full = StorePaths(world / "store")
    for path in paths.stages.iterdir():
        if (path / "final.safetensors").exists():
            mine, theirs = (
                load_state(path / "final.safetensors"),
                load_state(full.stage(path.name).final),
            )
            assert all(value.equal(theirs.weights[name]) for name, value in mine.weights.items())


def test_show_states_the_saving(world: Path) -> None:
    shown = prunectl("show", "tiny.toml", cwd=world)
    assert shown.returncode == 0
    assert "Which is best on a toy?" in shown.stdout
    assert "10  (12 without sharing)" in shown.stdout
    steps = 2 * 16 + 2 * 2 * 16 + 2 * 2 * 12
    assert f"{steps}  ({steps + 2 * 16} without sharing" in shown.stdout
    assert "0 stages, 0 steps" in shown.stdout


def test_rank_for_scripts(world: Path) -> None:
    done = prunectl("rank", "--format", "json", cwd=world)
    cells = json.loads(done.stdout)
    assert {cell["strategy"] for cell in cells} == {"dense", "fine-tune", "weight-rewind"}
    assert {cell["n"] for cell in cells} == {2}
    markdown = prunectl("rank", "--format", "md", cwd=world).stdout
    assert markdown.startswith("| method |")


def test_status(world: Path) -> None:
    done = prunectl("status", "--json", cwd=world)
    state = json.loads(done.stdout)
    assert state["scheduler"]["alive"] is False
    assert state["counts"]["done"] == 4
    assert "no scheduler is running" in prunectl("status", cwd=world).stdout

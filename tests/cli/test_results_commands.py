"""plot, export, import, show --trial, rank --summary and --variance, and SQL's mistakes, on one small real run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import prunectl as package
from prunectl.ml.networks.build import build
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import NetworkSettings
from prunectl.store import archive
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest
from prunectl.store.paths import StorePaths
from prunectl.worker.checkpoint import load_masks, load_state
from tests.cli.conftest import TINY, Done, prunectl
from tests.support.bundles import writable_copy
from tests.support.fake_store import FakeStore
from tests.support.records import read_json, write_json

Here = Callable[..., Done]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny plan with one seed, done, in `store`, in a folder that other tests must not change."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.toml").write_text(TINY)
    done = prunectl("run", "tiny.toml", "--set", "seeds=[3]", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of its store."""
    shutil.copytree(made / "store", tmp_path / "store")
    return tmp_path / "store"


def trial_of(store: Path, strategy: str) -> str:
    sql = "SELECT trial FROM trials WHERE strategy = $1"
    return str(query.run(StorePaths(store), sql, [strategy]).rows[0][0])


# export TRIAL


@pytest.mark.parametrize("iteration", [0, 1, 2])
def test_an_exported_network_loads_and_is_the_stages_own(
    here: Here, store: Path, tmp_path: Path, iteration: int
) -> None:
    trial = trial_of(store, "weight-rewind")
    file = tmp_path / "out" / "net.safetensors"
    done = here("export", trial[:8], "-k", str(iteration), "--out", file, "--store", store)
    assert done.returncode == 0, done.stderr

    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    network = build(NetworkSettings(**json.loads(metadata["network"])))
    network.load_state_dict(load_file(file))

    key = metadata["stage"]
    stage = StorePaths(store).stage(key)
    state = load_state(stage.final)
    assert all(network.state_dict()[name].equal(value) for name, value in state.weights.items())
    result = read_json(stage.result)
    assert float(metadata["accuracy"]) == result["metrics"]["accuracy"] == result["score"]
    assert float(metadata["sparsity"]) == 1 - result["kept"] / result["prunable"]
    assert (metadata["trial"], metadata["iteration"]) == (trial, str(iteration))
    mask_file = file.with_suffix(".mask.safetensors")
    assert done.stdout.splitlines() == [str(file), *([str(mask_file)] if iteration else [])]
    if iteration:
        masks, theirs = load_file(mask_file), load_masks(stage.mask)
        assert all(masks[name].equal(mask) for name, mask in theirs.items())
        assert sum(int(mask.sum()) for mask in masks.values()) == result["kept"]
        weights = dict(network.named_parameters())
        assert not any(torch.any(weights[name][~mask]) for name, mask in masks.items())


def test_readmes_lines_load_an_exported_network(
    here: Here, store: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(
        "export",
        trial_of(store, "fine-tune"),
        "--out",
        "NAME.safetensors",
        "--store",
        store,
        cwd=tmp_path,
    )
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(next(block for block in blocks if "NAME.safetensors" in block), names)
    kept = sum(int(weight.count_nonzero()) for weight in names["network"].state_dict().values())
    assert 0 < kept < sum(weight.numel() for weight in names["network"].state_dict().values())


def test_a_trial_of_an_unreadable_plan_record_is_an_error_without_a_traceback(
    here: Here, store: Path
) -> None:
    trial = trial_of(store, "fine-tune")
    record = next(StorePaths(store).plans.glob("*.json"))
    write_json(record, read_json(record) | {"stages": 3})
    done = here("show", "--trial", trial, "--store", store)
    assert done.returncode == 3
    assert f"{record} is malformed: Expected `object`, got `int`" in done.stderr


def test_export_names_the_file_and_takes_the_last_iteration(
    here: Here, store: Path, tmp_path: Path
) -> None:
    trial = trial_of(store, "fine-tune")
    done = here("export", trial, "--store", store, cwd=tmp_path)
    name = f"tiny-lenet-300-100-fine-tune-seed3-{trial[:8]}-k2"
    assert done.stdout.split() == [f"{name}.safetensors", f"{name}.mask.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "ffffffffff"], "no trial 'ffffffffff'"),
        (["export"], "give either a TRIAL or --study PLAN"),
        (["export", "--study", "tinny"], "did you mean 'tiny'?"),
        (["show", "--trial", "ffffffffff"], "no trial 'ffffffffff'"),
        (["show"], "give a PLAN, or --trial"),
        (["plot", "--out", "a.gif"], "unknown suffix '.gif'"),
        (["plot", "nope"], "no plan 'nope'"),
    ],
)
def test_mistakes(here: Here, store: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    done = here(*arguments, "--store", store, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_an_iteration_there_is_not(here: Here, store: Path) -> None:
    done = here("export", trial_of(store, "fine-tune"), "-k", "7", "--store", store)
    assert done.returncode == 2
    assert "has the iterations 0 … 2, not 7" in done.stderr


def test_a_damaged_checkpoint_is_not_exported(here: Here, store: Path, tmp_path: Path) -> None:
    trial = trial_of(store, "fine-tune")
    for path in StorePaths(store).stages.glob("*/final.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    done = here("export", trial, "--out", tmp_path / "a", "--store", store)
    assert done.returncode == 3
    assert "final.safetensors is not what its checksum says" in done.stderr


# export --study, import


@pytest.fixture(scope="module")
def folder(made: Path) -> Path:
    """The study as a folder; not to be changed."""
    out = made / "parcel"
    done = prunectl("export", "--study", "tiny", "--out", out, "--store", made / "store")
    assert done.returncode == 0, done.stderr
    assert "5 done stages" in done.stderr
    return out


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_study_goes_to_another_store_whole(
    here: Here, made: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    done = here("import", folder, "--store", other)
    assert done.returncode == 0, done.stderr
    assert "5 stages taken, 0 were here already" in done.stderr
    assert contents(other / "stages") == contents(made / "store" / "stages")
    for command in (["rank"], ["sql", "SELECT * FROM iterations ORDER BY ALL", "--format", "csv"]):
        theirs, ours = (
            here(*command, "--store", where).stdout for where in (other, made / "store")
        )
        assert theirs == ours
    again = here("import", folder, "--store", other)
    assert "0 stages taken, 5 were here already" in again.stderr
    (made / "again.toml").write_text(TINY)
    run = here("run", made / "tiny.toml", "--set", "seeds=[3]", "--store", other)
    assert "all 2 trials are done" in run.stderr


def test_its_tables_are_those_of_the_store(folder: Path, made: Path) -> None:
    names = {path.name for path in (folder / "tables").iterdir()}
    tables = ("iterations", "leaderboard", "epochs", "layers", "stages")
    assert names == {f"{name}{suffix}" for name in tables for suffix in (".csv", ".parquet")}
    lines = (folder / "tables" / "iterations.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3


def test_what_is_damaged_is_not_vouched_for_by_a_bundle(
    here: Here, store: Path, tmp_path: Path
) -> None:
    path = sorted(store.glob("stages/*/final.safetensors"))[0]
    data = bytearray(path.read_bytes())
    data[-4] ^= 1
    path.write_bytes(data)
    done = here("export", "--study", "tiny", "--out", tmp_path / "out", "--store", store)
    assert done.returncode == 3
    assert "is not what its checksum says" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_damaged_version_is_told_of_where_an_older_one_is_exported(
    here: Here, store: Path, tmp_path: Path
) -> None:
    [path] = store.glob("plans/*.json")
    newer = path.with_name("0" * 16 + ".json")
    newer.write_bytes(path.read_bytes().replace(b"tiny", b"tony"))
    done = here("export", "--study", "tiny", "--out", tmp_path / "out", "--store", store)
    assert done.returncode == 0
    assert f"{newer} is not what its checksum says: if it is a version of tiny" in done.stderr


def test_a_tampered_file_is_refused_by_name_and_nothing_is_taken(
    here: Here, folder: Path, tmp_path: Path
) -> None:
    bad = writable_copy(folder, tmp_path / "bad")
    victim = sorted(bad.glob("stages/*/events.jsonl"))[2]
    victim.write_bytes(victim.read_bytes() + b"\n")
    done = here("import", bad, "--store", tmp_path / "other")
    assert done.returncode == 3
    assert str(victim) in done.stderr
    assert "checksum" in done.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("how", ["missing", "escapes", "other stage", "unsealed", "newer"])
def test_a_folder_that_is_not_what_it_says_is_refused(
    here: Here, folder: Path, tmp_path: Path, how: str
) -> None:
    bad = writable_copy(folder, tmp_path / "bad")
    manifest = read_json(bad / archive.MANIFEST)
    first, second = sorted(path.parent for path in bad.glob("stages/*/result.json"))[:2]
    says = {
        "missing": "cannot read",
        "escapes": "which no exported study has",
        "other stage": "another stage",
        "unsealed": "is no exported study",
        "newer": "knows formats up to 2",
    }[how]
    if how == "missing":
        (first / "spec.json").unlink()
    elif how == "escapes":
        manifest["files"]["../outside"] = {"bytes": 1, "sha256": "0"}
    elif how == "other stage":
        # Even with checksums made to fit: a stage's key is the checksum of what it is.
        shutil.copy(second / "spec.json", first / "spec.json")
        name = f"stages/{first.name}/spec.json"
        manifest["files"][name] = manifest["files"][f"stages/{second.name}/spec.json"]
    elif how == "newer":
        manifest["format"] = archive.FORMAT + 1
    write_json(bad / archive.MANIFEST, manifest)
    if how == "unsealed":
        (bad / archive.MANIFEST).unlink()
    done = here("import", bad, "--store", tmp_path / "other")
    assert done.returncode == 3
    assert says in done.stderr
    assert not (tmp_path / "other").exists()


def test_what_is_done_here_stays_and_a_difference_is_said(
    here: Here, folder: Path, store: Path
) -> None:
    paths = StorePaths(store)
    mine, lost = sorted(paths.stages.iterdir())[:2]
    result = read_json(mine / "result.json") | {"score": 12.5}
    write_json(mine / "result.json", result)
    shutil.rmtree(lost)
    ingest(paths)
    done = here("import", folder, "--store", store)
    assert done.returncode == 0
    assert "1 stages taken, 4 were here already" in done.stderr
    assert "12.5 here; what is here stays" in done.stderr
    assert read_json(mine / "result.json") == result | {"sum": ANY}
    assert contents(lost) == contents(folder / "stages" / lost.name)


def test_a_stage_that_was_begun_here_is_replaced(here: Here, folder: Path, store: Path) -> None:
    paths = StorePaths(store)
    key = sorted(path.name for path in paths.stages.iterdir())[0]
    stage = paths.stage(key)
    stage.result.unlink()
    stage.latest.write_bytes(b"begun")
    done = here("import", folder, "--store", store)
    assert "1 stages taken" in done.stderr
    assert contents(stage.folder) == contents(folder / "stages" / key)
    assert query.run(paths, "SELECT done FROM stages WHERE stage = $1", [key]).rows == [(True,)]


def test_a_folder_that_is_not_empty_is_not_written_to(
    here: Here, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    done = here("export", "--study", "tiny", "--out", tmp_path / "full", "--store", store)
    assert done.returncode == 2
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


# show --trial


def test_show_says_how_to_repeat_a_trial(here: Here, made: Path, tmp_path: Path) -> None:
    store = made / "store"
    trial = trial_of(store, "weight-rewind")
    done = here("show", "--trial", trial[:6], "--store", store, cwd=made)
    assert done.returncode == 0
    assert f"prunectl run tiny.toml --set 'seeds=[3]' --store {store}" in done.stdout
    assert "which is unchanged" in done.stdout
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8-sig")
    marked = here("show", "--trial", trial[:6], "--store", store, cwd=tmp_path)
    assert "which is unchanged" in marked.stdout
    facts = json.loads(here("show", "--trial", trial, "--store", store, "--json").stdout)
    assert facts["plan_text"] == TINY
    assert [stage["state"] for stage in facts["stages"]] == ["done"] * 3
    assert facts["stages"][0]["result"]["versions"]["torch"] == torch.__version__
    (run,) = facts["runs"]
    assert run["prunectl"] == package.__version__
    assert run["devices"] == ["cpu"]
    assert here("show", "--trial", trial, "--store", store, "--plan-text").stdout == TINY


def test_the_record_of_a_run_fills_the_columns_of_runs(store: Path) -> None:
    (row,) = query.run(StorePaths(store), "SELECT * FROM runs").dicts()
    empty = {name for name, value in row.items() if value in (None, [], "", "[]")}
    # Not in a repository, and no CUDA device.
    assert empty <= {"git_commit", "git_dirty", "driver"}
    sql = "SELECT p.text FROM runs r JOIN plans p ON list_contains(r.plans, p.digest)"
    assert query.run(StorePaths(store), sql).rows == [(TINY,)]


def test_a_drivers_version_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prunectl.store.records import provenance

    monkeypatch.setattr(provenance, "DRIVER_VERSION", tmp_path / "version")
    assert provenance.run_record("r", [], ["cuda:0"]).driver is None
    (tmp_path / "version").write_text("590.48.01\n")
    assert provenance.run_record("r", [], ["cuda:0"]).driver == "590.48.01"
    assert provenance.run_record("r", [], ["cpu"]).driver is None


# answers are up to date


def test_an_answer_has_what_no_scheduler_read_in(here: Here, store: Path) -> None:
    paths = StorePaths(store)
    lost = sorted(paths.stages.iterdir())[0]
    count = ["sql", "SELECT count(*) n FROM stages WHERE done", "--format", "csv", "--store", store]
    shutil.move(lost, store / "aside")
    assert here(*count).stdout == "n\n4\n"
    shutil.move(store / "aside", lost)
    assert here(*count).stdout == "n\n5\n"


def test_a_database_that_cannot_be_written_is_asked_all_the_same(
    here: Here, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunectl.errors import StoreError
    from prunectl.store.db import ingest as ingestion

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("cannot write results.duckdb: Read-only file system")

    monkeypatch.setattr(ingestion, "ingest", refuse)
    done = here("sql", "SELECT 1 AS one", "--format", "csv", "--store", store)
    assert (done.returncode, done.stdout) == (0, "one\n1\n")
    assert "may be behind: cannot write" in done.stderr


# rank --summary and plot


def test_summary_and_plot(here: Here, store: Path, tmp_path: Path) -> None:
    rows = json.loads(here("rank", "--summary", "--format", "json", "--store", store).stdout)
    assert {row["method"] for row in rows} == {"fine-tune", "weight-rewind"}
    assert {row["search_epochs"] for row in rows} == {8.0, 6.0}
    text = here("rank", "--summary", "--store", store).stdout
    assert "wins–ties–losses" in text
    for kind in ("accuracy", "layers"):
        done = here("plot", "--kind", kind, "--store", store, cwd=tmp_path)
        assert done.stdout == f"tiny-{kind}.png\n"
        assert (tmp_path / f"tiny-{kind}.png").read_bytes().startswith(b"\x89PNG")
    split = here("plot", "--split", "--out", tmp_path / "a.svg", "--store", store)
    assert Path(split.stdout.strip()).name.startswith("a-lenet-300-100-toy-")


# rank --variance


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which three seeds of init are crossed with two of order, with scores made up."""
    made = FakeStore(tmp_path_factory.mktemp("crossed"))
    seeds = [Seeds.of(init, order) for init in range(3) for order in range(2)]
    made.run(digests=(made.plan("crossed", seeds=seeds, sparsities=("0.2",)), made.plan("plain")))
    made.finish_all()
    return made.root


def test_variance_says_which_seeds_move_the_number(here: Here, crossed: Path) -> None:
    done = here("rank", "crossed", "--variance", "--store", crossed)
    assert (done.returncode, done.stdout.count("3 × 2")) == (0, 3)
    assert "standard deviations in points with 95 % intervals" in done.stdout
    rows = json.loads(
        here("rank", "crossed", "--variance", "--format", "json", "--store", crossed).stdout
    )
    assert {row["source"] for row in rows} == {"init + augment", "order", "interaction"}
    assert {(row["used"], row["planned"]) for row in rows} == {(6, 6)}
    assert len(rows) == 9
    text = here("rank", "crossed", "--variance", "--format", "md", "--store", crossed).stdout
    assert text.startswith("| method | sparsity | mean | grid |")
    plain = here("rank", "plain", "--variance", "--store", crossed)
    assert (plain.returncode, plain.stdout) == (0, "")
    assert "seeds are not apart" in plain.stderr
    both = here("rank", "crossed", "--variance", "--summary", "--store", crossed)
    assert both.returncode == 2


def test_tables_say_why_nothing_is_marked(here: Here, crossed: Path) -> None:
    for option in ([], ["--delta"], ["--summary"]):
        text = here("rank", "crossed", *option, "--store", crossed).stdout
        assert "no marks and no intervals where trials share seeds" in text
        assert "share seeds" not in here("rank", "plain", *option, "--store", crossed).stdout
    rows = json.loads(
        here("rank", "crossed", "--summary", "--format", "json", "--store", crossed).stdout
    )
    assert {(row["wins"], row["ties"], row["losses"]) for row in rows} == {(None, None, None)}
    sql = "SELECT seed, order_seed, augment_seed FROM trials WHERE plan = 'crossed' ORDER BY ALL"
    found = json.loads(here("sql", sql, "--format", "json", "--store", crossed).stdout)
    assert found[1] == {"seed": 0, "order_seed": 0, "augment_seed": 0}
    assert found[-1] == {"seed": 2, "order_seed": 1, "augment_seed": 2}


# SQL's mistakes


def test_bad_sql_is_answered_with_its_position(here: Here, store: Path) -> None:
    done = here("sql", "SELECT accurcy FROM iterations", "--store", store)
    assert done.returncode == 3
    assert "LINE 1: SELECT accurcy FROM" in done.stderr
    assert "^" in done.stderr
    assert '"accuracy"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "query", ["", " ; ", "-- the best\n", "/* a */", ["--file", "none.sql"]], ids=str
)
def test_sql_that_says_nothing_is_told_so(
    here: Here, store: Path, tmp_path: Path, query: str | list[str]
) -> None:
    (tmp_path / "none.sql").write_text("\ufeff-- nothing\n", encoding="utf-8")
    words = [query] if isinstance(query, str) else query
    done = here("sql", *words, "--store", store, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: no statement\n")


def test_a_query_may_begin_with_a_comment(here: Here, store: Path) -> None:
    for comment in ("-- the best\n", "--\tof all\n"):
        done = here("sql", f"{comment}SELECT 1 AS one", "--store", store, "--format", "csv")
        assert (done.returncode, done.stdout) == (0, "one\n1\n")


def test_a_file_of_sql_may_begin_with_a_byte_order_mark(
    here: Here, store: Path, tmp_path: Path
) -> None:
    file = tmp_path / "q.sql"
    file.write_text("SELECT 'é' AS e", encoding="utf-8-sig")
    command = (
        sys.executable,
        "-m",
        "prunectl.cli",
        "sql",
        "--store",
        str(store),
        "--format",
        "csv",
    )
    with file.open("rb") as stdin:
        piped = subprocess.run([*command, "-f", "-"], stdin=stdin, capture_output=True, check=True)
    done = here("sql", "-f", file, "--store", store, "--format", "csv")
    assert done.stdout == piped.stdout.decode() == "e\né\n"
    file.write_text("SELECT 1", encoding="utf-16")
    done = here("sql", "-f", file, "--store", store)
    assert done.returncode == 2
    assert "q.sql: it is not text in UTF-8" in done.stderr


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM epochs", "DROP TABLE epochs", "COPY epochs TO 'x.csv'", "SET threads = 2",
     "ATTACH 'x.duckdb'"],
)  # fmt: skip
def test_a_statement_that_writes_is_refused_with_a_sentence(
    here: Here, store: Path, tmp_path: Path, statement: str
) -> None:
    done = here("sql", statement, "--store", store, cwd=tmp_path)
    assert done.returncode == 3
    assert "queries only read the store" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["store"]

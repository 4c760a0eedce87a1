"""An archive is written by anybody: what it claims is checked before anything lands, and nothing that is here changes.

`python -m tests.full archives` tells every lie.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunectl.cli.support.plan_record import check_plan_record
from prunectl.errors import ExitCode, PrunectlError, StoreError
from prunectl.spec.key import Spec
from prunectl.spec.study import Study
from prunectl.store.archive import MANIFEST
from prunectl.store.db.ingest import ingest
from prunectl.store.import_study import Import
from prunectl.store.paths import StorePaths
from prunectl.store.records.archive import Manifest
from prunectl.store.records.base import encode, write_record
from prunectl.store.records.dataset import dataset_record
from prunectl.store.records.events import Epoch, Pruned, Start
from prunectl.store.records.plan import plan_versions, read_plan
from prunectl.store.records.provenance import RunRecord
from prunectl.store.records.result import Result
from prunectl.store.tensors import read_checked, write_tensors
from prunectl.store.verify import verify
from tests.cli.conftest import TINY, Done, prunectl
from tests.full import full
from tests.support.bundles import reseal, writable_copy
from tests.support.poison import variants
from tests.support.records import read_json, resealed, rewrite, write_json
from tests.support.typed_records import damaged, records

Here = Callable[..., Done]
ROWS = {
    "iterations_all": "plan, version, trial, iteration", "ranking": "ALL", "leaderboard": "ALL", "trials": "trial",
    "plan_versions": "ALL", "epochs": "stage, epoch",
}  # fmt: skip
"""What must not change."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores with studies of their own, and an archive of the first."""
    folder = tmp_path_factory.mktemp("import")
    (folder / "tiny.toml").write_text(TINY.replace("seeds = [0, 1]", "seeds = [0]"))
    (folder / "other.toml").write_text(
        TINY.replace('"tiny"', '"other"').replace("seeds = [0, 1]", "seeds = [5]")
    )
    for plan, store in (("tiny", "there"), ("other", "here")):
        done = prunectl("run", f"{plan}.toml", "--store", store, "--plain", cwd=folder)
        assert done.returncode == 0, done.stderr
    done = prunectl("export", "--study", "tiny", "--out", "par", "--store", "there", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def before(made: Path) -> dict[str, list[Any]]:
    """Rows of the other store's study."""
    return rows(StorePaths(made / "here"), "other")


@pytest.fixture
def par(made: Path, tmp_path: Path) -> Path:
    """A copy of the archive, to be changed."""
    return writable_copy(made / "par", tmp_path / "par")


@pytest.fixture
def paths(made: Path, tmp_path: Path) -> StorePaths:
    """A copy of the other store."""
    return StorePaths(Path(shutil.copytree(made / "here", tmp_path / "here")))


def rows(paths: StorePaths, plan: str = "%") -> dict[str, list[Any]]:
    """What tables and views hold, of plans whose name is like `plan` where they have plans."""
    assert not ingest(paths).busy
    own = {
        "epochs": "stage IN (SELECT stage FROM paths JOIN trials USING (trial) WHERE plan LIKE $1)"
    }
    with duckdb.connect(str(paths.database), read_only=True) as connection:
        return {
            name: connection.execute(
                f"SELECT * FROM {name} WHERE {own.get(name, 'plan LIKE $1')} ORDER BY {order}",
                [plan],
            ).fetchall()
            for name, order in ROWS.items()
        }


def stamps(paths: StorePaths) -> dict[str, tuple[int, int]]:
    """Size and time of every file of a store, which copies of it share as long as nothing is written."""
    found = {path.relative_to(paths.root).as_posix(): path.stat()
             for path in paths.root.rglob("*") if path.is_file() and paths.control not in path.parents}  # fmt: skip
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def take(par: Path, paths: StorePaths, **options: Any) -> list[str]:
    """Import as the command does; what it told."""
    told: list[str] = []
    done = Import(par, paths).run(partial(check_plan_record, tell=told.append), **options)
    return told + done.notes


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def a_linked_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to(path.parent.with_name("elsewhere"))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_terabyte(path: Path) -> None:
    os.truncate(path, 10**12)


def a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("pattern", ["plans/*.json", "stages/*/final.safetensors", MANIFEST])
@pytest.mark.parametrize("lie", [a_pipe, a_link, a_linked_folder, a_folder, a_terabyte, a_device])
def test_only_regular_files_are_read_and_no_more_of_them_than_is_listed(
    par: Path, tmp_path: Path, lie: Callable[[Path], None], pattern: str
) -> None:
    if lie is a_linked_folder and pattern == MANIFEST:
        pytest.skip("the archive itself may be a link")
    lie(next(par.glob(pattern)))
    began = time.monotonic()
    with pytest.raises(StoreError, match="refused"):
        take(par, StorePaths(tmp_path / "new"))
    assert time.monotonic() - began < 5
    assert not (tmp_path / "new").exists()


def a_selection(record: dict[str, Any]) -> dict[str, Any]:
    """A choice between the plan's two strategies, which its text knows nothing of."""
    options = list(dict.fromkeys(trial["cell"] for trial in record["trials"]))
    cells = [{"cell": "f" * 16, "options": options}]
    return {"strategy": "x@000000", "over": "lr_window", "by": "validation", "cells": cells}


def test_a_plan_that_calls_results_other_names_is_refused(par: Path, paths: StorePaths) -> None:
    """Though every checksum fits, its own and the manifest's."""
    [path] = par.glob("plans/*.json")
    other = {"fine-tune": "weight-rewind", "weight-rewind": "fine-tune"}
    for change in (
        lambda record: [t.update(strategy=other[t["strategy"]]) for t in record["trials"]],
        lambda record: [t.update(sparsities=["0", "0.9", "0.99"]) for t in record["trials"]],
        lambda record: record["trials"].pop(),
        lambda record: record.update(selections=[a_selection(record)]),
        lambda record: record.update(created=time.time() + 1e6),
    ):
        whole = path.read_bytes()
        record = read_json(path)
        change(record)
        write_json(path, record)
        reseal(par)
        with pytest.raises(StoreError, match="refused; nothing was taken"):
            take(par, paths)
        path.write_bytes(whole)


def test_what_is_taken_becomes_current_only_if_that_is_asked(
    made: Path, par: Path, tmp_path: Path
) -> None:
    """And no row that was here changes but for who is current."""
    paths = StorePaths(tmp_path / "mine")
    (tmp_path / "tiny.toml").write_text(TINY.replace("seeds = [0, 1]", "seeds = [0, 1]"))
    done = prunectl("run", "tiny.toml", "--store", paths.root, "--plain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = rows(paths)
    mine = plan_versions(paths)["tiny"].current.digest
    [theirs] = [path.stem for path in par.glob("plans/*.json")]
    [note] = take(par, paths)
    assert "--current makes it the current one" in note
    assert plan_versions(paths)["tiny"].current.digest == mine
    after = rows(paths)
    for name in ("ranking", "leaderboard", "trials", "epochs"):
        assert after[name] == before[name]
    there = read_plan(par / "plans" / f"{theirs}.json")
    here = read_plan(paths.plan(theirs))
    assert (here.made, here.used_there, here.trials) == (there.made, there.created, there.trials)
    assert verify(paths).problems == []
    [note] = take(par, paths, current=True)
    assert "version 1, which was here already, is the current one now" in note
    assert plan_versions(paths)["tiny"].current.digest == theirs
    paths.plan(theirs).unlink()
    take(par, paths, current=True)
    assert plan_versions(paths)["tiny"].current.digest == theirs


def test_it_says_first_what_it_takes(made: Path, tmp_path: Path) -> None:
    def here(*words: str | Path) -> Done:
        return prunectl("import", made / "par", "--store", tmp_path / "new", *words, cwd=tmp_path)

    done = here("--dry-run")
    assert (done.returncode, done.stdout) == (0, "")
    assert "tiny: would take 5 stages, 1 of labels/, 1 of plans/, 1 of runs/" in done.stderr
    done = here("--max-size", "0.0001")
    assert done.returncode == ExitCode.STORE
    assert "more than --max-size" in done.stderr
    assert not (tmp_path / "new").exists()
    assert here().returncode == 0
    assert not list((tmp_path / "new" / "control").glob("import-*"))


@pytest.mark.slow
def test_no_lie_changes_what_is_here(
    par: Path, paths: StorePaths, before: dict[str, list[Any]]
) -> None:
    """One value of a record is another, and all checksums fit: it is refused in a sentence or taken; nothing else."""
    outside = sorted(par.parent.iterdir())
    chance = random.Random(3)
    files = [
        next(par.glob(pattern))
        for pattern in ("plans/*.json", "runs/*.json", "stages/*/result.json", "stages/*/spec.json")
    ]
    lies = [(path, text) for path in files for text in variants(json.loads(path.read_text()))]
    taken, refused = 0, set[bool]()
    for path, text in lies if full() else chance.sample(lies, 40):
        whole = path.read_bytes()
        path.write_text(text if path.name == "spec.json" else resealed(text))
        reseal(par)
        fresh = Path(shutil.copytree(paths.root, paths.root.with_name("fresh")))
        try:
            take(par, StorePaths(fresh))
            taken += 1
            assert rows(StorePaths(fresh), "other") == before, text[:500]
        except PrunectlError as error:
            refused.add("\n" in str(error))
            assert stamps(StorePaths(fresh)) == stamps(paths), text[:500]
        shutil.rmtree(fresh)
        path.write_bytes(whole)
        assert sorted(par.parent.iterdir()) == outside
    assert refused == {False}, "a sentence each"
    print(f"{len(lies)} lies, {taken} of those tried were taken")


TYPES: list[tuple[str, str | None, type[msgspec.Struct]]] = [
    ("plans/*.json", None, Study), ("runs/*.json", None, RunRecord), ("stages/*/spec.json", None, Spec),
    ("stages/*/result.json", None, Result), (MANIFEST, None, Manifest), ("stages/*/events.jsonl", "start", Start),
    ("stages/*/events.jsonl", "epoch", Epoch), ("stages/*/events.jsonl", "pruned", Pruned),
    ("stages/*/events.jsonl", "done", Result),
]  # fmt: skip
"""Members of an archive, the type of a log's line, and what is declared of them."""


@settings(
    max_examples=1000 if full() else 20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(what=st.sampled_from(TYPES), data=st.data())
def test_a_member_of_its_declared_type_with_one_lie_stops_nothing(
    made: Path,
    before: dict[str, list[Any]],
    tmp_path_factory: pytest.TempPathFactory,
    what: tuple[str, str | None, type[msgspec.Struct]],
    data: st.DataObject,
) -> None:
    """A true member but for one field, of the declared type or not; or one made up whole, but for one."""
    pattern, line, kind = what
    folder = tmp_path_factory.mktemp("lie")
    par = writable_copy(made / "par", folder / "par")
    here = StorePaths(Path(shutil.copytree(made / "here", folder / "here")))
    path = data.draw(st.sampled_from(sorted(par.glob(pattern))))
    lines = path.read_text().splitlines()
    places = [n for n, each in enumerate(lines) if line is None or json.loads(each)["type"] == line]
    if not places:
        return  # a dense stage prunes nothing
    place = data.draw(st.sampled_from(places))
    made_up = json.loads(damaged(data, data.draw(records(kind))))
    if data.draw(st.booleans()):
        made_up = json.loads(lines[place])
        drawn = json.loads(encode(data.draw(records(kind))))
        name = data.draw(st.sampled_from(sorted(drawn.keys() - {"type"})))
        made_up[name] = drawn[name]
    text = json.dumps(made_up)
    lines[place] = text if pattern.endswith("spec.json") else resealed(text)
    path.write_text("\n".join(lines) + "\n")
    if pattern != MANIFEST:
        reseal(par)
    began, said = time.process_time(), ""
    try:
        take(par, here)
    except PrunectlError as error:
        said = str(error)
    assert time.process_time() - began < 5
    assert "\n" not in said
    if said:
        assert stamps(here) == stamps(StorePaths(made / "here"))
    else:
        assert rows(here, "other") == before
    assert {each.name for each in folder.iterdir()} == {"par", "here"}
    shutil.rmtree(folder)


def test_lies_that_make_no_record_are_refused(par: Path, paths: StorePaths) -> None:
    """Nesting, surrogates, sizes; members that no version writes."""
    result = next(par.glob("stages/*/result.json"))
    whole = result.read_text()
    for lie in (
        '"new":' + "[" * 5000,
        '"device":"\\ud800"',
        '"kept":1e400',
        '"kept":' + "9" * 5000,
    ):
        rewrite(result, lambda line, lie=lie: line[:-1] + f",{lie}}}")  # type: ignore[misc]
        reseal(par)
        with pytest.raises(StoreError, match="nothing was taken"):
            take(par, paths)
        result.write_text(whole)
    manifest = par / MANIFEST
    write_json(manifest, read_json(manifest) | {"code_to_run": "x"})
    with pytest.raises(StoreError, match="which no version of prunectl writes"):
        take(par, paths)


def forged_plan(par: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Leave nothing in the archive but a version of its plan that never was."""
    [old] = par.glob("plans/*.json")
    record = read_json(old) | {"digest": "a" * 16}
    change(record)
    old.unlink()
    write_json(old.with_stem("a" * 16), record)
    manifest = read_json(par / MANIFEST)
    entry = manifest["files"][f"plans/{old.name}"]
    write_json(par / MANIFEST, manifest | {"files": {f"plans/{'a' * 16}.json": entry}})
    reseal(par)


def other_specs(record: dict[str, Any]) -> None:
    for planned in record["stages"].values():
        planned["spec"]["stage"]["seed"] = 77


def other_steps(record: dict[str, Any]) -> None:
    next(iter(record["stages"].values()))["steps"] += 1


def a_stage_more(record: dict[str, Any]) -> None:
    record["trials"] = record["trials"][:1]


def accuracy_is_bad(record: dict[str, Any]) -> None:
    metric = {"name": "accuracy", "unit": "%", "higher_is_better": False}
    record["tasks"] = {"classification": {"metrics": [metric]}}


def no_text(record: dict[str, Any]) -> None:
    record["text"] = "no plan ["


def swapped_paths(record: dict[str, Any]) -> None:
    no_text(record)
    one, two = record["trials"][:2]
    one["path"], two["path"] = two["path"], one["path"]


@pytest.mark.parametrize(
    "change", [other_specs, other_steps, a_stage_more, accuracy_is_bad, no_text, swapped_paths]
)
def test_a_plan_that_says_something_else_of_what_is_here_is_refused(
    made: Path, par: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    paths = StorePaths(Path(shutil.copytree(made / "there", tmp_path / "there")))
    before = rows(paths)
    forged_plan(par, change)
    with pytest.raises(StoreError, match="refused; nothing was taken"):
        take(par, paths)
    assert rows(paths) == before


def without_sum(path: Path) -> None:
    """As a version wrote it that made no checksums, behind an empty line."""
    record = read_json(path)
    del record["sum"]
    path.write_text("\n" + json.dumps(record, separators=(",", ":")) + "\n")


def another_score(path: Path) -> None:
    """In the result alone, and not in its log."""
    write_json(path, read_json(path) | {"score_start": 1.0})


def without_weights(path: Path) -> None:
    manifest = path.parents[2] / MANIFEST
    record = read_json(manifest)
    name = f"stages/{path.parent.name}/final.safetensors"
    write_json(
        manifest, record | {"files": {k: v for k, v in record["files"].items() if k != name}}
    )


def another_mask(path: Path) -> None:
    """Of the dense weights' shape but for a row, with all checksums made to fit."""
    mask = next(path.parents[1].glob("*/mask.safetensors"))
    found = read_checked(mask)
    arrays = {name: array[:-1] for name, array in found.arrays.items()}
    write_tensors(mask, arrays, dict(found.metadata))


@pytest.mark.parametrize("lie", [without_sum, another_score, without_weights, another_mask])
def test_a_stage_that_verify_would_name_does_not_land(
    par: Path, tmp_path: Path, lie: Callable[[Path], None]
) -> None:
    lie(sorted(par.glob("stages/*/result.json"))[0])
    reseal(par)
    with pytest.raises(StoreError, match="refused; nothing was taken") as caught:
        take(par, StorePaths(tmp_path / "new"))
    assert "import-" not in str(caught.value), "the archive's file is named, not its copy"
    assert not (tmp_path / "new").exists()


def test_what_data_sets_held_is_taken_of_its_own_alone(par: Path, paths: StorePaths) -> None:
    """Another's would have its plan refused once the true files are there."""
    name = "datasets/mnist-1.json"
    (par / "datasets").mkdir(exist_ok=True)
    write_record(par / name, dataset_record("mnist", "mnist-1", {"train": "0" * 64}))
    manifest = read_json(par / MANIFEST)
    entry = next(iter(manifest["files"].values()))
    write_json(par / MANIFEST, manifest | {"files": manifest["files"] | {name: entry}})
    reseal(par)
    with pytest.raises(StoreError, match="none of its stages is of"):
        take(par, paths)

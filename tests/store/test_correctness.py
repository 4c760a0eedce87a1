"""What is wrong with predictions is named, wherever they come from; the table of correct items is made of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from prunectl.errors import StoreError
from prunectl.store import gc
from prunectl.store.archive import MANIFEST, export_study, finish
from prunectl.store.bundle import open_bundle
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest, rebuild
from prunectl.store.import_study import Import
from prunectl.store.paths import StorePaths
from prunectl.store.records.archive import Manifest
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.labels import Labels, read_labels
from prunectl.store.records.plan import write_plans
from prunectl.store.records.result import Result
from prunectl.store.tensors import metadata_sum, read_checked, write_tensors
from prunectl.store.verify import verify
from tests.support.bundles import make_writable, reseal
from tests.support.records import rewrite
from tests.support.tiny_plans import tiny_plan
from tests.worker.conftest import Laboratory

PLAN = tiny_plan(
    seeds=[0, 1], strategies=["fine-tune", "lr-rewind"], test=90, train=128, epochs=3, iterations=1,
    milestones=(1, 2),
)  # fmt: skip
"""90 test items: not a whole number of bytes of bits."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """A finished study: two seeds, two strategies, one iteration."""
    lab = Laboratory(tmp_path_factory.mktemp("made") / "store", text=PLAN)
    write_plans(lab.paths, [lab.plan.study()])
    for key in lab.plan.stages:
        lab.run(key, keep=())
    ingest(lab.paths)
    return lab


@pytest.fixture
def paths(made: Laboratory, tmp_path: Path) -> StorePaths:
    """A copy of its store, to be spoilt."""
    return StorePaths(Path(shutil.copytree(made.paths.root, tmp_path / "store")))


def dense_and_pruned(made: Laboratory) -> tuple[str, str]:
    dense, pruned = made.path("fine-tune")
    return dense, pruned


def problems(paths: StorePaths) -> str:
    return "\n".join(verify(paths).problems)


def forge(paths: StorePaths, key: str, arrays: dict[str, Any], **changes: Any) -> None:
    """Write another file of predictions, and a result and a log that name it, all with checksums that fit."""
    stage = paths.stage(key)
    metadata = {"stage": key}
    file = stage.predictions
    write_tensors(file, arrays, metadata | {"sha256": "0" * 64})
    digest = _sha256(file)
    metadata |= {"sha256": digest}
    write_tensors(file, arrays, metadata | {"sum": metadata_sum(metadata)})
    old = read_record(stage.result, Result)
    digests = old.digests | {file.name: digest}
    write_record(stage.result, replace(old, digests=digests, **changes))
    text = stage.result.read_text()
    rewrite(stage.events, lambda line: text.strip() if '"type":"done"' in line else line)


def _sha256(file: Path) -> str:
    """What read_checked computes of a file's tensors."""
    import hashlib

    from safetensors.numpy import load_file

    digest = hashlib.sha256()
    for name, array in sorted(load_file(file).items()):
        digest.update(f"{name} torch.{array.dtype} {list(array.shape)};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def classes(paths: StorePaths, key: str) -> Any:
    return read_checked(paths.stage(key).predictions).arrays["predictions"]


def test_a_sound_study_has_no_problems(paths: StorePaths) -> None:
    assert problems(paths) == ""


def test_damage_and_files_in_each_others_place_are_named(
    made: Laboratory, paths: StorePaths
) -> None:
    dense, pruned = (paths.stage(key).predictions for key in dense_and_pruned(made))
    whole, other = pruned.read_bytes(), dense.read_bytes()
    for content, said in (
        (whole[:-1] + bytes([whole[-1] ^ 1]), "is not what its checksum says"),
        (whole[:40], "cannot be read"),
        (other, "predictions.safetensors is of stage"),
    ):
        pruned.write_bytes(content)
        assert said in problems(paths)
        with pytest.raises(StoreError, match="nothing was exported"):
            export_study(paths, "tiny", paths.root.parent / "refused")
    pruned.unlink()
    assert "is done, but predictions.safetensors is missing" in problems(paths)


def _lies(right: Any) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    other = (right + 1) % 4
    return [
        ({"predictions": right.astype(np.int64)}, {}, "holds something else than predictions"),
        ({"predictions": right.reshape(9, 10)}, {}, "holds something else than predictions"),
        ({"predictions": right, "more": right}, {}, "holds something else than predictions"),
        ({"classes": right}, {}, "holds something else than predictions"),
        ({"predictions": right[:-1]}, {}, "is of 89 test items, of which there are 90"),
        ({"predictions": np.where(np.arange(90) == 3, 4, right).astype(np.uint16)}, {}, "has class 4 of 4"),
        ({"predictions": other}, {}, r"result.json says accuracy [0-9.]+, and by predictions.safetensors"),
        ({"predictions": right}, {"agreement": 12.5}, "result.json says agreement 12.5, and by the predictions"),
        ({"predictions": right}, {"agreement_with": ""}, "tells of agreement, and not with what"),
        ({"predictions": right}, {"test_set": "x"}, "is of other test items than labels/"),
        ({"predictions": right}, {"test_set": ""}, "is of other test items than labels/"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(_lies(np.zeros(90, np.uint16)))))
def test_lies_are_named_and_not_imported(
    made: Laboratory, paths: StorePaths, tmp_path: Path, number: int
) -> None:
    """Though every checksum fits: the file's own, the result's, the log's and the manifest's."""
    _, key = dense_and_pruned(made)
    arrays, changes, said = _lies(classes(paths, key))[number]
    bundle = exported(paths, tmp_path / "bundle")
    for place in (paths, StorePaths(bundle)):
        forge(place, key, arrays, **changes)
    assert re.search(said, problems(paths))
    reseal(bundle)
    with pytest.raises(StoreError, match=said):
        Import(bundle, StorePaths(tmp_path / "new")).run()
    assert not (tmp_path / "new").exists()


def test_labels_that_are_missing_or_damaged_are_named(paths: StorePaths) -> None:
    [path] = paths.labels.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert "are damaged" in problems(paths)
    assert str(path) in problems(paths)
    path.unlink()
    assert "are missing" in problems(paths)
    path.write_bytes(whole)
    ingest(paths)
    assert problems(paths) == ""


def test_gc_keeps_predictions_and_labels(paths: StorePaths) -> None:
    leftover = paths.labels / ".x.json.999999999.ab.tmp"
    aside = paths.labels / "x.json.damaged-1"
    for path in (leftover, aside):
        path.write_text("{")
    found = gc.removable(paths)
    assert {each.path for each in found} == {leftover, aside}
    gc.remove(paths, found)
    assert problems(paths) == ""


def test_they_go_with_their_stage(made: Laboratory, paths: StorePaths) -> None:
    """As a stage that starts over removes all that it left."""
    stage = paths.stage(dense_and_pruned(made)[1])
    assert stage.predictions.exists()
    stage.remove_tensors()
    assert not stage.predictions.exists()


# --- archives


def exported(paths: StorePaths, folder: Path) -> Path:
    """A bundle of the study that may be changed."""
    finish(folder, export_study(paths, "tiny", folder))
    return make_writable(folder)


def table(paths: StorePaths) -> dict[str, list[Any]]:
    return {
        name: query.run(paths, f"SELECT * FROM {name} ORDER BY ALL").rows
        for name in ("correctness", "labels", "leaderboard", "points")
    }


def test_a_bundle_carries_predictions_and_labels(
    made: Laboratory, paths: StorePaths, tmp_path: Path
) -> None:
    bundle = exported(paths, tmp_path / "bundle")
    names = read_record(bundle / MANIFEST, Manifest).files
    assert sum(name.endswith("/predictions.safetensors") for name in names) == 6
    [labels] = [name for name in names if name.startswith("labels/")]
    new = StorePaths(tmp_path / "new")
    assert Import(bundle, new).run().records["labels"] == 1
    assert problems(new) == ""
    assert len(table(new)["correctness"]) == 6
    assert table(new)["correctness"] == table(paths)["correctness"]
    assert table(new)["labels"] == table(paths)["labels"]
    # Once more: what is known is compared, and a result is made again from what came.
    again = Import(bundle, new).run()
    assert (again.stages, again.records["labels"]) == (0, 0)
    shutil.rmtree(new.stage(dense_and_pruned(made)[1]).folder)
    assert Import(bundle, new).run().stages == 1
    assert (new.root / labels).read_bytes() == (paths.root / labels).read_bytes()


def test_a_replication_takes_the_labels_and_is_held_to_them(
    paths: StorePaths, tmp_path: Path
) -> None:
    bundle = open_bundle(exported(paths, tmp_path / "bundle"))
    new = StorePaths(tmp_path / "new")
    bundle.take_datasets(new)
    bundle.take(bundle.done, new)
    assert [path.name for path in new.labels.iterdir()] == [
        path.name for path in paths.labels.iterdir()
    ]
    assert not [text for text in verify(new).problems if "redictions" in text]


def _other_labels(path: Path) -> None:
    record = read_labels(path)
    write_record(path, Labels(data=record.data, labels=record.labels[::-1]))


def _of_no_stage(path: Path) -> None:
    record = read_labels(path)
    other = Labels(data=replace(record.data, name="digits"), labels=record.labels)
    place = StorePaths(path.parents[1]).labels_of(other.data)
    write_record(place, other)
    path.unlink()
    manifest = read_record(path.parents[1] / MANIFEST, Manifest)
    old, new = (f"labels/{each.name}" for each in (path, place))
    files = {new if name == old else name: entry for name, entry in manifest.files.items()}
    write_record(path.parents[1] / MANIFEST, replace(manifest, files=files))


def _under_another_name(path: Path) -> None:
    record = read_labels(path)
    write_record(path, Labels(data=replace(record.data, name="digits"), labels=record.labels))


@pytest.mark.parametrize(
    ("lie", "said", "known"),
    [
        (_other_labels, "other labels than those that .* has results of", True),
        (_other_labels, "of other test items than labels/", False),
        (_of_no_stage, "is of data that none of its stages is of", False),
        (_under_another_name, "is of other test items, of digits", False),
    ],
)
def test_labels_of_a_bundle_are_held_to_what_is_known(
    paths: StorePaths, tmp_path: Path, lie: Callable[[Path], None], said: str, known: bool
) -> None:
    bundle = exported(paths, tmp_path / "bundle")
    lie(next(bundle.glob("labels/*")))
    reseal(bundle)
    target = paths if known else StorePaths(tmp_path / "new")
    with pytest.raises(StoreError, match=said):
        Import(bundle, target).run()
    assert known or not target.root.exists()


@pytest.mark.parametrize("pattern", ["stages/*/predictions.safetensors", "labels/*"])
def test_what_cannot_be_so_large_is_not_read(
    paths: StorePaths, tmp_path: Path, pattern: str
) -> None:
    bundle = exported(paths, tmp_path / "bundle")
    name = next(bundle.glob(pattern)).relative_to(bundle).as_posix()
    manifest = read_record(bundle / MANIFEST, Manifest)
    files = manifest.files | {name: replace(manifest.files[name], bytes=81_000_000)}
    write_record(bundle / MANIFEST, replace(manifest, files=files))
    with pytest.raises(StoreError, match="too many for such a file"):
        Import(bundle, StorePaths(tmp_path / "new"))


# --- the database


def right(paths: StorePaths, key: str) -> Any:
    """Which items a stage has right, from its files."""
    [labels] = paths.labels.iterdir()
    return classes(paths, key) == np.array(read_labels(labels).labels)


def test_bits_are_which_items_are_right(made: Laboratory, paths: StorePaths) -> None:
    found = {
        stage: [bit == "1" for bit in bits]
        for stage, bits in query.run(paths, "SELECT stage, correct::VARCHAR FROM correctness").rows
    }
    assert found == {key: right(paths, key).tolist() for key in made.plan.stages}
    accuracy = """SELECT count(*) FROM correctness JOIN stages USING (stage)
        WHERE abs(accuracy - 100 * bit_count(correct) / bit_length(correct)) > 1e-9"""
    assert query.run(paths, accuracy).rows == [(0,)]


@pytest.mark.parametrize("items", [1, 8, 90, 96])
def test_bits_keep_their_number_and_order(items: int) -> None:
    """Whole bytes go another way."""
    import duckdb

    from prunectl.store.db import database, rows, schema
    from prunectl.store.db.correctness import _bits

    chosen = np.random.default_rng(items).random(items) < 0.4
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        schema.create(connection)
        database.upsert(connection, "correctness", rows.CORRECTNESS, [("s", "t", _bits(chosen))])
        sql = "SELECT bit_length(correct), [get_bit(correct, i::INTEGER) FOR i IN range($1)] FROM correctness"
        assert connection.execute(sql, [items]).fetchall() == [(items, chosen.astype(int).tolist())]


def test_columns_are_those_of_the_results(made: Laboratory, paths: StorePaths) -> None:
    for key in made.plan.stages:
        result = made.result(key)
        sql = "SELECT DISTINCT agreement, ece FROM {} WHERE stage = $1"
        for name in ("stages", "iterations", "points"):
            assert query.run(paths, sql.format(name), [key]).rows == [
                (result["agreement"], result["ece"])
            ]
    sql = "SELECT strategy, agreement, ece FROM leaderboard ORDER BY strategy"
    for strategy, agreement, ece in query.run(paths, sql).rows:
        keys = [
            made.path("fine-tune" if strategy == "dense" else strategy, seed)[strategy != "dense"]
            for seed in (0, 1)
        ]
        results = [made.result(key) for key in keys]
        assert agreement == pytest.approx(sum(each["agreement"] for each in results) / 2, abs=1e-8)
        assert ece == pytest.approx(sum(each["ece"] for each in results) / 2, abs=1e-8)


def test_rebuilding_from_the_files_gives_the_same(paths: StorePaths) -> None:
    before = table(paths)
    assert len(before["correctness"]) == 6
    rebuild(paths)
    assert table(paths) == before


def test_a_result_without_predictions_has_no_row(made: Laboratory, paths: StorePaths) -> None:
    """As of an older version; one that is made again has, or has not, what its new result says."""
    _, key = dense_and_pruned(made)
    stage = paths.stage(key)
    old = read_record(stage.result, Result)
    whole = stage.result.read_bytes()
    plain = replace(
        old, test_set="", agreement=None, agreement_with="", ece=None, lines_before=None, digests={}
    )
    write_record(stage.result, plain)
    ingest(paths)
    sql = "SELECT done, agreement, ece, correct FROM stages LEFT JOIN correctness USING (stage) WHERE stage = $1"
    assert query.run(paths, sql, [key]).rows == [(True, None, None, None)]
    stage.result.write_bytes(whole)
    ingest(paths)
    assert query.run(paths, sql, [key]).rows[0][1:3] == (old.agreement, old.ece)
    assert query.run(paths, sql, [key]).rows[0][3] is not None


def test_predictions_that_are_damaged_are_left_out_and_named(
    made: Laboratory, paths: StorePaths
) -> None:
    _, key = dense_and_pruned(made)
    file = paths.stage(key).predictions
    file.write_bytes(file.read_bytes()[:-2])
    paths.database.unlink()
    assert any("predictions.safetensors" in text for text in ingest(paths).left_out)
    assert query.run(paths, "SELECT count(*) FROM correctness").rows == [(5,)]
    assert query.run(paths, "SELECT source FROM left_out").rows == [
        (f"stages/{key}/predictions.safetensors",)
    ]


def test_labels_that_come_late_are_counted_all_the_same(paths: StorePaths) -> None:
    [path] = paths.labels.iterdir()
    before, whole = table(paths), path.read_bytes()
    path.unlink()
    ingest(paths)
    assert table(paths)["correctness"] == []
    path.write_bytes(whole)
    assert "labels came after stages" in ingest(paths).notes[0]
    assert table(paths) == before


# --- questions


def readme_query(repository: Path, title: str) -> str:
    """A query of README by the comment that it begins with."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    return next(
        each
        for each in re.findall(r"```sql\n(.*?)```", text, re.S)
        if each.startswith(f"-- {title}")
    )


def test_mcnemar_counts_what_one_has_right_and_the_other_wrong(
    made: Laboratory, paths: StorePaths, repository: Path
) -> None:
    found = query.run(paths, readme_query(repository, "McNemar")).rows
    wanted = []
    for seed in (0, 1):
        one, other = (right(paths, made.path(name, seed)[1]) for name in ("fine-tune", "lr-rewind"))
        counts = int((one & ~other).sum()), int((other & ~one).sum())
        wanted.append(("lenet-300-100", 0.5, seed, *counts))
    assert found == wanted
    assert any(row[3] != row[4] for row in wanted)


def test_the_worst_class_is_that_with_the_least_right(
    made: Laboratory, paths: StorePaths, repository: Path
) -> None:
    found = query.run(paths, readme_query(repository, "Worst class")).rows
    [path] = paths.labels.iterdir()
    labels = np.array(read_labels(path).labels)
    assert len(found) == len(made.plan.stages)
    for stage, worst, number in found:
        per_class = [100 * right(paths, stage)[labels == each].mean() for each in range(4)]
        assert worst == pytest.approx(min(per_class))
        assert per_class[number] == pytest.approx(min(per_class))

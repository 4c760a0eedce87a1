"""Bundles carry predictions and labels; an import holds them to what is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from prunectl.errors import StoreError
from prunectl.store.archive import MANIFEST
from prunectl.store.bundle import open_bundle
from prunectl.store.import_study import Import
from prunectl.store.paths import StorePaths
from prunectl.store.records.archive import Manifest
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.labels import Labels, read_labels
from prunectl.store.verify import verify
from tests.support.bundles import reseal
from tests.support.predicted import dense_and_pruned, exported, made, paths, problems, table
from tests.worker.conftest import Laboratory

__all__ = ["made", "paths"]


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

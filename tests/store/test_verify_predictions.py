"""What is wrong with the predictions of a stage is named, and they stay as long as the stage does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunectl.errors import StoreError
from prunectl.store import gc
from prunectl.store.archive import export_study
from prunectl.store.db.ingest import ingest, rebuild
from prunectl.store.import_study import Import
from prunectl.store.paths import StorePaths
from prunectl.store.records.labels import read_labels
from tests.support.bundles import reseal
from tests.support.predicted import (
    classes,
    dense_and_pruned,
    exported,
    forge,
    made,
    paths,
    problems,
)
from tests.worker.conftest import Laboratory

__all__ = ["made", "paths"]


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


def test_agreement_with_another_run_of_the_dense_network_is_no_lie(
    made: Laboratory, paths: StorePaths
) -> None:
    """As where the dense network was here, trained on another device, before what was pruned from it was imported."""
    dense, _ = dense_and_pruned(made)
    other = classes(paths, dense).copy()
    labels = np.array(read_labels(next(iter(paths.labels.iterdir()))).labels)
    [wrong, *_] = np.flatnonzero(other != labels)
    other[wrong] = next(each for each in range(4) if each not in (other[wrong], labels[wrong]))
    forge(paths, dense, {"predictions": other})
    rebuild(paths)
    assert problems(paths) == ""

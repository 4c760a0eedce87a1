"""From a plan that names a folder of one's own to trained stages, its images held or streamed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunectl.errors import PlanError
from prunectl.ml.datasets.images import Images, Streamed
from prunectl.ml.datasets.registry import ensure
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from tests.support.records import spec_json

from .conftest import Laboratory

PLAN = """
name = "own"
seeds = [0]
[grid]
network = ["convnet"]
dataset = ["mine"]
strategy = ["weight-rewind"]
[datasets.mine]
kind = "folder"
path = "PATH"
size = 12
held = "HELD"
[recipe]
length = "3ep"
batch = 8
micro_batch = 4
batches = "straddle"
schedule = { kind = "constant", lr = 0.05 }
augment = { crop = "random-resized", scale = [0.4, 1.0], flip = true }
validation = { from = "train", count = 4 }
[recipe.retrain]
weight-rewind = "2ep"
[pruning]
schedule = { kind = "iterative", rate = 0.5, iterations = 1 }
"""


def text(path: Path, held: str = "auto") -> str:
    return PLAN.replace("PATH", str(path)).replace("HELD", held)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 4)):
        for label, name in enumerate(("dark", "light", "mixed")):
            place = tmp_path / "mine" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(60 * label, 60 * label + 80, (14 + number, 20, 3))
                kind = "png" if number % 2 else "jpg"
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.{kind}")
    return tmp_path / "mine"


def remember(laboratory: Laboratory) -> None:
    """What `run` does before anything is queued."""
    for settings, place in laboratory.plan.places.items():
        ensure(
            settings.name,
            laboratory.paths.root / "data",
            dict(settings.options) | place,
            settings.fingerprint,
        )


def test_the_plan_knows_shape_classes_and_counts_from_the_disk(folder: Path) -> None:
    expansion = expand(loads(text(folder)), None)
    dense = next(spec for spec in expansion.stages.values() if spec.mask is None)
    assert dense.network.shape == (3, 12, 12)
    assert dense.network.classes == 3
    assert dense.steps == -(-3 * 23 // 8)
    assert dense.data.fingerprint.startswith("content-")
    assert dense.train.micro_batch == 4
    assert expansion.places[dense.data] == {"path": str(folder), "held": "auto"}


def test_where_the_folder_lies_is_no_part_of_a_stage(folder: Path, tmp_path: Path) -> None:
    before = expand(loads(text(folder, "never")), None)
    moved = folder.rename(tmp_path / "moved")
    after = expand(loads(text(moved)), None)
    assert before.stages.keys() == after.stages.keys()
    for spec in after.stages.values():
        assert str(tmp_path) not in str(spec_json(spec))
    (moved / "train/dark/8.jpg").unlink()
    assert not before.stages.keys() & expand(loads(text(moved)), None).stages.keys()


def test_held_and_streamed_come_to_the_same_results(
    folder: Path, laboratory: Callable[..., Laboratory]
) -> None:
    results = []
    for held, kind in (("always", Images), ("never", Streamed)):
        lab = laboratory(text=text(folder, held))
        remember(lab)
        found = [lab.run(key, keep=(3,)) for key in lab.path("weight-rewind")]
        assert [type(images) for images in lab.trainers._images.values()] == [kind]
        assert all(result["validation_accuracy"] is not None for result in found)
        for result in found:
            results.append([result[name] for name in ("train_loss", "loss", "accuracy", "kept")])
    assert results[:2] == results[2:]


def test_mistakes_name_the_key(folder: Path) -> None:
    with pytest.raises(PlanError, match="nowhere") as caught:
        expand(loads(text(Path("/nowhere"))), None)
    assert caught.value.key == "datasets.mine"
    for override, key in (
        ("recipe.augment.pad=2", "recipe.augment"),
        ("recipe.augment.scale=[0.5,0.1]", "recipe.augment"),
        ("recipe.augment.ratio=[0.0,1.0]", "recipe.augment.ratio[0]"),
        ('recipe.augment.crop="none"', "recipe.augment"),
        ('recipe.augment.crop="random"', "recipe.augment.crop"),
        ("recipe.micro_batch=0", "recipe.micro_batch"),
    ):
        with pytest.raises(PlanError) as caught:
            expand(loads(text(folder), overrides=(override,)), None)
        assert caught.value.key == key, override


def test_a_micro_batch_no_smaller_than_the_batch_is_none(folder: Path) -> None:
    whole = expand(loads(text(folder), overrides=("recipe.micro_batch=8",)), None)
    larger = expand(loads(text(folder), overrides=("recipe.micro_batch=99",)), None)
    assert whole.stages.keys() == larger.stages.keys()
    assert all(spec.train.micro_batch == 0 for spec in whole.stages.values())

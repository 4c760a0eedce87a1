"""A task that prunectl does not have, with targets of its own type and shape: trained, streamed, measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from prunectl.errors import DataError
from prunectl.ml.datasets import registry as datasets
from prunectl.ml.datasets.arrays import Arrays
from prunectl.ml.datasets.images import Images, Streamed, load
from prunectl.ml.datasets.listing import ImageFiles, ImageFolder, Preprocessing
from prunectl.ml.datasets.registry import DatasetEntry, Description
from prunectl.ml.training.batches import Batches
from prunectl.ml.training.cuda_graphs import Graphs
from prunectl.ml.training.streamed_batches import StreamedBatches
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    AugmentSettings,
    DataSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from tests.support import image_maker, waves
from tests.support.additions import registered

__all__ = ["registered"]
pytestmark = pytest.mark.usefixtures("registered")


DATA = DataSettings("waves", "waves-1")
SETTINGS = TrainSettings(
    batch=32,
    optimizer=OptimizerSettings("adam"),
    normalize=NormalizeSettings("channel", (0.5,), (0.3,)),
)
NETWORK = NetworkSettings("lenet-300-100", (1, 2, 2), 2)


@pytest.fixture
def returning(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Lets the data set's reader return something else."""
    return lambda content: monkeypatch.setattr(waves, "read", lambda find, options: content)


def images(**held_out: Any) -> Images:
    found = load(replace(DATA, **held_out), Path("."))
    assert isinstance(found, Images)
    return found


def trainer(source: Images | Streamed, **changes: Any) -> Trainer:
    made = Trainer(NETWORK, replace(SETTINGS, **changes), source, task="regression")
    made.initialise(0, 0)
    return made


def train(made: Trainer, until: int, rate: float = 0.003) -> Trainer:
    for _ in made.train(constant(rate, until), Seeds.of(0), 0, until):
        pass
    return made


def truth(pixels: Tensor) -> Tensor:
    """What the targets of images [n, 1, 2, 2] are, computed otherwise than `waves` does."""
    a, b, c, d = (pixels.reshape(-1, 4).double() / 255).unbind(1)
    return torch.stack([torch.sin(3 * a) + b * c, d - a], dim=1)


def by_hand(made: Trainer, pixels: Tensor) -> dict[str, float]:
    """The metrics of the network's present weights on some images, by numpy."""
    weights = {name: value.double().numpy() for name, value in made.state().weights.items()}
    values = (pixels.reshape(len(pixels), -1).double().numpy() / 255 - 0.5) / 0.3
    for layer in ("hidden1", "hidden2", "classifier"):
        values = values @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        if layer != "classifier":
            values = np.maximum(values, 0)
    error = values - truth(pixels).numpy()
    return {"rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean())}


@pytest.mark.parametrize("source", ["train", "test"])
def test_targets_stay_with_their_images(source: Any) -> None:
    found = images(validation_from=source, validation_count=40)
    splits = {
        "train": (found.train_images, found.train_targets),
        "test": (found.test_images, found.test_targets),
        "validation": (found.validation_images, found.validation_targets),
    }
    for pixels, targets in splits.values():
        assert pixels is not None
        assert targets is not None
        assert targets.dtype == torch.float32
        assert targets.shape == (len(pixels), 2)
        assert torch.allclose(targets.double(), truth(pixels), atol=1e-6)
    assert len(splits["validation"][0]) == 40  # type: ignore[arg-type]


def test_a_network_learns_the_function() -> None:
    made = trainer(images())
    before = made.evaluate("test")
    after = train(made, 400).evaluate("test")
    assert before is not None
    assert after is not None
    assert after.metrics["rmse"] < 0.2 < 0.5 < before.metrics["rmse"]


def test_metrics_are_those_computed_by_hand() -> None:
    made = train(trainer(images(validation_from="train", validation_count=30)), 20)
    for split in ("test", "validation"):
        found = made.evaluate(split)  # type: ignore[arg-type]
        pixels = getattr(made.images, f"{split}_images")
        assert found is not None
        assert found.count == len(pixels)
        assert found.metrics == pytest.approx(by_hand(made, pixels), rel=1e-5)
        assert found.loss == pytest.approx(found.metrics["rmse"] ** 2, rel=1e-9)


def test_training_metrics_are_those_of_all_its_images() -> None:
    made = trainer(images(), batch=100)
    wanted = by_hand(made, made.images.train_images)  # type: ignore[arg-type]
    # Batches of 100, 100 and 56 under the same weights: nothing is learned at a rate this small.
    found = train(made, 3, rate=1e-12).metrics()
    assert found.count == waves.TRAIN
    assert found.metrics == pytest.approx(wanted, rel=1e-5)


def test_streamed_batches_are_those_from_memory() -> None:
    found = images()
    settings = replace(SETTINGS, augment=AugmentSettings(flip=True), straddle=True, batch=48)
    memory = Batches(found.train_images, found.train_targets, settings)
    stream = StreamedBatches(found.train_images, found.train_targets, found.loader, settings)
    for step in (0, 1, 5, 6, 2):
        for one, other in zip(
            *(each.get(Seeds.of(3), 1, step) for each in (memory, stream)), strict=True
        ):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_micro_batches_make_the_step_of_the_whole_batch() -> None:
    whole, parts = train(trainer(images()), 4), train(trainer(images(), micro_batch=7), 4)
    for name, value in whole.state().weights.items():
        assert torch.allclose(parts.state().weights[name], value, atol=1e-5)


def test_a_recorded_step_is_the_step() -> None:
    plain, recorded = trainer(images()), trainer(images())
    recorded._training = Graphs(recorded._step, recorded._changed, lambda call: call)
    recorded.evaluator.capture(lambda call: call)
    assert train(plain, 10).metrics() == train(recorded, 10).metrics()
    assert plain.evaluate("test") == recorded.evaluate("test")


@pytest.mark.gpu
@pytest.mark.numbers
def test_graphs_replay_the_step() -> None:
    made = [
        Trainer(NETWORK, SETTINGS, images(), "cuda", "regression", graphs=graphs)
        for graphs in (True, False)
    ]
    for each in made:
        each.initialise(0, 0)
        train(each, 20)
    assert [each.mode for each in made] == ["graph", "eager"]
    assert made[0].metrics() == made[1].metrics()
    assert made[0].evaluate("test") == made[1].evaluate("test")


def test_image_files_may_have_targets_of_any_task(tmp_path: Path, returning: Any) -> None:
    """Held in memory and streamed alike, with what is held out taken from both."""
    image_maker.write_images(tmp_path, train=9, test=5)
    names = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png"))
    train_names = [name for name in names if name.startswith("train")]
    test_names = [name for name in names if name.startswith("test")]
    how = Preprocessing((1, 2, 2))
    about = dataclasses.replace(datasets.describe("waves"), train=27, test=15)
    datasets._ENTRIES["waves"] = DatasetEntry("waves", "waves", about, external=False)
    measured = []
    for held in ("always", "never"):
        returning(
            ImageFolder(
                ("height", "width"),
                ImageFiles(str(tmp_path), train_names, how),
                [[len(name), -0.5] for name in train_names],
                ImageFiles(str(tmp_path), test_names, how),
                [[len(name), 0.25] for name in test_names],
                held,  # type: ignore[arg-type]
            )
        )
        found = load(replace(DATA, validation_from="train", validation_count=5), Path("."))
        assert isinstance(found, Images if held == "always" else Streamed)
        assert found.train_targets.shape == (22, 2)
        made = train(trainer(found, batch=8), 6)
        measured.append((made.metrics(), made.evaluate("test"), made.evaluate("validation")))
    assert measured[0] == measured[1]


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (np.zeros(waves.TRAIN), r"train targets are float64 \(256,\), not float32 \(256, 2\)"),
        (np.zeros((waves.TRAIN, 3)), "train targets are"),
        (np.zeros((waves.TRAIN, 2), complex), "train targets are complex128"),
        (np.full((waves.TRAIN, 2), np.nan), "train targets are not all finite"),
    ],
)
def test_targets_that_do_not_suit_the_task_are_refused(
    targets: Any, says: str, returning: Any
) -> None:
    good = waves.read(None, {})  # type: ignore[arg-type]
    returning(Arrays(good.train_images, targets, good.test_images, good.test_targets))
    with pytest.raises(DataError, match=says):
        images()


def test_numbers_with_a_point_are_no_classes() -> None:
    digits = datasets.describe("digits")
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    few = Description(digits.shape, 10, 2, 2, digits.mean, digits.std, "x")
    Arrays(pixels, np.array([0, 9]), pixels, np.array([1, 2], np.uint8)).check("few", few)
    with pytest.raises(DataError, match="few: test targets are float64"):
        Arrays(pixels, np.array([0, 9]), pixels, np.array([1.0, 2.0])).check("few", few)
    with pytest.raises(DataError, match="few: train targets 0 … 10 of 10 classes"):
        Arrays(pixels, np.array([0, 10]), pixels, np.array([1, 2])).check("few", few)

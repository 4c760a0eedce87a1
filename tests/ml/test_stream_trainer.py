"""Training on images that are read as they are used, and in micro-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from prunectl.ml.datasets.images import Images, Streamed
from prunectl.ml.networks.build import build
from prunectl.ml.output_shapes import calls
from prunectl.ml.training.evaluation import batch_size
from prunectl.ml.training.state import TrainingState
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    AugmentSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from tests.support import image_maker

SETTINGS = TrainSettings(
    batch=8,
    optimizer=OptimizerSettings(nesterov=True, weight_decay=1e-3),
    augment=AugmentSettings(flip=True, crop="random-resized", scale=(0.3, 1.0)),
    normalize=NormalizeSettings("channel", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_maker.write_images(tmp_path_factory.mktemp("images"))


def network(source: torch.Generator | None, norm: bool = True) -> nn.Module:
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(6) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(294, 3),
    )
    with torch.no_grad():
        for parameter in module.parameters() if source is not None else ():
            parameter.normal_(0, 0.1, generator=source)
    return module


def plain(source: torch.Generator | None) -> nn.Module:
    return network(source, norm=False)


def trainer(images: Images | Streamed, build: Any = network, **changes: Any) -> Trainer:
    made = Trainer(build, replace(SETTINGS, **changes), images)
    made.initialise(0, 0)
    return made


def go(made: Trainer, until: int) -> TrainingState:
    for _ in made.train(constant(0.05, 20), Seeds.of(0), 0, until, yield_every=1):
        pass
    return made.state()


def equal(one: TrainingState, other: TrainingState) -> bool:
    return all(
        torch.equal(tensor, getattr(other, part)[name])
        for part in ("weights", "optimizer", "accumulators")
        for name, tensor in getattr(one, part).items()
    )


@pytest.mark.parametrize("crop", ["none", "random-resized"])
def test_training_on_a_stream_is_training_from_memory_to_the_bit(path: Path, crop: str) -> None:
    changes = {"augment": AugmentSettings(flip=True, crop=crop)}  # type: ignore[arg-type]
    held = {"validation_from": "train", "validation_count": 4}
    one = trainer(image_maker.held(path, **held), **changes)
    other = trainer(image_maker.streamed(path, **held), **changes)
    assert equal(go(one, 7), go(other, 7))
    for split in ("test", "validation"):
        assert one.evaluate(split) == other.evaluate(split)  # type: ignore[arg-type]
    assert one.metrics() == other.metrics()


@pytest.mark.parametrize("straddle", [False, True])
@pytest.mark.parametrize("stop", [1, 4, 5])
def test_resuming_inside_an_epoch_is_bit_identical(path: Path, straddle: bool, stop: int) -> None:
    whole = trainer(image_maker.streamed(path), straddle=straddle)
    wanted = go(whole, 8)
    first = trainer(image_maker.streamed(path), straddle=straddle)
    state = go(first, stop)
    resumed = trainer(image_maker.streamed(path), straddle=straddle)
    resumed.load(state)
    assert equal(go(resumed, 8), wanted)
    # The same trainer, after a stage that went on.
    first.evaluate("test")
    go(first, 8)
    first.load(state)
    assert equal(go(first, 8), wanted)


def test_trainings_that_take_turns_do_not_disturb_each_other(path: Path) -> None:
    wanted = go(trainer(image_maker.streamed(path)), 6)
    images = image_maker.streamed(path)
    made = [trainer(images), trainer(images)]
    assert made[0].images is made[1].images
    going = [one.train(constant(0.05, 20), Seeds.of(0), 0, 6, yield_every=2) for one in made]
    for _ in zip(*going, strict=True):
        pass
    for one in made:
        assert equal(go(one, 6), wanted)


@pytest.mark.parametrize("micro", [3, 4, 7])
def test_micro_batches_make_the_step_of_the_whole_batch(path: Path, micro: int) -> None:
    """Eight images in parts of 3 + 3 + 2, of 4 + 4, of 7 + 1; an epoch's last batch has 5."""
    images = image_maker.held(path)
    whole, parted = trainer(images, plain), trainer(images, plain, micro_batch=micro)
    first, second = go(whole, 6), go(parted, 6)
    for part in ("weights", "optimizer"):
        for name, tensor in getattr(first, part).items():
            torch.testing.assert_close(
                getattr(second, part)[name], tensor, rtol=1e-5, atol=1e-6, msg=f"{part} {name}"
            )
    one, other = whole.metrics(), parted.metrics()
    assert one.count == other.count == 42
    assert one.metrics == other.metrics
    assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_micro_batches_weigh_by_their_images_exactly() -> None:
    """A gradient that is a count: parts of unequal size must come to the mean over all images."""
    pixels = torch.zeros(8, 1, 1, 1, dtype=torch.uint8)
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    images = Images(pixels, labels, pixels, labels, 2)

    def build(source: torch.Generator | None) -> nn.Module:
        module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
        nn.init.zeros_(module[1].weight)
        nn.init.zeros_(module[1].bias)
        return module

    for micro in (0, 3, 5, 7):
        settings = TrainSettings(
            batch=8, micro_batch=micro, optimizer=OptimizerSettings(momentum=0.0),
            normalize=NormalizeSettings("channel", (0.0,), (1.0,)),
        )  # fmt: skip
        made = Trainer(build, settings, images)
        made.initialise(0, 0)
        for _ in made.train(constant(1.0, 1), Seeds.of(0), 0, 1):
            pass
        # d/db₀ of the mean cross-entropy at equal logits: 1/2 − 7/8.
        assert made.state().weights["1.bias"].tolist() == pytest.approx([0.375, -0.375])


def test_batchnorm_sees_micro_batches_one_by_one(path: Path) -> None:
    images = image_maker.held(path)
    whole, parted = trainer(images), trainer(images, micro_batch=4)
    first, second = go(whole, 1), go(parted, 1)
    assert not torch.equal(first.weights["1.running_mean"], second.weights["1.running_mean"])
    assert equal(go(trainer(images, micro_batch=8), 1), first)


def test_large_images_are_evaluated_fewer_at_once(path: Path) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert batch_size([], image_maker.held(path).shape, cpu) == 250
    assert batch_size([], (3, 224, 224), cpu) == 32
    # 256 MiB of the largest activation: 16×32×32, 128×32×32 and 64×112×112 values for an image.
    expected = {"resnet-20": 2000, "wrn-16-8": 500, "resnet-50": 50}
    for name, count in expected.items():
        shape = (3, 224, 224) if name == "resnet-50" else (3, 32, 32)
        module = build(NetworkSettings(name, shape, 10), None).train()
        assert batch_size(calls(module, shape), shape, cuda) == count, name
        assert module.training
        assert not any(each._forward_hooks for each in module.modules())


@pytest.mark.gpu
@pytest.mark.numbers
@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize("crop", ["none", "random-resized"])
def test_on_a_gpu_a_stream_is_training_from_memory_too(
    path: Path, crop: str, processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNECTL_LOADERS", processes)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    augment = AugmentSettings(flip=True, crop=crop)  # type: ignore[arg-type]
    settings = TrainSettings(batch=8, straddle=True, micro_batch=3, augment=augment,
                             normalize=SETTINGS.normalize)  # fmt: skip
    states = []
    for images in (image_maker.held(path), image_maker.streamed(path)):
        made = Trainer(network, settings, images, "cuda")
        made.initialise(0, 0)
        states.append(go(made, 9))
        assert made.evaluate("test") is not None
        images.on("cuda").loader.close()
    assert equal(*states)

"""Every option does something: a training that differs in one of them ends with other weights.

Options that are read and then forgotten are the commonest mistake of pruning code; nothing else would notice one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import fields, replace

from prunectl.ml.datasets.images import load
from prunectl.ml.datasets.registry import complete, describe
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

OPTIONS = complete("synthetic", {"height": 8, "width": 8, "classes": 4, "train": 90, "test": 40})
SEEN = describe("synthetic", OPTIONS)
DATA = DataSettings("synthetic", SEEN.fingerprint, tuple(sorted(OPTIONS.items())))
NETWORK = NetworkSettings("resnet-8", (3, 8, 8), 4)
SGD = OptimizerSettings(momentum=0.9, weight_decay=1e-3)
ADAM = OptimizerSettings("adam", weight_decay=1e-3)
BASE = TrainSettings(
    batch=32,
    optimizer=SGD,
    augment=AugmentSettings(pad=2, flip=True),
    normalize=NormalizeSettings("channel", SEEN.mean, SEEN.std),
)


def trained(
    settings: TrainSettings = BASE,
    network: NetworkSettings = NETWORK,
    data: DataSettings = DATA,
    *,
    seed: int = 0,
    iteration: int = 0,
    rate: float = 0.05,
) -> torch.Tensor:
    """All parameters after 8 steps, which end in the third epoch, and what the network then says."""
    torch.set_num_threads(1)
    trainer = Trainer(network, settings, load(data, Path(".")))
    trainer.initialise(seed, iteration)
    for _ in trainer.train(constant(rate, 8), Seeds.of(seed), iteration, until=8):
        pass
    found = trainer.evaluate("test")
    assert found is not None
    values = [value.flatten().double() for value in trainer.state().weights.values()]
    return torch.cat([*values, torch.tensor([found.loss], dtype=torch.float64)])


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def test_the_same_settings_give_the_same_bits() -> None:
    assert same(trained(), trained())


@pytest.mark.parametrize("changes", [{"seed": 1}, {"iteration": 1}, {"rate": 0.04}], ids=str)
def test_seed_iteration_and_rate(changes: dict[str, Any]) -> None:
    assert not same(trained(), trained(**changes))


TRAINING = [
    {"batch": 30},
    {"straddle": True},
    {"drop_last": True},
    {"label_smoothing": 0.1},
    {"precision": "bf16"},
    {"micro_batch": 16},
    {"augment": AugmentSettings(pad=1, flip=True)},
    {"augment": AugmentSettings(pad=2, flip=False)},
    {"augment": AugmentSettings(pad=2, padding="reflect", flip=True)},
    {"augment": AugmentSettings(crop="random-resized", flip=True)},
    {"normalize": NormalizeSettings("image")},
    {"normalize": NormalizeSettings("channel", (0.1, 0.2, 0.3), SEEN.std)},
    {"normalize": NormalizeSettings("channel", SEEN.mean, (0.1, 0.2, 0.3))},
]


@pytest.mark.parametrize("changes", TRAINING, ids=str)
def test_how_it_is_trained(changes: dict[str, Any]) -> None:
    assert not same(trained(), trained(replace(BASE, **changes)))


OPTIMIZERS = [
    (SGD, {"momentum": 0.8}),
    (SGD, {"nesterov": True}),
    (SGD, {"weight_decay": 0.0}),
    (SGD, {"decay": "weights"}),
    (SGD, {"name": "adam"}),
    (ADAM, {"beta1": 0.8}),
    (ADAM, {"beta2": 0.9}),
    (ADAM, {"eps": 1e-3}),
    (ADAM, {"weight_decay": 0.0}),
    (ADAM, {"decay": "weights"}),
]


@pytest.mark.parametrize(("base", "changes"), OPTIMIZERS, ids=str)
def test_the_optimizer(base: OptimizerSettings, changes: dict[str, Any]) -> None:
    one = replace(BASE, optimizer=base)
    other = replace(BASE, optimizer=replace(base, **changes))
    assert not same(trained(one, rate=0.01), trained(other, rate=0.01))


def test_the_crops_of_random_resizing() -> None:
    base = AugmentSettings(crop="random-resized")
    one = trained(replace(BASE, augment=base))
    for changes in ({"scale": (0.5, 1.0)}, {"ratio": (1.0, 1.0)}):
        assert not same(one, trained(replace(BASE, augment=replace(base, **changes))))


NETWORKS = [
    {"bn_momentum": 0.01},
    {"bn_eps": 1e-2},
    {"initializer": "he-uniform"},
    {"initializer": "renda2020"},
    {"initializer": "pytorch"},
    {"shortcut": "projection-without-bn"},
    {"shortcut": "projection-everywhere"},
    {"shortcut": "padding"},
]


@pytest.mark.parametrize("changes", NETWORKS, ids=str)
def test_the_network(changes: dict[str, Any]) -> None:
    assert not same(trained(), trained(network=replace(NETWORK, **changes)))


@pytest.mark.parametrize("taken_from", ["train", "test"])
def test_images_held_out(taken_from: Any) -> None:
    held = replace(DATA, validation_from=taken_from, validation_count=10)
    assert not same(trained(), trained(data=held))


def test_no_option_is_left_out() -> None:
    """Whoever adds a field adds what it does; these are what the tests above do not change."""
    elsewhere = {
        TrainSettings: {"optimizer", "evaluate_every", "deterministic"},
        NetworkSettings: {"name", "shape", "classes"},
        OptimizerSettings: set(),
    }
    tried = {
        TrainSettings: {name for changes in TRAINING for name in changes},
        NetworkSettings: {name for changes in NETWORKS for name in changes},
        OptimizerSettings: {name for _, changes in OPTIMIZERS for name in changes},
    }
    for settings, names in tried.items():
        assert names | elsewhere[settings] == {item.name for item in fields(settings)}

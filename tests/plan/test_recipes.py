"""Every constant of the papers' recipes, as they resolve: lengths in steps, everything else in PyTorch's units."""

from __future__ import annotations

from functools import cache

import pytest

from prunectl.errors import UnknownName
from prunectl.plan import shipped
from prunectl.plan.load import loads, recipe_data, validate
from prunectl.plan.points import GridPoint, grid_points
from prunectl.plan.schema import Recipe
from prunectl.spec.lr_schedule import at, last_value, length
from prunectl.spec.settings import (
    AugmentSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from tests.support.lr_runs import runs

CIFAR_MEAN = (0.49139968, 0.48215841, 0.44653091)
CIFAR_STD = (0.24703223, 0.24348513, 0.26158784)
REWINDING = ("fine-tune", "weight-rewind", "lr-rewind", "weight-rewind-low-lr", "reinit")


@cache
def resolved(
    name: str, network: str, dataset: str = "cifar10", retrain: str = "", strategy: str = ""
) -> dict[str, GridPoint]:
    """Points by strategy."""
    chosen = [strategy] if strategy else list(REWINDING)
    plan = loads(f"""
name = "x"
seeds = [0]
[grid]
network = ["{network}"]
dataset = ["{dataset}"]
strategy = {chosen}
{f'retrain = ["{retrain}"]' if retrain else ""}
[datasets.large]
kind = "synthetic"
height = 224
width = 224
classes = 1000
train = 1281167
test = 50000
[recipe]
base = "{name}"
[pruning]
schedule = {{ kind = "one-shot", sparsities = [0.8] }}
""")
    return {point.strategy: point for point in grid_points(plan)}


def one(name: str, network: str, dataset: str = "cifar10") -> GridPoint:
    return resolved(name, network, dataset)["lr-rewind"]


@pytest.mark.parametrize("name", shipped.names("recipes"))
def test_every_recipe_is_complete(name: str) -> None:
    found = validate(Recipe, recipe_data(name), ("recipe",))
    assert found.source
    assert set(REWINDING) - {"reinit"} <= set(found.retrain)
    for field in found.unverified:
        inside = recipe_data(name)
        for part in field.split("."):
            assert part in inside or part in Recipe.model_fields, f"{name}: unverified {field}"
            inside = inside.get(part, {})


def test_the_papers_recipes_are_there() -> None:
    assert {
        "renda2020-cifar",
        "renda2020-cifar-vgg",
        "renda2020-imagenet",
        "mikler2021-resnet",
        "mikler2021-wrn",
        "mikler2021-thesis-wrn",
    } <= set(shipped.names("recipes"))
    with pytest.raises(UnknownName, match="did you mean 'renda2020-cifar'"):
        recipe_data("renda2020-cifa")


@pytest.mark.parametrize(
    ("name", "network", "decay"),
    [
        ("renda2020-cifar", "resnet-20", 2e-4),
        ("renda2020-cifar", "resnet-56", 2e-4),
        ("renda2020-cifar", "resnet-110", 2e-4),
        ("renda2020-cifar-vgg", "vgg-16", 5e-4),
    ],
)
def test_renda_on_cifar(name: str, network: str, decay: float) -> None:
    training = one(name, network).training
    assert training.settings == TrainSettings(
        batch=128,
        straddle=True,
        drop_last=False,
        evaluate_every=391,
        # wd·½Σw² over all trainables is PyTorch's wd; without Nesterov
        optimizer=OptimizerSettings("sgd", 0.9, False, decay, "all"),
        label_smoothing=0.0,
        augment=AugmentSettings(pad=4, padding="zero", flip=True),
        normalize=NormalizeSettings("image"),
        precision="fp32",
        deterministic=True,
    )
    assert (training.network.bn_momentum, training.network.bn_eps) == (0.003, 1e-5)
    assert training.network.shortcut == "projection-everywhere"
    assert training.network.initializer == "renda2020"
    assert (training.data.validation_from, training.data.validation_count) == ("test", 2000)
    assert training.layout.per_epoch == 390.625
    assert training.layout.count == 50_000
    assert length(training.lr) == 71_108
    assert runs(training.lr) == [(0, 0.1), (35_547, 0.01), (53_125, 0.001)]
    assert training.recipe.source == "renda2020"
    assert training.recipe.optimizer_state == "carried"
    assert training.recipe.unverified == ("network.initializer",)


def test_rendas_retraining_on_cifar() -> None:
    found = {
        name: point.retraining for name, point in resolved("renda2020-cifar", "resnet-20").items()
    }
    dense = one("renda2020-cifar", "resnet-20").training.lr
    steps = {name: (how.steps, how.source, how.source_step) for name, how in found.items() if how}
    assert steps == {
        "fine-tune": (71_108, "parent", None),
        "lr-rewind": (71_108, "parent", None),
        "weight-rewind": (58_594, "dense", 12_514),
        "weight-rewind-low-lr": (58_594, "dense", 12_514),
        "reinit": (71_108, "init", None),
    }
    assert runs(found["fine-tune"].lr) == [(0, 0.001)]  # type: ignore[union-attr]
    assert runs(found["weight-rewind-low-lr"].lr) == [(0, 0.001)]  # type: ignore[union-attr]
    assert found["lr-rewind"].lr == found["reinit"].lr == dense  # type: ignore[union-attr]
    assert runs(found["weight-rewind"].lr) == [(0, 0.1), (23_033, 0.01), (40_611, 0.001)]  # type: ignore[union-attr]
    states = {name: how.optimizer_state for name, how in found.items() if how}
    assert states.pop("reinit") == "fresh"
    assert set(states.values()) == {"carried"}
    assert {how.batchnorm for how in found.values() if how} == {"source"}


@pytest.mark.parametrize(
    ("t", "point"),
    [
        ("10ep", 67_201),
        ("30ep", 59_389),
        ("50ep", 51_576),
        ("70ep", 43_764),
        ("90ep", 35_951),
        ("110ep", 28_139),
        ("130ep", 20_326),
        ("150ep", 12_514),
        ("170ep", 4_701),
        ("full", 0),
    ],
)
def test_rendas_grid_of_t_on_cifar(t: str, point: int) -> None:
    """The rewind points are the checkpoints of their released data."""
    found = resolved("renda2020-cifar", "resnet-20", retrain=t)
    how = found["weight-rewind"].retraining
    assert how is not None
    assert how.source_step == point
    assert how.steps == 71_108 - point
    assert found["reinit"].retraining.steps == 71_108  # type: ignore[union-attr]


@pytest.mark.parametrize("network", ["resnet-50", "resnet-34"])
def test_renda_on_imagenet(network: str) -> None:
    training = one("renda2020-imagenet", network, "large").training
    settings = training.settings
    assert settings.batch == 1024
    assert settings.drop_last
    assert not settings.straddle
    assert settings.optimizer == OptimizerSettings("sgd", 0.9, True, 1e-4, "weights")
    assert settings.precision == "bf16"
    assert settings.label_smoothing == 0
    assert settings.normalize.mean == (0.485, 0.456, 0.406)
    assert settings.normalize.std == (0.229, 0.224, 0.225)
    assert settings.augment == AugmentSettings(
        flip=True, crop="random-resized", scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)
    )
    assert settings.micro_batch == 128
    assert (training.network.bn_momentum, training.network.bn_eps) == (0.1, 1e-5)
    assert training.data.validation_from == "none"
    assert length(training.lr) == 112_590
    assert training.layout.per_epoch == 1_251
    assert at(training.lr, 0) == pytest.approx(0.4 / 6_255)
    assert at(training.lr, 6_254) == pytest.approx(0.4)
    assert [at(training.lr, step) for step in (37_529, 37_530, 75_060, 100_080)] == [
        0.4,
        0.04,
        0.004,
        0.0004,
    ]
    assert last_value(training.lr) == 0.0004
    assert training.recipe.optimizer_state == "carried"
    assert {"augment", "micro_batch"} <= set(training.recipe.unverified)


@pytest.mark.parametrize(
    ("t", "point"), [("9ep", 101_331), ("45ep", 56_295), ("81ep", 11_259), ("90ep", 0)]
)
def test_rendas_grid_of_t_on_imagenet(t: str, point: int) -> None:
    how = resolved("renda2020-imagenet", "resnet-50", "large", t)["weight-rewind"].retraining
    assert how is not None
    assert how.source_step == point
    default = resolved("renda2020-imagenet", "resnet-50", "large")["weight-rewind"].retraining
    assert default is not None
    assert default.steps == 101_331


@pytest.mark.parametrize(
    ("network", "dataset"),
    [(n, d) for n in ("resnet-20", "resnet-56", "resnet-110") for d in ("cifar10", "cifar100")],
)
def test_mikler_resnets(network: str, dataset: str) -> None:
    training = one("mikler2021-resnet", network, dataset).training
    assert training.settings == TrainSettings(
        batch=128,
        straddle=True,
        drop_last=False,
        evaluate_every=2_000,
        # Keras' l2 of 1e-4 on kernels, biases, γ and β is a weight decay of 2e-4 on all of them
        optimizer=OptimizerSettings("sgd", 0.9, True, 2e-4, "all"),
        label_smoothing=0.0,
        augment=AugmentSettings(pad=4, padding="reflect", flip=True),
        # CIFAR-10's constants, also for CIFAR-100
        normalize=NormalizeSettings("channel", CIFAR_MEAN, CIFAR_STD),
        precision="fp32",
        deterministic=True,
    )
    assert (training.network.bn_momentum, training.network.bn_eps) == (0.003, 1e-5)
    assert training.network.shortcut == "projection"
    assert training.network.initializer == "he-uniform"
    assert (training.data.validation_from, training.data.validation_count) == ("none", 0)
    assert length(training.lr) == 72_000
    assert runs(training.lr) == [(0, 0.1), (36_000, 0.01), (54_000, 0.001)]
    assert training.recipe.optimizer_state == "fresh"


def test_miklers_retraining() -> None:
    found = resolved("mikler2021-resnet", "resnet-20")
    hows = {name: point.retraining for name, point in found.items() if point.retraining}
    assert {name: (how.steps, how.source_step) for name, how in hows.items()} == {
        "fine-tune": (72_000, None),
        "lr-rewind": (72_000, None),
        "weight-rewind": (64_000, 8_000),
        "weight-rewind-low-lr": (64_000, 8_000),
        "reinit": (72_000, None),
    }
    assert runs(hows["weight-rewind"].lr) == [(0, 0.1), (28_000, 0.01), (46_000, 0.001)]
    assert runs(hows["fine-tune"].lr) == [(0, 0.001)]
    assert {how.optimizer_state for how in hows.values()} == {"fresh"}


@pytest.mark.parametrize(
    ("name", "lr", "momentum"),
    [("mikler2021-wrn", 0.1, 0.1), ("mikler2021-thesis-wrn", 0.2, 0.01)],
)
@pytest.mark.parametrize("network", ["wrn-16-8", "wrn-28-10"])
def test_mikler_wide_resnets(name: str, lr: float, momentum: float, network: str) -> None:
    training = one(name, network).training
    assert training.settings == TrainSettings(
        batch=128,
        straddle=True,
        drop_last=False,
        evaluate_every=2_000,
        optimizer=OptimizerSettings("sgd", 0.9, True, 4e-4, "all"),  # Keras' l2 of 2e-4
        label_smoothing=0.0,
        augment=AugmentSettings(pad=4, padding="reflect", flip=True),
        normalize=NormalizeSettings("channel", CIFAR_MEAN, CIFAR_STD),
        precision="fp32",
        deterministic=True,
    )
    assert (training.network.bn_momentum, training.network.bn_eps) == (momentum, 1e-3)
    assert training.network.initializer == "he-uniform"
    assert length(training.lr) == 80_000
    steps = [(step, pytest.approx(rate)) for step, rate in runs(training.lr)]
    assert steps == [(0, lr), (32_000, lr / 5), (48_000, lr / 25), (64_000, lr / 125)]
    how = resolved(name, network)["weight-rewind"].retraining
    assert how is not None
    assert (how.steps, how.source_step, how.optimizer_state) == (72_000, 8_000, "fresh")


@pytest.mark.parametrize(
    ("percent", "step"), [("0", None), ("25", 60_000), ("75", 20_000), ("97.5", 2_000), ("100", 0)]
)
def test_the_thesis_partial_rewinding(percent: str, step: int | None) -> None:
    name = f"partial-rewind-{percent}"
    how = resolved("mikler2021-thesis-wrn", "wrn-16-8", strategy=name)[name].retraining
    assert how is not None
    assert (how.source, how.source_step, how.steps) == ("dense", step, 80_000)
    assert runs(how.lr)[0] == (0, 0.2)


def test_a_variant_is_its_base_with_changes() -> None:
    base, variant = recipe_data("renda2020-cifar"), recipe_data("renda2020-cifar-vgg")
    assert base.pop("optimizer") | {"weight_decay": 5e-4} == variant.pop("optimizer")
    assert base == variant


def test_what_gnmt_would_need_can_be_said() -> None:
    """Adam and label smoothing (Renda et al.'s GNMT: .9, .999, 1e-8; .1) are fields like any other."""
    found = validate(
        Recipe,
        {
            "length": "8630it",
            "batch": 2048,
            "optimizer": {"name": "adam", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
            "label_smoothing": 0.1,
            "schedule": {
                "kind": "step",
                "lr": 0.002,
                "milestones": ["6473it", "7192it", "7911it"],
                "gamma": 0.5,
                "warmup": "200it",
            },
        },
        ("recipe",),
    )
    assert (found.optimizer.name, found.label_smoothing) == ("adam", 0.1)

"""Network summaries: shapes, multiply-adds, and networks that do not fit their data."""

from __future__ import annotations

import pytest
import torch

from prunectl.errors import UnknownName
from prunectl.ml.network_summary import NetworkMisfit
from prunectl.ml.networks.build import build
from prunectl.ml.pruning.masks import next_masks
from prunectl.ml.summarise import summarise
from prunectl.spec.density import ImpossibleDensity
from prunectl.spec.settings import NetworkSettings, PruneSettings
from tests.support.checking import check


def settings(name="resnet-20", shape=(3, 32, 32), classes=10, **rest):
    return NetworkSettings(name, shape, classes, **rest)


@pytest.mark.parametrize(
    ("name", "shape", "macs"),
    [
        ("resnet-20", (3, 32, 32), 40_813_184),
        ("wrn-16-8", (3, 32, 32), 1_548_145_664),
        ("vgg-16", (3, 32, 32), 313_201_664),
        ("lenet-300-100", (1, 28, 28), 266_200),
        ("lenet-5", (1, 28, 28), 24 * 24 * 500 + 8 * 8 * 25_000 + 405_000),
        ("convnet", (1, 8, 8), 64 * 72 + 16 * 1_152 + 4 * 4_608 + 320),
    ],
)
def test_multiply_adds(name, shape, macs):
    assert summarise(settings(name, shape)).macs == macs


def test_layers_are_described_one_by_one():
    layer = summarise(settings()).layers[7]
    assert (layer.name, layer.kind, layer.role) == ("stages.1.0.conv1", "conv", "hidden")
    assert (layer.shape, layer.weights) == ((32, 16, 3, 3), 4_608)
    assert layer.macs == 4_608 * 16 * 16
    assert layer.parameter in build(settings()).state_dict()
    assert summarise(settings()).layers[-1].macs == 640


def test_kept_weights_macs_and_parameters():
    anatomy = summarise(settings("convnet", (1, 8, 8)))
    masks = {
        "conv2.weight": torch.zeros(16, 8, 3, 3, dtype=torch.bool),
        "classifier.weight": torch.ones(10, 32, dtype=torch.bool),
        "bn2.bias": torch.zeros(16, dtype=torch.bool),
    }
    assert anatomy.weights_kept(masks) == 6_152 - 1_152
    assert anatomy.macs_kept(masks) == anatomy.macs - 16 * 1_152
    assert anatomy.parameters_kept(masks) == 6_274 - 1_152 - 16
    assert anatomy.weights_kept({}) == anatomy.prunable
    assert anatomy.macs_kept({}) == anatomy.macs


def test_excluded_layers_do_not_count_as_prunable():
    anatomy = summarise(settings()).excluding(("first", "shortcuts"))
    assert anatomy.prunable == 270_896 - 432 - 512 - 2_048
    assert anatomy.parameters == 272_474
    assert [layer.name for layer in anatomy.layers if not layer.prunable] == [
        "stem.conv",
        "stages.1.0.shortcut.conv",
        "stages.2.0.shortcut.conv",
    ]
    with pytest.raises(UnknownName):
        summarise(settings()).excluding(("stages.9.0.conv1",))


@pytest.mark.parametrize(
    ("name", "shape", "classes", "reason"),
    [
        ("lenet-5", (1, 8, 8), 10, "at least 16×16"),
        ("vgg-16", (3, 8, 8), 10, "at least 32×32"),
        ("resnet-34", (1, 224, 224), 10, "three channels"),
        ("resnet-20", (3, 32, 32), 0, "one output"),
        ("resnet-20", (3, 0, 32), 10, "one pixel"),
    ],
)
def test_misfits_are_one_clear_line(name, shape, classes, reason):
    with pytest.raises(NetworkMisfit, match=reason) as error:
        summarise(settings(name, shape, classes))
    assert str(error.value).startswith(f"{name} does not fit images of ")
    assert "\n" not in str(error.value)


def test_a_misfit_found_only_by_running_names_the_layer(monkeypatch):
    from prunectl.ml.networks import vgg

    monkeypatch.setattr(
        vgg, "STAGES", ((8,), (8,))
    )  # its own check is for the true number of stages
    monkeypatch.setattr(vgg, "min", lambda sides: 4, raising=False)
    with pytest.raises(NetworkMisfit, match=r"in or after stages.1.1, at 8×1×2"):
        summarise(settings("vgg-16", (3, 2, 4)))


@pytest.mark.parametrize(
    ("prune", "count"),
    [
        ({"density": "0.107"}, 28_986),
        ({"density": "0.107", "scope": "uniform", "granularity": "channel"}, 28_986),
        ({"density": "0.5", "exclude": ("first",)}, (270_896 - 432) // 2),
        ({"density": "0.000001"}, 0),
        ({"ratios": (("stages.0.0.conv1", "0.5"),)}, 270_896 - 2 * 8 * 144),
        ({"ratios": (("stages.0.0.conv2", "0.5"),)}, 270_896 - 8 * 144),
        ({"ratios": (("classifier", "0.25"),)}, 270_896 - 160),
    ],
)
def test_checking_a_density_before_anything_runs(prune, count):
    assert check(settings(), PruneSettings(**prune)) == count


@pytest.mark.parametrize(
    ("prune", "error"),
    [
        ({"criterion": "magnitud"}, UnknownName),
        ({"exclude": ("stem",)}, UnknownName),
        ({"ratios": (("stages.0.0", "0.5"),)}, UnknownName),
        ({"ratios": (("stages.0.0.conv1", "1.5"),)}, ValueError),
        ({"density": "2"}, ValueError),
        ({"density": "0.003", "scope": "uniform"}, ImpossibleDensity),
    ],
)
def test_checking_finds_what_would_fail_later(prune, error):
    with pytest.raises(error):
        check(settings(), PruneSettings(**prune))


def test_unknown_networks():
    with pytest.raises(UnknownName, match="did you mean 'resnet-20'"):
        summarise(settings("resnet_20"))


@pytest.mark.parametrize(
    "prune",
    [
        {"ratios": (("conv1", "0.5"), ("conv2", "0.3"), ("conv3", "0.1"), ("classifier", "0.4"))},
        {"ratios": (("conv1", "0.3"), ("conv3", "1"))},
        {"ratios": (("conv1", "0.5"),), "exclude": ("conv2",)},
        {"density": "0.37"},
    ],
)
def test_what_is_counted_is_what_the_masks_keep(prune):
    network = settings("convnet", (1, 8, 8))
    built = build(network, torch.Generator().manual_seed(0))
    masks = next_masks(built, built.state_dict(), None, PruneSettings(**prune))
    assert check(network, PruneSettings(**prune)) == sum(int(m.sum()) for m in masks.values())


def test_one_output_is_enough():
    """How many a task needs is the plan's to check."""
    assert summarise(settings("lenet-300-100", (1, 2, 2), 1)).layers[-1].shape == (1, 100)

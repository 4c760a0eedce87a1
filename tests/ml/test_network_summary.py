"""Network summaries: shapes, multiply-adds, and networks that do not fit their data."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunectl.errors import NetworkMisfit, UnknownName
from prunectl.ml.networks import registry
from prunectl.ml.networks.build import build
from prunectl.ml.pruning.masks import next_masks
from prunectl.ml.summarise import examine, summarise
from prunectl.spec.density import ImpossibleDensity
from prunectl.spec.settings import NetworkSettings, PruneSettings
from tests.support.checking import kept


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
    assert kept(settings(), PruneSettings(**prune)) == count


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
        kept(settings(), PruneSettings(**prune))


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
    assert kept(network, PruneSettings(**prune)) == sum(int(m.sum()) for m in masks.values())


def test_one_output_is_enough():
    """How many a task needs is the plan's to check."""
    assert summarise(settings("lenet-300-100", (1, 2, 2), 1)).layers[-1].shape == (1, 100)


class Grouped(nn.Module):
    """A network that trains on whole groups of images alone, and evaluates any number."""

    def __init__(self, settings: NetworkSettings, group: int) -> None:
        super().__init__()
        self.group = group
        self.classifier = nn.Linear(settings.shape[0], settings.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) < self.group:
            raise ValueError(f"no group of {self.group}")
        return self.classifier(images.mean((2, 3)))


class Squeezing(nn.Module):
    """A network that takes a batch of one for none."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.classifier = nn.Linear(settings.shape[0], settings.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(images.mean((2, 3))).squeeze(0)


class Reading(Grouped):
    """A network that reads numbers back, which cannot be done without numbers."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images):
            images.sum().item()
        return super().forward(images)


@pytest.fixture
def _own_networks(monkeypatch):
    family = registry.Family
    own = (
        family("grouped-(?P<group>[0-9]+)", f"{__name__}:Grouped", (), lambda group: True),
        family("reading-(?P<group>[0-9]+)", f"{__name__}:Reading", (), lambda group: True),
        family("squeezing", f"{__name__}:Squeezing", ()),
    )
    monkeypatch.setattr(registry, "FAMILIES", own)


@pytest.mark.usefixtures("_own_networks")
@pytest.mark.parametrize("kind", ["grouped", "reading"])
def test_how_many_images_training_needs_at_once(kind):
    for group in (1, 2, 5, 8):
        found = examine(settings(f"{kind}-{group}"))
        assert found.smallest_batch == group
        assert found.fewer_fail == ("" if group == 1 else "it fails in or after its input")
    with pytest.raises(NetworkMisfit, match="it fails in or after its input") as error:
        examine(settings(f"{kind}-9"))
    assert error.value.fits is None


@pytest.mark.usefixtures("_own_networks")
def test_a_network_that_cannot_evaluate_one_image_is_a_misfit():
    with pytest.raises(NetworkMisfit, match=r"of 1 images its output is \(10,\)"):
        examine(settings("squeezing"))


@pytest.mark.parametrize(
    ("name", "shape", "fits"),
    [
        ("lenet-5", (1, 8, 20), (1, 16, 20)),
        ("vgg-16", (3, 8, 8), (3, 32, 32)),
        ("resnet-34", (1, 224, 200), (3, 224, 200)),
    ],
)
def test_a_misfit_says_the_nearest_shape_that_fits(name, shape, fits):
    with pytest.raises(NetworkMisfit) as error:
        examine(settings(name, shape))
    assert error.value.fits == fits
    assert examine(settings(name, fits)).layers

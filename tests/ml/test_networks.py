"""Networks: exact parameter counts, initialisation from one generator, names that can be read."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import nn

from prunectl.errors import UnknownName
from prunectl.ml.networks.build import build, skeleton
from prunectl.ml.networks.initialize import initialise
from prunectl.ml.networks.parts import BatchNorm, PaddedShortcut
from prunectl.ml.networks.registry import find, names
from prunectl.ml.summarise import summarise
from prunectl.spec.settings import NetworkSettings
from tests.support.prunable import prunable

CIFAR = (3, 32, 32)
PLAIN, BARE, EVERY, PAD = (
    "projection",
    "projection-without-bn",
    "projection-everywhere",
    "padding",
)
INITIALIZERS = ("pytorch", "he-uniform", "he-normal", "renda2020")


def settings(name="resnet-20", shape=CIFAR, classes=10, **rest):
    return NetworkSettings(name, shape, classes, **rest)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "shortcut", "kernels", "parameters"),
    [
        # Mikler 2021, Table 1: without BatchNorm on shortcuts; with it in the released code.
        ("resnet-20", BARE, 270_896, 272_282),
        ("resnet-20", PLAIN, 270_896, 272_474),
        ("resnet-56", BARE, 851_504, 855_578),
        ("resnet-56", PLAIN, 851_504, 855_770),
        ("resnet-110", BARE, 1_722_416, 1_730_522),
        ("resnet-110", PLAIN, 1_722_416, 1_730_714),
        # Renda et al. 2020: a projection in the first block of every stage.
        ("resnet-20", EVERY, 271_152, 272_762),
        ("resnet-56", EVERY, 851_760, 856_058),
        ("resnet-110", EVERY, 1_722_672, 1_731_002),
        # He et al. 2016, option A: 0.27 M and 0.85 M.
        ("resnet-20", PAD, 268_336, 269_722),
        ("resnet-56", PAD, 848_944, 853_018),
        # Mikler 2021 and his thesis.
        ("wrn-16-8", PLAIN, 10_954_160, 10_961_370),
        ("wrn-28-10", PLAIN, 36_461_232, 36_479_194),
        ("vgg-16", PLAIN, 14_715_584, 14_724_042),
    ],
)
def test_cifar_counts(name, shortcut, kernels, parameters):
    anatomy = summarise(settings(name, shortcut=shortcut))
    assert (anatomy.prunable, anatomy.parameters) == (kernels, parameters)


def test_option_a_has_only_the_3x3_convolutions():
    anatomy = summarise(settings(shortcut=PAD))
    assert sum(layer.weights for layer in anatomy.layers if layer.kind == "conv") == 267_696
    assert not [layer for layer in anatomy.layers if layer.role == "shortcut"]


@pytest.mark.parametrize(
    ("name", "shape", "classes", "kernels", "parameters"),
    [
        ("lenet-300-100", (1, 28, 28), 10, 266_200, 266_610),
        ("lenet-5", (1, 28, 28), 10, 430_500, 431_080),
        ("convnet", (1, 8, 8), 10, 6_152, 6_274),
        ("resnet-56", CIFAR, 100, 857_264, 861_620),
        ("resnet-34", (3, 224, 224), 1000, 21_779_648, 21_797_672),  # torchvision's own counts
        ("resnet-50", (3, 224, 224), 1000, 25_502_912, 25_557_032),
    ],
)
def test_counts_on_other_data(name, shape, classes, kernels, parameters):
    anatomy = summarise(settings(name, shape, classes))
    assert (anatomy.prunable, anatomy.parameters) == (kernels, parameters)


def test_shortcuts_of_the_imagenet_networks():
    def count(shortcut):
        return summarise(settings("resnet-34", shortcut=shortcut)).parameters

    assert count(EVERY) - count(PLAIN) == 64 * 64 + 2 * 64
    assert count(PLAIN) - count(BARE) == 2 * (128 + 256 + 512)
    assert count(BARE) - count(PAD) == 64 * 128 + 128 * 256 + 256 * 512
    # ResNet-50's first stage changes the channels anyway.
    assert summarise(settings("resnet-50", shortcut=EVERY)) == summarise(settings("resnet-50"))


@pytest.mark.parametrize("name", names())
def test_every_name_resolves_and_maps_images_to_logits(name):
    shape = (1, 28, 28) if name.startswith("lenet") else CIFAR
    network = skeleton(settings(name, shape, 7), "cpu").eval()
    assert network(torch.empty(0, *shape)).shape == (0, 7)


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("resnet-8", "ResNet"),
        ("resnet-1202", "ResNet"),
        ("resnet-50", "imagenet_resnet"),  # though 50 = 6·8 + 2
        ("wrn-40-2", "WideResNet"),
        ("wrn-10-1", "WideResNet"),
    ],
)
def test_families(name, maker):
    assert find(name)[0].endswith(f":{maker}")


@pytest.mark.parametrize(
    "name",
    [
        "resnet-21",
        "resnet-2",
        "resnet-020",
        "resnet-",
        "wrn-16",
        "wrn-17-8",
        "wrn-16-0",
        "ResNet-20",
    ],
)
def test_no_second_names_and_no_impossible_depths(name):
    with pytest.raises(UnknownName, match="allowed: lenet-300-100") as error:
        find(name)
    assert error.value.kind == "network"


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_same_generator_same_network_and_the_global_one_untouched(initializer):
    before = torch.random.get_rng_state()
    first, second, other = (
        build(settings("resnet-8", initializer=initializer), seeded(seed)).state_dict()
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


@pytest.mark.parametrize(
    ("initializer", "stem", "classifier"),
    [
        ("pytorch", 0.10323862, 0.04629624),
        ("he-uniform", 0.25288194, 0.11340217),
        ("he-normal", -0.31363273, -0.29610920),
        ("renda2020", -0.25212070, 0.01122026),
    ],
)
def test_fresh_weights_are_pinned(initializer, stem, classifier):
    # Other numbers here are other numerics: stage keys would promise what is no longer computed.
    network = build(settings("resnet-8", initializer=initializer), seeded())
    assert network.stem.conv.weight[0, 0, 0, 1].item() == pytest.approx(stem, rel=1e-5)
    assert network.classifier.weight[-1, -1].item() == pytest.approx(classifier, rel=1e-5)


def test_initialising_again_in_place_and_in_another_layout():
    fresh = build(settings("resnet-8"), seeded())
    used = build(settings("resnet-8"), seeded(1)).to(memory_format=torch.channels_last)
    used(torch.randn(2, *CIFAR, generator=seeded()))
    initialise(used, "he-normal", seeded())
    state = used.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("name", ["lenet-5", "resnet-34", "vgg-16"])
def test_building_without_a_generator_draws_nothing(name):
    before = torch.random.get_rng_state()
    shape = (1, 28, 28) if name == "lenet-5" else CIFAR
    network = build(settings(name, shape))
    skeleton(settings(name, shape))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(kernel.any() for kernel in prunable(network).values())


def test_a_network_on_the_meta_device():
    with torch.device("meta"):
        network = build(settings(), seeded())
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


@pytest.mark.parametrize(
    ("initializer", "conv", "dense"),
    [
        ("he-uniform", math.sqrt(2), math.sqrt(2)),
        ("he-normal", math.sqrt(2), math.sqrt(2)),
        ("pytorch", math.sqrt(1 / 3), math.sqrt(1 / 3)),
        ("renda2020", 1.0, None),
    ],
)
def test_spread_of_fresh_kernels(initializer, conv, dense):
    network = build(settings("resnet-32", initializer=initializer), seeded())
    for name, kernel in prunable(network).items():
        fan_in = kernel[0].numel()
        gain = dense if name == "classifier.weight" else conv
        expected = 0.01 if gain is None else gain / math.sqrt(fan_in)
        margin = 5 / math.sqrt(2 * kernel.numel())
        assert kernel.std().item() == pytest.approx(expected, rel=margin), name


def test_bounds_of_fresh_kernels():
    uniform = build(settings(initializer="he-uniform"), seeded()).state_dict()
    assert uniform["stages.0.0.conv1.weight"].abs().max() <= math.sqrt(6 / 144)
    cut = build(settings(initializer="renda2020"), seeded()).state_dict()
    kernel = cut["stages.2.1.conv1.weight"]
    # Cut off at two sigmas of the normal before the cut, whose standard deviation is 0.8796 after it.
    assert kernel.abs().max() * math.sqrt(576) == pytest.approx(2 / 0.87962566, rel=1e-3)


def test_biases_and_batchnorm_start_neutral():
    network = build(settings("lenet-5", (1, 28, 28)), seeded())
    assert not network.conv1.bias.any()
    drawn = build(settings("lenet-5", (1, 28, 28), initializer="pytorch"), seeded())
    assert 0 < drawn.conv1.bias.abs().max() <= 1 / 5
    norms = [m for m in build(settings(), seeded()).modules() if isinstance(m, BatchNorm)]
    for norm in norms:
        assert (norm.weight == 1).all()
        assert (norm.running_var == 1).all()
        assert not norm.bias.any()
        assert not norm.running_mean.any()


def test_batchnorm_constants_are_the_recipes():
    network = build(settings("wrn-10-1", bn_momentum=0.003, bn_eps=1e-3))
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 7
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.003, 1e-3)}
    imagenet = skeleton(settings("resnet-34", bn_momentum=0.003))
    assert {m.momentum for m in imagenet.modules() if isinstance(m, nn.BatchNorm2d)} == {0.003}


def test_batchnorm_without_counter_trains_and_loads_as_torch_does():
    ours, theirs = BatchNorm(4, momentum=0.3), nn.BatchNorm2d(4, momentum=0.3)
    images = torch.randn(8, 4, 3, 3, generator=seeded())
    assert torch.equal(ours(images), theirs(images))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert set(ours.state_dict()) == {"weight", "bias", "running_mean", "running_var"}
    other = BatchNorm(4)
    other.load_state_dict(dict(ours.state_dict()))  # a plain dictionary, as read from a file
    assert torch.equal(other.running_var, ours.running_var)


def test_state_dicts_hold_only_float32_and_have_names_to_read():
    state = build(settings(), seeded()).state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert next(iter(state)) == "stem.conv.weight"
    assert list(state)[-1] == "classifier.bias"
    assert {"stages.1.0.conv1.weight", "stages.1.0.shortcut.conv.weight"} < set(state)
    assert "stages.0.0.shortcut.conv.weight" not in state
    wide = skeleton(settings("wrn-16-8")).state_dict()
    assert {"stem.weight", "stages.0.0.bn1.weight", "stages.0.0.shortcut.weight"} < set(wide)


def test_padded_shortcut_takes_every_other_pixel_and_adds_zero_channels():
    images = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4)
    out = PaddedShortcut(2, 4, 2)(images)
    assert torch.equal(out[0, :2], images[0, :, ::2, ::2])
    assert not out[0, 2:].any()
    assert out.shape == (1, 4, 2, 2)


@pytest.mark.parametrize("shortcut", [PLAIN, BARE, EVERY, PAD])
@pytest.mark.parametrize("name", ["resnet-8", "wrn-10-1"])
def test_every_shortcut_passes_gradients_to_every_parameter(name, shortcut):
    network = build(settings(name, (3, 8, 8), shortcut=shortcut), seeded())
    network(torch.randn(4, 3, 8, 8, generator=seeded())).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_wide_projection_starts_from_the_activated_input():
    network = build(settings("wrn-10-1", (3, 8, 8)), seeded()).eval()
    block = network.stages[1][0]
    images = torch.randn(2, 16, 8, 8, generator=seeded())
    active = torch.relu(block.bn1(images))
    expected = block.conv2(torch.relu(block.bn2(block.conv1(active)))) + block.shortcut(active)
    assert torch.equal(block(images), expected)


def test_the_small_network_tells_patterns_apart_in_a_few_steps():
    network = build(settings("convnet", (1, 8, 8), 2), seeded())
    labels = torch.arange(64) % 2
    images = torch.randn(64, 1, 8, 8, generator=seeded()) + 2 * labels.view(-1, 1, 1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert statistics.mean(losses[-3:]) < 0.1

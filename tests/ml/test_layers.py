"""Which layers may be pruned: all kernels, in order, by role and by name."""

from __future__ import annotations

from collections import Counter

import pytest

from prunectl.errors import UnknownName
from prunectl.ml.networks.build import skeleton
from prunectl.ml.pruning.layers import layer_name, layers, prunable_layers
from prunectl.spec.settings import NetworkSettings
from tests.support.prunable import prunable


def network(name="resnet-20", shape=(3, 32, 32), **rest):
    return skeleton(NetworkSettings(name, shape, 10, **rest))


def test_prunable_is_every_kernel_and_nothing_else():
    kernels = prunable(network())
    assert sum(kernel.numel() for kernel in kernels.values()) == 270_896
    assert all(name.endswith(".weight") for name in kernels)
    assert {kernel.dim() for kernel in kernels.values()} == {2, 4}
    assert next(iter(kernels)) == "stem.conv.weight"
    assert list(kernels)[-1] == "classifier.weight"


def test_values_are_the_networks_own_parameters():
    net = network()
    assert prunable(net)["classifier.weight"] is net.classifier.weight


@pytest.mark.parametrize(
    ("name", "shortcut", "expected"),
    [
        ("resnet-20", "projection", {"first": 1, "shortcut": 2, "hidden": 18, "last": 1}),
        (
            "resnet-20",
            "projection-everywhere",
            {"first": 1, "shortcut": 3, "hidden": 18, "last": 1},
        ),
        ("resnet-34", "projection", {"first": 1, "shortcut": 3, "hidden": 32, "last": 1}),
        ("wrn-16-8", "projection", {"first": 1, "shortcut": 3, "hidden": 12, "last": 1}),
        ("vgg-16", "projection", {"first": 1, "hidden": 12, "last": 1}),
    ],
)
def test_roles(name, shortcut, expected):
    assert Counter(layer.role for layer in layers(network(name, shortcut=shortcut))) == expected


@pytest.mark.parametrize(
    ("exclude", "gone"),
    [
        (("first",), {"stem.conv"}),
        (("last",), {"classifier"}),
        (("shortcuts",), {"stages.1.0.shortcut.conv", "stages.2.0.shortcut.conv"}),
        (("stages.0.1.conv2", "first"), {"stages.0.1.conv2", "stem.conv"}),
    ],
)
def test_exclusions(exclude, gone):
    net = network()
    left = {layer.name for layer in prunable_layers(net, exclude)}
    assert {layer.name for layer in layers(net)} - left == gone
    assert set(map(layer_name, prunable(net, exclude))) == left


def test_excluding_shortcuts_where_there_are_none_is_no_mistake():
    assert len(prunable(network("vgg-16"), ("shortcuts",))) == 14


def test_unknown_layers_are_told_with_the_nearest():
    with pytest.raises(UnknownName, match=r"did you mean 'stages.0.1.conv2'"):
        prunable(network(), ("stages.0.1.con2",))

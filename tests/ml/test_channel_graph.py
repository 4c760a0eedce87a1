"""Which BatchNorm follows, and which convolution reads, a convolution."""

from __future__ import annotations

import pytest

from prunectl.ml.networks.build import skeleton
from prunectl.ml.pruning.channel_graph import norms, readers
from prunectl.spec.settings import NetworkSettings


def network(name, shape=(3, 32, 32), **rest):
    return skeleton(NetworkSettings(name, shape, 10, **rest))


def test_norms_of_a_resnet_stand_behind_every_convolution():
    pairs = norms(network("resnet-8"))
    assert len(pairs) == 9
    assert pairs["stem.conv"] == "stem.bn"
    assert pairs["stages.1.0.conv2"] == "stages.1.0.bn2"
    assert pairs["stages.1.0.shortcut.conv"] == "stages.1.0.shortcut.bn"
    assert len(norms(network("resnet-8", shortcut="projection-without-bn"))) == 7


def test_norms_of_a_wide_resnet_stand_before_the_next_convolution():
    pairs = norms(network("wrn-10-1"))
    assert pairs == {
        "stem": "stages.0.0.bn1",
        "stages.0.0.conv1": "stages.0.0.bn2",
        "stages.1.0.conv1": "stages.1.0.bn2",
        "stages.2.0.conv1": "stages.2.0.bn2",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet-8", {f"stages.{i}.0.conv1": f"stages.{i}.0.conv2" for i in range(3)}),
        ("wrn-10-1", {f"stages.{i}.0.conv1": f"stages.{i}.0.conv2" for i in range(3)}),
        ("convnet", {"conv1": "conv2", "conv2": "conv3"}),
        ("lenet-5", {"conv1": "conv2"}),
        ("lenet-300-100", {}),
    ],
)
def test_readers(name, expected):
    shape = (1, 28, 28) if name.startswith("lenet") else (3, 32, 32)
    assert readers(network(name, shape)) == expected


def test_readers_through_pooling_and_torchvisions_modules():
    vgg = readers(network("vgg-16"))
    assert len(vgg) == 12
    assert vgg["stages.0.1.conv"] == "stages.1.0.conv"
    assert readers(network("resnet-50"))["layer2.1.conv2"] == "layer2.1.conv3"

"""Every network, by name and by pattern; torch-free, so that plans can be read without it.

A family is an entry here and a small file with a function or class ``(settings, **numbers) -> nn.Module``. Names are
canonical: no two name the same network, so a name can be part of a stage's identity.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from prunectl.errors import UnknownName


@dataclass(frozen=True)
class Family:
    """Networks whose names match `pattern`; its groups are integer arguments of what `reference` names."""

    pattern: str
    reference: str
    shown: tuple[str, ...]
    """Names to offer; a pattern may accept more."""
    accepts: Callable[..., bool] = lambda: True
    """Whether there is a network of these arguments."""
    numbers: str = ""
    """What `accepts` asks of the arguments, in words."""


# Without leading zeros: resnet-020 must not be a second name of resnet-20.
_NUMBER = "[1-9][0-9]{0,8}"
MOST_DEPTH, MOST_WIDTH = 1202, 64
"""The deepest of He et al. 2015, which takes 0.3 s to lay out, and several times Zagoruyko & Komodakis' widest."""

# In this order: the first family that matches and accepts decides.
FAMILIES = (
    Family("lenet-300-100", "prunectl.ml.networks.lenet:LeNet300100", ("lenet-300-100",)),
    Family("lenet-5", "prunectl.ml.networks.lenet:LeNet5", ("lenet-5",)),
    Family("convnet", "prunectl.ml.networks.convnet:ConvNet", ("convnet",)),
    Family(
        f"resnet-(?P<depth>{_NUMBER})",
        "prunectl.ml.networks.imagenet_resnet:imagenet_resnet",
        ("resnet-34", "resnet-50"),
        lambda depth: depth in (34, 50),
    ),
    Family(
        f"resnet-(?P<depth>{_NUMBER})",
        "prunectl.ml.networks.resnet:ResNet",
        ("resnet-20", "resnet-32", "resnet-44", "resnet-56", "resnet-110"),
        lambda depth: 8 <= depth <= MOST_DEPTH and depth % 6 == 2,
        f"resnet-(6n + 2) from 8 to {MOST_DEPTH}",
    ),
    Family("vgg-16", "prunectl.ml.networks.vgg:VGG16", ("vgg-16",)),
    Family(
        f"wrn-(?P<depth>{_NUMBER})-(?P<width>{_NUMBER})",
        "prunectl.ml.networks.wrn:WideResNet",
        ("wrn-16-8", "wrn-28-10"),
        lambda depth, width: 10 <= depth <= MOST_DEPTH and depth % 6 == 4 and width <= MOST_WIDTH,
        f"wrn-(6n + 4)-k from 10 to {MOST_DEPTH - MOST_DEPTH % 6 - 2}, k to {MOST_WIDTH}",
    ),
)


def names() -> list[str]:
    """Return the names to show; families of numbered networks accept more than these."""
    return [name for family in FAMILIES for name in family.shown]


def find(name: str) -> tuple[str, dict[str, int]]:
    """Return how a network is made: a reference, for `resolve`, and its arguments besides the settings.

    Raises UnknownName.
    """
    of_its_kind: list[str] = []
    for family in FAMILIES:
        match = re.fullmatch(family.pattern, name)
        if match is not None:
            arguments = {key: int(value) for key, value in match.groupdict().items()}
            if family.accepts(**arguments):
                return family.reference, arguments
            of_its_kind += filter(None, [family.numbers])
    raise UnknownName("network", name, [*names(), *of_its_kind])

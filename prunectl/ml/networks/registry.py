"""Every network there is, by name and by pattern; torch-free, so that plans can be read without it.

A family is one line here and one small file with a function ``(settings, **numbers) -> nn.Module``. Names are
canonical: no two name the same network, so a name can be part of a stage's identity.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunectl.errors import UnknownName

if TYPE_CHECKING:
    from torch import nn

    from prunectl.spec.settings import NetworkSettings


@dataclass(frozen=True)
class NetworkEntry:
    """Where a network is made: `module`.`function`(settings, **arguments)."""

    name: str
    module: str
    function: str
    arguments: Mapping[str, int]
    summary: str

    def make(self, settings: NetworkSettings) -> nn.Module:
        """The network with whatever values torch leaves in it; imports torch."""
        function = getattr(importlib.import_module(self.module), self.function)
        network: nn.Module = function(settings, **self.arguments)
        return network


@dataclass(frozen=True)
class Family:
    """Names that match `pattern`, whose groups are the integer arguments of `function`."""

    pattern: str
    module: str
    function: str
    shown: tuple[str, ...]
    summary: str
    accepts: Callable[..., bool] = lambda: True


_NUMBER = "[1-9][0-9]*"  # without leading zeros: resnet-020 must not be a second name of resnet-20

FAMILIES: tuple[Family, ...] = (
    Family("lenet-300-100", "lenet", "lenet_300_100", ("lenet-300-100",), "dense layers 300-100"),
    Family("lenet-5", "lenet", "lenet_5", ("lenet-5",), "2 convolutions and 2 dense layers"),
    Family("convnet", "convnet", "convnet", ("convnet",), "3 small convolutions, for a CPU"),
    Family(
        f"resnet-(?P<depth>{_NUMBER})",
        "imagenet_resnet",
        "imagenet_resnet",
        ("resnet-34", "resnet-50"),
        "the ImageNet ResNets, for images of about 224×224",
        lambda depth: depth in (34, 50),
    ),
    Family(
        f"resnet-(?P<depth>{_NUMBER})",
        "resnet",
        "resnet",
        ("resnet-20", "resnet-32", "resnet-44", "resnet-56", "resnet-110"),
        "the CIFAR ResNets, any depth 6n + 2 but 50",
        lambda depth: depth >= 8 and depth % 6 == 2,
    ),
    Family("vgg-16", "vgg", "vgg_16", ("vgg-16",), "13 convolutions and 1 dense layer"),
    Family(
        f"wrn-(?P<depth>{_NUMBER})-(?P<width>{_NUMBER})",
        "wrn",
        "wrn",
        ("wrn-16-8", "wrn-28-10"),
        "Wide ResNets, any depth 6n + 4 and any width",
        lambda depth, width: depth >= 10 and depth % 6 == 4,
    ),
)


def names() -> list[str]:
    """The names to show; families of numbered networks accept more than these."""
    return [name for family in FAMILIES for name in family.shown]


def find(name: str) -> NetworkEntry:
    """The network of that name; the first family that accepts it decides.

    Raises UnknownName.
    """
    for family in FAMILIES:
        match = re.fullmatch(family.pattern, name)
        if match is None:
            continue
        arguments = {key: int(value) for key, value in match.groupdict().items()}
        if family.accepts(**arguments):
            module = f"prunectl.ml.networks.{family.module}"
            return NetworkEntry(name, module, family.function, arguments, family.summary)
    raise UnknownName("network", name, names())

"""A network by its settings: only names and shapes, or with values."""

from __future__ import annotations

import torch
from torch import nn

from prunectl.ml.networks.initialize import Undrawn, blank, initialise
from prunectl.ml.networks.registry import find
from prunectl.ml.resolve import resolve
from prunectl.spec.settings import NetworkSettings


def skeleton(settings: NetworkSettings, device: str = "meta") -> nn.Module:
    """Make the network with undefined values: names and shapes, in milliseconds; nothing is allocated on ``meta``.

    Raises UnknownName for its name, ValueError where its layers cannot be made for the shape.
    """
    reference, arguments = find(settings.name)
    with torch.device(device), Undrawn():
        network: nn.Module = resolve(reference)(settings, **arguments)
    return network


def build(settings: NetworkSettings, generator: torch.Generator | None = None) -> nn.Module:
    """Make a network on torch's default device, float32, taking [N, *settings.shape] to [N, classes] outputs.

    With a CPU `generator` it is freshly initialised by `settings.initializer`, all of it drawn from that generator
    in the order of the layers: same generator state, same network. Without one, kernels and biases are zero and
    BatchNorm is the identity, for a network that is about to be loaded into. torch's global generators are
    neither read nor moved.
    """
    device = torch.get_default_device()
    network = skeleton(settings, str(device))
    if generator is not None and device.type != "meta":
        initialise(network, settings.initializer, generator)
    else:
        blank(network)
    return network

"""Networks by name: `registry` knows them without torch, `build` makes one.

Everything here can be imported without torch; it is loaded by the first call of a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunectl.ml.networks.registry import find

if TYPE_CHECKING:
    import torch
    from torch import nn

    from prunectl.spec.settings import NetworkSettings


def skeleton(settings: NetworkSettings, device: str = "meta") -> nn.Module:
    """The network with undefined values: names and shapes, in milliseconds; nothing is allocated on ``meta``.

    Raises UnknownName for its name, ValueError where its layers cannot be made for the shape.
    """
    import torch

    from prunectl.ml.networks.initialize import Undrawn

    with torch.device(device), Undrawn():
        return find(settings.name).make(settings)


def build(settings: NetworkSettings, generator: torch.Generator | None = None) -> nn.Module:
    """A network on torch's default device, float32, taking [N, *settings.shape] to [N, classes] logits.

    With a CPU `generator` it is freshly initialised by `settings.initializer`, all of it drawn from that generator
    in the order of the layers: same generator state, same network. Without one, kernels and biases are zero and
    BatchNorm is the identity, for a network that is about to be loaded into. torch's global generators are
    neither read nor moved.
    """
    import torch

    from prunectl.ml.networks.initialize import blank, initialise

    device = torch.get_default_device()
    network = skeleton(settings, str(device))
    if generator is not None and device.type != "meta":
        initialise(network, settings.initializer, generator)
    else:
        blank(network)
    return network

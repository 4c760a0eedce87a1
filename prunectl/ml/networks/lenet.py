"""The two small networks of the pruning literature, for images like MNIST's."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from prunectl.spec.settings import NetworkSettings


class LeNet300100(nn.Module):
    """Dense layers of 300, 100 and `classes`: 266,610 parameters on 28×28 (LeCun et al. 1998)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(math.prod(settings.shape), 300)
        self.hidden2 = nn.Linear(300, 100)
        self.classifier = nn.Linear(100, settings.classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.hidden1(images.flatten(1)))
        hidden = functional.relu(self.hidden2(hidden))
        logits: Tensor = self.classifier(hidden)
        return logits


class LeNet5(nn.Module):
    """LeNet-5 as pruning papers use it since Han et al. 2015: Caffe's, of 431,080 parameters on 28×28.

    Convolutions 5×5 of 20 and 50 channels, each followed by 2×2 max-pooling; dense layers of 500 and `classes`.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        channels, height, width = settings.shape
        pixels = _after(height) * _after(width)
        if min(_after(height), _after(width)) < 1:
            raise ValueError("its convolutions and pooling need images of at least 16×16")
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.hidden = nn.Linear(50 * pixels, 500)
        self.classifier = nn.Linear(500, settings.classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        maps = functional.max_pool2d(functional.relu(self.conv2(maps)), 2)
        logits: Tensor = self.classifier(functional.relu(self.hidden(maps.flatten(1))))
        return logits


def _after(pixels: int) -> int:
    """Pixels along one side after both convolutions and poolings."""
    return ((pixels - 4) // 2 - 4) // 2

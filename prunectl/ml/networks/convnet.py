"""A network small enough to run whole studies on a CPU in minutes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from prunectl.ml.networks.parts import batchnorm, conv3x3, pooled
from prunectl.spec.settings import NetworkSettings


class ConvNet(nn.Module):
    """3×3 convolutions of 8, 16 and 32 channels with BatchNorm, the last two of stride 2, and a dense layer.

    6,152 kernel weights on one channel and ten classes. For images from 8×8 (scikit-learn's digits) to 32×32.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.conv1 = conv3x3(settings.shape[0], 8)
        self.bn1 = batchnorm(settings, 8)
        self.conv2 = conv3x3(8, 16, stride=2)
        self.bn2 = batchnorm(settings, 16)
        self.conv3 = conv3x3(16, 32, stride=2)
        self.bn3 = batchnorm(settings, 32)
        self.classifier = nn.Linear(32, settings.classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.bn1(self.conv1(images)))
        maps = functional.relu(self.bn2(self.conv2(maps)))
        maps = functional.relu(self.bn3(self.conv3(maps)))
        logits: Tensor = self.classifier(pooled(maps))
        return logits

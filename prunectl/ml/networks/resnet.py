"""The ResNets of He et al. 2016 for 32×32 images: 6n + 2 layers, 16, 32 and 64 channels, post-activation."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from prunectl.ml.networks.parts import (
    batchnorm,
    conv3x3,
    conv_bn,
    pooled,
    residual_stages,
    shortcut,
)
from prunectl.spec.settings import NetworkSettings

CHANNELS = (16, 32, 64)


class Block(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)); `stride` is the first convolution's."""

    def __init__(
        self, settings: NetworkSettings, inputs: int, outputs: int, stride: int, first: bool
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = batchnorm(settings, outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = batchnorm(settings, outputs)
        self.shortcut = shortcut(settings, inputs, outputs, stride, first=first)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.bn1(self.conv1(images)))
        return functional.relu(self.bn2(self.conv2(maps)) + self.shortcut(images))


class ResNet(nn.Module):
    """Stem, three stages of (`depth` − 2)/6 blocks (the later two start with stride 2), mean, dense layer."""

    def __init__(self, settings: NetworkSettings, depth: int) -> None:
        super().__init__()
        self.stem = conv_bn(settings, conv3x3(settings.shape[0], CHANNELS[0]))
        self.stages = residual_stages(Block, settings, CHANNELS[0], CHANNELS, (depth - 2) // 6)
        self.classifier = nn.Linear(CHANNELS[-1], settings.classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stages(functional.relu(self.stem(images)))
        logits: Tensor = self.classifier(pooled(maps))
        return logits

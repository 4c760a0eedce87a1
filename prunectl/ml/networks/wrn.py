"""Wide ResNets (Zagoruyko & Komodakis 2016) for 32×32 images: pre-activation, 6n + 4 layers, no dropout."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from prunectl.ml.networks.parts import (
    PaddedShortcut,
    batchnorm,
    conv1x1,
    conv3x3,
    pooled,
    residual_stages,
)
from prunectl.spec.settings import NetworkSettings

STEM = 16
CHANNELS = (16, 32, 64)


class Block(nn.Module):
    """conv2(relu(bn2(conv1(a)))) + shortcut, with a = relu(bn1(x)).

    A shortcut that changes the shape starts from a, so a projection needs no BatchNorm of its own and
    ``projection`` and ``projection-without-bn`` are the same network; an identity starts from x.
    """

    def __init__(
        self, settings: NetworkSettings, inputs: int, outputs: int, stride: int, first: bool
    ) -> None:
        super().__init__()
        self.bn1 = batchnorm(settings, inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = batchnorm(settings, outputs)
        self.conv2 = conv3x3(outputs, outputs)
        changes = stride != 1 or inputs != outputs
        everywhere = first and settings.shortcut == "projection-everywhere"
        self.shortcut: nn.Module | None = None
        if changes and settings.shortcut == "padding":
            self.shortcut = PaddedShortcut(inputs, outputs, stride)
        elif changes or everywhere:
            self.shortcut = conv1x1(inputs, outputs, stride)

    def forward(self, images: Tensor) -> Tensor:
        active = functional.relu(self.bn1(images))
        around = images if self.shortcut is None else self.shortcut(active)
        maps = functional.relu(self.bn2(self.conv1(active)))
        sum_: Tensor = self.conv2(maps) + around
        return sum_


class WideResNet(nn.Module):
    """Stem of 16 channels, three stages of (`depth` − 4)/6 blocks, BatchNorm, mean, dense layer.

    Stages have `width` times as many channels as a ResNet's.
    """

    def __init__(self, settings: NetworkSettings, depth: int, width: int) -> None:
        super().__init__()
        self.stem = conv3x3(settings.shape[0], STEM)
        widths = [channels * width for channels in CHANNELS]
        self.stages = residual_stages(Block, settings, STEM, widths, (depth - 4) // 6)
        self.bn = batchnorm(settings, widths[-1])
        self.classifier = nn.Linear(widths[-1], settings.classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.bn(self.stages(self.stem(images))))
        logits: Tensor = self.classifier(pooled(maps))
        return logits

"""VGG-16 for 32×32 images: the 13 convolutions of Simonyan & Zisserman 2015 with BatchNorm, one dense layer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from prunectl.ml.networks.parts import batchnorm, conv3x3, pooled
from prunectl.spec.settings import NetworkSettings

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Layer(nn.Module):
    """relu(bn(conv(x)))."""

    def __init__(self, settings: NetworkSettings, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv3x3(inputs, outputs)
        self.bn = batchnorm(settings, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(images)))


class VGG16(nn.Module):
    """Five stages, each ending in 2×2 max-pooling, then the mean over the pixels left (one, of 32×32)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        inputs = settings.shape[0]
        for stage in STAGES:
            row = nn.Sequential()
            for outputs in stage:
                row.append(Layer(settings, inputs, outputs))
                inputs = outputs
            self.stages.append(row)
        self.classifier = nn.Linear(inputs, settings.classes)
        if min(settings.shape[1:]) < 2 ** len(STAGES):
            raise ValueError("its five poolings need images of at least 32×32")

    def forward(self, images: Tensor) -> Tensor:
        for stage in self.stages:
            images = functional.max_pool2d(stage(images), 2)
        logits: Tensor = self.classifier(pooled(images))
        return logits

"""VGG-16 for 32×32 images: the 13 convolutions of Simonyan & Zisserman 2015 with BatchNorm, one dense layer."""

from __future__ import annotations

from torch import Tensor, nn

from prunectl.ml.networks.parts import conv3x3, conv_bn, pooled
from prunectl.spec.settings import NetworkSettings

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """Five stages, each ending in 2×2 max-pooling, then the mean over the pixels left (one, of 32×32)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        inputs = settings.shape[0]
        for stage in STAGES:
            row = nn.Sequential()
            for outputs in stage:
                row.append(conv_bn(settings, conv3x3(inputs, outputs)).append(nn.ReLU()))
                inputs = outputs
            self.stages.append(row.append(nn.MaxPool2d(2)))
        self.classifier = nn.Linear(inputs, settings.classes)
        if min(settings.shape[1:]) < 2 ** len(STAGES):
            raise ValueError("its five poolings need images of at least 32×32")

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(pooled(self.stages(images)))
        return logits

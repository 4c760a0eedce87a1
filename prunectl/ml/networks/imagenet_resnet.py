"""ResNet-34 and ResNet-50 for ImageNet: torchvision's modules, with this project's BatchNorm and shortcuts.

Names are torchvision's (``conv1``, ``layer1.0.conv1``, …, ``fc``) but for ``downsample.conv`` and
``downsample.bn``. ResNet-50's strides sit in the 3×3 convolutions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torchvision.models import resnet as torchvision_resnet

from prunectl.ml.networks.parts import BatchNorm, shortcut
from prunectl.spec.settings import NetworkSettings

_MAKERS = {34: torchvision_resnet.resnet34, 50: torchvision_resnet.resnet50}


def imagenet_resnet(settings: NetworkSettings, depth: int) -> nn.Module:
    """The ResNet of `depth` 34 or 50, for images of three channels.

    ``projection`` is torchvision's network. TensorFlow's TPU reference, which Renda et al. used, projects in the
    first block of every stage: ``projection-everywhere`` (from memory of its code: unverified). The two differ
    for ResNet-34 only.
    """
    if settings.shape[0] != 3:
        raise ValueError("it takes images of three channels")
    norm = partial(BatchNorm, eps=settings.bn_eps, momentum=settings.bn_momentum)
    network: nn.Module = _MAKERS[depth](num_classes=settings.classes, norm_layer=norm)
    inputs = 64
    for stage, channels in enumerate((64, 128, 256, 512), start=1):
        outputs = 4 * channels if depth == 50 else channels
        around = shortcut(settings, inputs, outputs, 1 if stage == 1 else 2, first=True)
        block: Any = network.get_submodule(f"layer{stage}.0")
        block.downsample = None if isinstance(around, nn.Identity) else around
        inputs = outputs
    return network

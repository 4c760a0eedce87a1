"""Parts that several networks share: convolutions, BatchNorm, shortcuts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunectl.spec.settings import NetworkSettings


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm2d without the `num_batches_tracked` counter.

    Only momentum = None reads the counter; without it checkpoints hold nothing but float tensors and a training
    step launches one kernel less per layer.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.num_batches_tracked = None

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *rest: Any,
    ) -> None:
        # A plain dictionary has no version, and torch would then invent the counter and call it unexpected.
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "version": 2}, *rest)


class PaddedShortcut(nn.Module):
    """He et al.'s option A: every `stride`-th pixel, the new channels zero and after the old ones. No weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.extra = outputs - inputs
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        return functional.pad(
            images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra)
        )


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution, zero-padded by 1, without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """1×1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def batchnorm(settings: NetworkSettings, channels: int) -> BatchNorm:
    """BatchNorm with the recipe's constants."""
    return BatchNorm(channels, eps=settings.bn_eps, momentum=settings.bn_momentum)


def conv_bn(settings: NetworkSettings, conv: nn.Conv2d) -> nn.Sequential:
    """The convolution and its BatchNorm, named ``conv`` and ``bn``."""
    bn = batchnorm(settings, conv.out_channels)
    return nn.Sequential(OrderedDict[str, nn.Module](conv=conv, bn=bn))


def shortcut(
    settings: NetworkSettings, inputs: int, outputs: int, stride: int, *, first: bool
) -> nn.Module:
    """The shortcut around a block by `settings.shortcut`; `first` marks the first block of its stage."""
    changes = stride != 1 or inputs != outputs
    if not changes and not (first and settings.shortcut == "projection-everywhere"):
        return nn.Identity()
    if settings.shortcut == "padding":
        return PaddedShortcut(inputs, outputs, stride)
    conv = conv1x1(inputs, outputs, stride)
    if settings.shortcut == "projection-without-bn":
        return nn.Sequential(OrderedDict[str, nn.Module](conv=conv))
    return conv_bn(settings, conv)


def residual_stages(
    block: Callable[..., nn.Module],
    settings: NetworkSettings,
    inputs: int,
    widths: Sequence[int],
    blocks: int,
) -> nn.Sequential:
    """One stage of `blocks` blocks per width; all stages but the first start with stride 2."""
    stages = nn.Sequential()
    for stage, outputs in enumerate(widths):
        row = nn.Sequential()
        for index in range(blocks):
            stride = 2 if stage > 0 and index == 0 else 1
            row.append(block(settings, inputs, outputs, stride, first=index == 0))
            inputs = outputs
        stages.append(row)
    return stages


def pooled(images: Tensor) -> Tensor:
    """Mean over the pixels: [N, C, H, W] to [N, C]."""
    return torch.mean(images, dim=(2, 3))

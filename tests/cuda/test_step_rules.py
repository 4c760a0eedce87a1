"""No step of any network breaks a rule of CUDA's steps, and modules that do are found, with the line."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.settings import NetworkSettings, NormalizeSettings, OptimizerSettings
from tests.cuda.counting import CIFAR, images, settings
from tests.cuda.step_rules import Broken, broken_rules
from tests.support.prunable import some_masks

pytestmark = [pytest.mark.gpu, pytest.mark.fake]

MARK = re.compile(r"# broken: (\w+)$")
SGD = OptimizerSettings(nesterov=True, weight_decay=1e-4, decay="kernels")
ADAM = OptimizerSettings("adam")
NETWORKS = {
    "resnet-20": CIFAR,
    "wrn-16-8": CIFAR,
    "vgg-16": CIFAR,
    "resnet-50": (3, 64, 64),
    "lenet-300-100": (1, 28, 28),
    "lenet-5": (3, 28, 28),
    "convnet": (1, 8, 8),
}
HOW: dict[str, Any] = {
    "fp32": {"masks": False, "optimizer": SGD},
    "tf32": {"masks": True, "optimizer": ADAM, "precision": "tf32"},
    "bf16": {"masks": True, "optimizer": SGD, "precision": "bf16", "micro_batch": 4},
    "fp16": {"masks": False, "optimizer": ADAM, "precision": "fp16"},
}
"""Trainings in which each precision, each optimizer, masks and parts of batches occur; of batches of 6 and 3."""


def broken(network: Any, shape: tuple[int, int, int], masks: bool, **values: Any) -> list[Broken]:
    """Return the rules that steps of a network, or of a module, break."""
    if shape[0] == 1:
        values["normalize"] = NormalizeSettings("image")
    train = settings(**{"batch": 6, "straddle": False, **values})
    configure("cuda", train)
    if isinstance(network, str):
        network = NetworkSettings(network, shape, 10)
    made = Trainer(network, train, images(shape, 9, 9), "cuda")
    made.set_masks(some_masks(made.parameters) if masks else None)
    return broken_rules(made)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("network", NETWORKS)
def test_no_network_breaks_a_rule(network: str, how: str) -> None:
    found = broken(network, NETWORKS[network], **HOW[how])
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("masks", [False, True], ids=["dense", "masks"])
@pytest.mark.parametrize("micro_batch", [0, 4])
def test_nothing_that_a_recipe_says_breaks_a_rule(
    precision: str, optimizer: OptimizerSettings, masks: bool, micro_batch: int
) -> None:
    values = {"precision": precision, "optimizer": optimizer, "micro_batch": micro_batch}
    found = broken("resnet-8", CIFAR, masks=masks, **values)
    assert not found, "\n".join(map(str, found))


class Own(nn.Module):
    """A network of one's own, with nothing wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.other = nn.Conv2d(8, 8, 3, padding=1)
        self.dense = nn.Linear(8 * 4 * 4, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.between(functional.relu(self.norm(self.conv(pixels))))
        return self.after(self.dense(functional.relu(self.other(maps)).flatten(1)))

    def between(self, maps: Tensor) -> Tensor:
        return maps

    def after(self, out: Tensor) -> Tensor:
        return out


def test_nothing_is_said_of_a_good_module() -> None:
    assert not broken(lambda source: Own(), (3, 4, 4), False)


class Item(Own):
    def after(self, out: Tensor) -> Tensor:
        return out * (1 if out.sum().item() > 0 else 2)  # broken: reads


class Branch(Own):
    def after(self, out: Tensor) -> Tensor:
        if (out > 0).any():  # broken: reads
            return out * 2
        return out


class Listed(Own):
    def after(self, out: Tensor) -> Tensor:
        return out + len(out.argmax(1).tolist())  # broken: devices


class Chosen(Own):
    def after(self, out: Tensor) -> Tensor:
        return out + out[out > 0].sum()  # broken: reads


class Mixed(Own):
    def after(self, out: Tensor) -> Tensor:
        if self.training:  # otherwise the network is refused before
            out = out + torch.ones(10)  # broken: error
        return out


class Constant(Own):
    """A number in a tensor on the host goes into kernels by its value: a graph never sees it change."""

    def after(self, out: Tensor) -> Tensor:
        return out * torch.tensor(2.0)  # broken: devices


class Uploaded(Own):
    def after(self, out: Tensor) -> Tensor:
        weights = torch.ones(10)
        return out * weights.to(out.device, non_blocking=True)  # broken: devices


class Hidden(Own):
    """Nothing is read in sight: the kernel asks how many are chosen."""

    def after(self, out: Tensor) -> Tensor:
        if len(out):
            out = out.clone()
            out[out > 0] = out.sum()  # broken: waits
        return out


class Dropout(Own):
    def between(self, maps: Tensor) -> Tensor:
        return functional.dropout(maps, 0.5)  # broken: random


class Rows(Own):
    def between(self, maps: Tensor) -> Tensor:
        return maps.contiguous()  # broken: layout


class Turned(Own):
    """No copy in sight: the convolution is given images in another layout, and copies them."""

    def between(self, maps: Tensor) -> Tensor:
        turned = maps.transpose(2, 3).flatten(1).view(maps.shape)
        return torch.tanh(self.other(turned))  # broken: layout


class Half(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm.half()

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.norm(self.conv(pixels).half())  # broken: precision
        return self.dense(functional.relu(self.other(maps.float())).flatten(1))


class Kept(Own):
    """The last step's outputs are in memory that a replay writes again, or that is somebody else's."""

    last: Tensor | None = None

    def after(self, out: Tensor) -> Tensor:
        if self.last is not None:
            out = out + self.last.sum()  # broken: kept
        self.last = out.detach()
        return out


class Counts(Own):
    """Warming up counts, too, and nobody takes it back: the tensor is neither a parameter nor a buffer."""

    calls: Tensor | None = None

    def after(self, out: Tensor) -> Tensor:
        if self.calls is None:
            self.calls = torch.zeros((), device=out.device)
        self.calls.add_(1)  # broken: changed
        return out


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, out: Tensor) -> Tensor:
        return out.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient / max(1.0, gradient.norm().item())  # broken: reads


class Backward(Own):
    def after(self, out: Tensor) -> Tensor:
        return _Clipped.apply(out)  # type: ignore[no-any-return]


class InItsGradient(Own):
    """The forward pass is a view; its backward pass copies the gradient into another layout."""

    def between(self, maps: Tensor) -> Tensor:
        if maps.requires_grad:
            maps.register_hook(lambda gradient: gradient.contiguous())  # broken: layout
        return maps


BAD = [Item, Branch, Listed, Chosen, Mixed, Constant, Uploaded, Hidden, Dropout, Rows, Turned, Half]
BAD += [Kept, Counts, Backward, InItsGradient]


@pytest.mark.parametrize("module", BAD, ids=lambda module: module.__name__)
def test_a_bad_module_is_found_with_its_line(module: type[Own]) -> None:
    lines, first = inspect.getsourcelines(_Clipped if module is Backward else module)
    ((line, rule),) = (
        (first + n, text[1]) for n, text in enumerate(map(MARK.search, lines)) if text is not None
    )
    found = {(each.rule, each.where) for each in broken(lambda source: module(), (3, 4, 4), False)}
    assert (rule, f"{Path(__file__).name}:{line}") in found, found

"""The same training on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from prunectl.ml.datasets.images import Images
from prunectl.ml.training.state import TrainingState
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    AugmentSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from tests.support.waiting import no_waits

pytestmark = pytest.mark.gpu

OPTIMIZERS = [OptimizerSettings(nesterov=True, weight_decay=1e-3), OptimizerSettings("adam")]


@pytest.fixture(autouse=True)
def strict_fp32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def build(source: torch.Generator | None) -> nn.Module:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    with torch.no_grad():
        for parameter in module.parameters() if source is not None else ():
            parameter.normal_(0, 0.1, generator=source)
    return module


def trainer(device: str, optimizer: OptimizerSettings) -> Trainer:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (200, 8, 8, 3), dtype=torch.uint8, generator=source)
    labels = torch.randint(0, 10, (200,), generator=source)
    split = (pixels.permute(0, 3, 1, 2), labels)
    settings = TrainSettings(
        batch=48,
        straddle=True,
        optimizer=optimizer,
        augment=AugmentSettings(2, "zero", True),
        normalize=NormalizeSettings("image"),
    )
    made = Trainer(build, settings, Images(*split, *split, 10), device)
    made.initialise(0, 0)
    masks: dict[str, Any] = {"4.weight": torch.arange(5120).view(10, 512) % 3 == 0}
    made.set_masks(masks)
    return made


def after(made: Trainer, steps: int) -> TrainingState:
    for _ in made.train(constant(0.01, steps), Seeds.of(0), 0, steps):
        pass
    return made.state()


@pytest.mark.numbers
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_cuda_trains_as_the_cpu_does(optimizer: OptimizerSettings) -> None:
    there, here = trainer("cuda", optimizer), trainer("cpu", optimizer)
    first, second = after(there, 6), after(here, 6)
    for name, tensor in second.weights.items():
        torch.testing.assert_close(first.weights[name], tensor, atol=2e-3, rtol=2e-3)
    assert there.lrs_applied() == here.lrs_applied() == [(0, 0.01)]
    assert there.metrics().loss == pytest.approx(here.metrics().loss, rel=1e-3)


@pytest.mark.numbers
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resuming_on_cuda_is_bit_identical(optimizer: OptimizerSettings) -> None:
    whole = after(trainer("cuda", optimizer), 9)
    part = after(trainer("cuda", optimizer), 4)
    other = trainer("cuda", optimizer)
    other.load(part)
    resumed = after(other, 9)
    for name, tensor in whole.weights.items():
        assert torch.equal(resumed.weights[name], tensor), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_never_waits_for_the_device(optimizer: OptimizerSettings) -> None:
    made = trainer("cuda", optimizer)
    after(made, 2)
    batch = made.batches.get(Seeds.of(0), 0, 2)
    with no_waits():
        made._step(*batch)

"""What a worker's idle trainers hold on a device, and that it is given back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from prunectl.ml.training import cuda_graphs
from prunectl.ml.training.trainer import Trainer
from prunectl.worker.trainer_cache import TrainerCache
from tests.cuda.counting import CIFAR, go, images, settings
from tests.support.sharing import spec

pytestmark = [pytest.mark.gpu, pytest.mark.fake]


def test_idle_trainers_give_their_memory_back(tmp_path: Path) -> None:
    """All of it to the device where memory runs short, and those of the workload used longest ago at once."""
    trainers = TrainerCache(tmp_path, "cuda", 1)
    held = []
    for network in ("convnet", "resnet-8"):
        stage = spec(network, 0, 12)
        made = trainers.borrow(stage)
        made.initialise(0, 0)
        go(made, 3)
        made.evaluate("test")
        held.append(torch.cuda.memory_allocated())
        trainers.give_back(stage, made)
        assert trainers.sharing == 1
    trainers.discard_idle()
    assert trainers.sharing is None
    assert torch.cuda.memory_allocated() < min(held)
    before = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() == before


def test_a_trainer_that_cannot_be_made_gives_its_stream_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch has 32: a stage that fails again and again must not make two trainers share one."""
    monkeypatch.setattr(cuda_graphs, "_free_streams", {})

    def broken(generator: torch.Generator | None) -> nn.Module:
        raise ValueError("no network")

    for _ in range(2):
        with pytest.raises(ValueError, match="no network"):
            Trainer(broken, settings(), images(CIFAR), "cuda")
        [free] = cuda_graphs._free_streams.values()
        assert len(free) == 1

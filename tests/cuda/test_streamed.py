"""Images that are read as they are used, on the fake CUDA runtime: how they get to the device, and how far ahead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prunectl.ml.datasets.read_ahead import COPIES
from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.settings import AugmentSettings, NetworkSettings
from tests.cuda.counting import go, settings
from tests.support import image_maker
from tests.support.fakecuda import counted

pytestmark = [pytest.mark.gpu, pytest.mark.fake]


@pytest.mark.parametrize("crop", ["none", "random-resized"])
def test_streamed_batches_go_over_from_pinned_memory_a_few_ahead(
    tmp_path: Path, crop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the copy of the one but one before it alone, so that pinned memory does not pile up."""
    monkeypatch.setenv("PRUNECTL_LOADERS", "0")
    streamed = image_maker.streamed(image_maker.write_images(tmp_path))
    augment = AugmentSettings(flip=True, crop=crop)  # type: ignore[arg-type]
    train = settings(batch=8, augment=augment)
    configure("cuda", train)
    network = NetworkSettings("convnet", streamed.shape, 3)
    made = Trainer(network, train, streamed, "cuda")
    made.initialise(0, 0)
    go(made, 1)
    steps = 6
    torch.cuda.synchronize()
    with counted() as counts:
        go(made, 1 + steps)
    assert counts.waits == steps - COPIES + 1  # the first step's copy is still remembered
    assert counts.copied("pinned->device")[0] >= 2 * steps
    assert not counts.copied("pageable->device")[0], counts.copies
    assert made.evaluate("test") is not None
    made.images.loader.close()
    made.close()

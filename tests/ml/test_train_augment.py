"""Crops, flips and normalising, compared with the obvious one-image-at-a-time way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from prunectl.ml.randomness import Offsets, epoch_offsets, epoch_order
from prunectl.ml.training.augment import Normalizer, augment, pad_pixels
from prunectl.ml.training.batches import Batches
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import AugmentSettings, NormalizeSettings, TrainSettings

CPU = torch.device("cpu")


def photographs(n: int = 50, height: int = 6, width: int = 9, channels: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (n, height, width, channels), dtype=torch.uint8, generator=source)


@pytest.mark.parametrize(("padding", "mode"), [("zero", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("pad", [0, 2])
def test_every_image_is_cropped_and_flipped_by_its_own_offsets(
    padding: str, mode: str, flip: bool, pad: int
) -> None:
    pixels = photographs()
    offsets = epoch_offsets(0, 0, 0, len(pixels), pad)
    made = augment(pixels, offsets, pad, padding, flip)  # type: ignore[arg-type]
    for index, image in enumerate(pixels.numpy()):
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)  # type: ignore[call-overload]
        down, right = int(offsets.down[index]), int(offsets.right[index])
        wanted = padded[down : down + 6, right : right + 9]
        if flip and offsets.flip[index]:
            wanted = wanted[:, ::-1]
        assert np.array_equal(made[index].numpy(), wanted)


def test_crops_and_flips_differ_within_a_batch_and_between_epochs() -> None:
    images = photographs(1).repeat(64, 1, 1, 1).permute(0, 3, 1, 2)
    settings = TrainSettings(batch=64, augment=AugmentSettings(2, "zero", True))
    batches = Batches(images, torch.zeros(64, dtype=torch.int64), settings)
    first = batches.get(Seeds.of(0), 0, 0)[0].flatten(1).clone()
    second = batches.get(Seeds.of(0), 0, 1)[0].flatten(1)
    assert len({bytes(image.tolist()) for image in first}) > 30
    assert not torch.equal(first, second)


def test_the_augmented_stream_is_the_same_over_epoch_borders() -> None:
    count, pad = 25, 1
    images = photographs(count).permute(0, 3, 1, 2)
    settings = TrainSettings(batch=10, straddle=True, augment=AugmentSettings(pad, "reflect", True))
    batches = Batches(images, torch.arange(count), settings)
    got = torch.cat([batches.get(Seeds.of(4), 2, step)[0].clone() for step in range(5)])
    wanted = []
    for epoch in range(2):
        chosen = photographs(count)[epoch_order(4, 2, epoch, count)]
        offsets = epoch_offsets(4, 2, epoch, count, pad)
        wanted.append(augment(chosen, offsets, pad, "reflect", True))
    assert torch.equal(got, torch.cat(wanted))


def test_reflecting_more_than_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="reflect"):
        pad_pixels(photographs(2, 3, 3), 3, "reflect")


MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def test_channels_are_normalised_by_their_constants() -> None:
    pixels = photographs()
    out = Normalizer(NormalizeSettings("channel", MEAN, STD), (3, 6, 9), CPU)(pixels)
    unit = pixels.permute(0, 3, 1, 2).double() / 255
    wanted = (unit - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert out.shape == (50, 3, 6, 9)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.double(), wanted.double(), atol=1e-5, rtol=1e-6)


def test_a_border_of_zeros_is_a_black_pixel_and_not_the_mean() -> None:
    corner = Offsets(torch.zeros(1).long(), torch.zeros(1).long(), torch.zeros(1).bool())
    moved = augment(photographs(1), corner, 2, "zero", False)
    out = Normalizer(NormalizeSettings("channel", MEAN, STD), (3, 6, 9), CPU)(moved)
    for channel in range(3):
        black = (0 - MEAN[channel]) / STD[channel]
        assert out[0, channel, 0, 0].item() == pytest.approx(black, rel=1e-5)


def test_each_image_is_standardised_over_all_its_channels_after_the_crop() -> None:
    pixels = photographs(20)
    offsets = epoch_offsets(0, 0, 0, 20, 3)
    moved = augment(pixels, offsets, 3, "zero", False)
    out = Normalizer(NormalizeSettings("image"), (3, 6, 9), CPU)(moved)
    for index in range(20):
        raw = moved[index].numpy().astype(np.float64)
        wanted = (raw - raw.mean()) / max(raw.std(), 1 / np.sqrt(raw.size))
        assert np.allclose(out[index].permute(1, 2, 0).numpy(), wanted, atol=1e-4)


def test_an_image_of_one_grey_becomes_zeros() -> None:
    grey = torch.full((1, 6, 9, 3), 77, dtype=torch.uint8)
    out = Normalizer(NormalizeSettings("image"), (3, 6, 9), CPU)(grey)
    assert out.abs().max() < 1e-3


def test_constants_for_another_number_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        Normalizer(NormalizeSettings("channel", (0.5,), (0.5,)), (3, 6, 9), CPU)

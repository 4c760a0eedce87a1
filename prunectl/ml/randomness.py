"""All randomness there is: generators on the host, each seeded by what it is for.

A stream is a function of the trial's seed and of its purpose, such as ("order", iteration, epoch); never of the
strategy, of the length of the stage, of the device, or of what was drawn before. So a shorter training is a prefix
of a longer one, a stage resumes at any step, and CPU and GPUs see the same batches. Purposes in use:

    ("init", iteration)             fresh weights
    ("order", iteration, epoch)     the order of the training images
    ("augment", iteration, epoch)   crops and flips, one of each per image drawn
    ("crop", iteration, epoch, k)   random resized crops of the k-th 1024 images drawn
    ("criterion", iteration)        criteria that score at random
    ("validation", …)               which images are held out; with seed 0, so that all trials hold out the same
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import torch
from torch import Tensor

from prunectl.ml import random_resized_crop as crops

CROP_BLOCK = 1024
"""Images whose crops are drawn from one stream: an epoch of a million has too many to draw them all at once."""


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose, seeded by the sha256 of (seed, purpose).

    torch's CPU engine keeps 32 bits of a seed, so two purposes share a stream with probability 2⁻³².
    """
    text = json.dumps([seed, *purpose], separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big"))


def epoch_order(seed: int, iteration: int, epoch: int, n: int) -> Tensor:
    """The order in which epoch number `epoch` of a stage draws its `n` images: int64 [n]."""
    return torch.randperm(n, generator=generator(seed, "order", iteration, epoch))


class Offsets(NamedTuple):
    """What happens to the k-th image drawn in an epoch, for each k."""

    down: Tensor
    """Rows skipped at the top of the padded image, 0 … 2·pad: int64 [n]."""
    right: Tensor
    """Columns skipped at its left, 0 … 2·pad: int64 [n]."""
    flip: Tensor
    """Mirror left-right after cropping: bool [n]."""


def epoch_offsets(seed: int, iteration: int, epoch: int, n: int, pad: int) -> Offsets:
    """Independent crops and flips for the `n` images that an epoch draws."""
    source = generator(seed, "augment", iteration, epoch)
    down, right = torch.randint(0, 2 * pad + 1, (2, n), generator=source)
    return Offsets(down, right, torch.randint(0, 2, (n,), generator=source) == 1)


def crop_draws(seed: int, iteration: int, epoch: int, first: int, last: int) -> Tensor:
    """What `crops.box` needs for the images drawn `first` … `last` − 1 in an epoch: float64 [n, crops.DRAWS]."""
    blocks = range(first // CROP_BLOCK, -(-last // CROP_BLOCK))
    drawn = [
        torch.rand(
            (CROP_BLOCK, crops.DRAWS),
            dtype=torch.float64,
            generator=generator(seed, "crop", iteration, epoch, block),
        )
        for block in blocks
    ]
    return torch.cat(drawn)[first - blocks.start * CROP_BLOCK :][: last - first]

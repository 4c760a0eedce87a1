"""The only source of randomness: generators on the host, each seeded by its purpose.

A stream is a function of one of the trial's seeds and of its purpose, such as ("order", iteration, epoch); never of the
strategy, of the length of the stage, of the device, or of what was drawn before. So a shorter training is a prefix
of a longer one, a stage resumes at any step, and CPU and GPUs see the same batches. Purposes in use,
and whose seed each takes (`spec.seeds`), which is one seed for all unless the plan gives them apart:

    ("init", iteration)             init      fresh weights
    ("criterion", iteration)        init      criteria that score at random
    ("order", iteration, epoch)     order     the order of the training images
    ("augment", iteration, epoch)   augment   crops and flips, one of each per image drawn
    ("crop", iteration, epoch, k)   augment   random resized crops of the k-th 1024 images drawn
    ("validation", …)               0         which images are held out: the same in all trials
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import torch
from torch import Tensor

from prunectl.ml.random_resized_crop import DRAWS

CROP_BLOCK = 1024
"""Images whose crops are drawn from one stream: an epoch of a million has too many to draw them all at once."""


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator for one purpose, seeded by the sha256 of (seed, purpose).

    torch's CPU engine keeps 32 bits of a seed, so two purposes share a stream with probability 2⁻³².
    """
    text = json.dumps([seed, *purpose], separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big"))


def epoch_order(seed: int, iteration: int, epoch: int, n: int) -> Tensor:
    """Return the order in which epoch number `epoch` of a stage draws its `n` images: int64 [n]."""
    return torch.randperm(n, generator=generator(seed, "order", iteration, epoch))


class Offsets(NamedTuple):
    """How the k-th image drawn is cropped and flipped, for each k."""

    down: Tensor
    """Rows skipped at the top of the padded image, 0 … 2·pad: int64 [n]."""
    right: Tensor
    """Columns skipped at its left, 0 … 2·pad: int64 [n]."""
    flip: Tensor
    """Mirror left-right after cropping: bool [n]."""


def epoch_offsets(seed: int, iteration: int, epoch: int, n: int, pad: int) -> Offsets:
    """Return independent crops and flips for the `n` images that an epoch draws."""
    source = generator(seed, "augment", iteration, epoch)
    down, right = torch.randint(0, 2 * pad + 1, (2, n), generator=source)
    return Offsets(down, right, torch.randint(0, 2, (n,), generator=source) == 1)


def crop_draws(seed: int, iteration: int, epoch: int, first: int, last: int) -> Tensor:
    """Return what `random_resized_crop.box` takes for images `first` … `last` − 1 of an epoch: float64 [n, DRAWS]."""
    blocks = range(first // CROP_BLOCK, -(-last // CROP_BLOCK))
    drawn = [
        torch.rand(
            (CROP_BLOCK, DRAWS),
            dtype=torch.float64,
            generator=generator(seed, "crop", iteration, epoch, block),
        )
        for block in blocks
    ]
    return torch.cat(drawn)[first - blocks.start * CROP_BLOCK :][: last - first]

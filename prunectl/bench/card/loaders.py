"""Step `loaders`: how many JPEG files a second processes that read ahead bring onto the card, cropped at random."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from prunectl.bench.card.records import Figure, Order, Outcome
from prunectl.ml.datasets.images import load
from prunectl.ml.datasets.registry import OptionValue, complete, describe
from prunectl.ml.training.batches import open_source
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import AugmentSettings, DataSettings, TrainSettings

IMAGES, TESTS = 1_536, 8
SIDES = (500, 375)
"""Width and height, near the mean of ImageNet's."""
GRAIN = 5
"""Pixels between the points that are drawn: files of some 45 kB, where ImageNet's have 110 and finer detail."""
BATCH, WARM_UP, STEPS = 256, 3, 12
SIZE = 224


def run(order: Order) -> Outcome:
    """Time batches that so many processes read ahead."""
    os.environ["PRUNECTL_LOADERS"] = order.part
    images, batch, steps = (48, 16, 3) if order.quick else (IMAGES, BATCH, STEPS)
    folder = write_images(order.work / "jpegs", images)
    own: dict[str, OptionValue] = {
        "path": str(folder),
        "size": SIZE,
        "channels": 3,
        "held": "never",
    }
    options = tuple(sorted(complete("folder", own).items()))
    data = DataSettings("folder", describe("folder", options).fingerprint, options)
    settings = TrainSettings(batch=batch, augment=AugmentSettings(flip=True, crop="random-resized"))
    source = open_source(load(data).on(order.device), settings)
    for step in range(WARM_UP):
        source.get(Seeds.of(0), 0, step)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for step in range(WARM_UP, WARM_UP + steps):
        source.get(Seeds.of(0), 0, step)
    torch.cuda.synchronize()
    rate = steps * batch / (time.perf_counter() - started)
    cores = len(os.sched_getaffinity(0))
    return Outcome(figures=(Figure(f"{order.part} processes, {cores} CPUs", rate, "images/s"),))


def write_images(folder: Path, count: int) -> Path:
    """Write random photographs, smooth as such are; those that are there stay."""
    random = np.random.default_rng(0)
    wide, high = SIDES
    for split, images in (("train", count), ("test", TESTS)):
        for label in ("ant", "bee"):
            (folder / split / label).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            path = folder / split / ("ant", "bee")[number % 2] / f"{number:05d}.jpg"
            points = random.integers(0, 256, (high // GRAIN, wide // GRAIN, 3), dtype=np.uint8)
            if not path.exists():
                partial = path.with_suffix(".part")
                Image.fromarray(points).resize(SIDES).save(partial, "jpeg", quality=90)
                partial.rename(path)
    return folder

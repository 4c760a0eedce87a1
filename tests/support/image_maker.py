"""Small folders of real images, generated: what tests of image folders read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prunectl.ml.datasets.images import Images, Streamed, load
from prunectl.ml.datasets.registry import describe
from prunectl.spec.settings import DataSettings

SIZES = ((40, 30), (24, 33), (17, 17), (64, 20), (12, 15))
"""Width and height: landscape, portrait, square, elongated, and smaller than what is asked for."""


def write_images(
    root: Path, train: int = 7, test: int = 4, kind: str = "png", folders: str = "train test"
) -> Path:
    """Write so many images for each of three classes, each class brightest in a corner of its own."""
    random = np.random.default_rng(3)
    for folder, count in zip(folders.split(), (train, test), strict=True):
        for label, name in enumerate(("ant", "bee", "cat")):
            place = root / folder / name
            place.mkdir(parents=True)
            for number in range(count):
                wide, high = SIZES[(number + label) % len(SIZES)]
                pixels = random.integers(0, 120, (high, wide, 3)).astype(np.uint8)
                rows = slice(0, high // 2) if label < 2 else slice(high // 2, high)
                columns = slice(0, wide // 2) if label != 1 else slice(wide // 2, wide)
                pixels[rows, columns] += 120
                Image.fromarray(pixels).save(place / f"{number}.{kind}", quality=95)
    return root


def write_sides(root: Path, train: int = 40, test: int = 20) -> Path:
    """Write so many images of 24×24 pixels for each of two classes, `left` and `right`, named by what is bright."""
    random = np.random.default_rng(0)
    for folder, count in (("train", train), ("test", test)):
        for name, bright in (("left", slice(0, 12)), ("right", slice(12, 24))):
            place = root / folder / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 80, (24, 24, 3)).astype(np.uint8)
                pixels[:, bright] += 120
                Image.fromarray(pixels).save(place / f"{number:03}.png")
    return root


def settings_of(path: Path, **values: Any) -> DataSettings:
    """The folder's data settings with its place among the options, as a library would use it."""
    fields = {"validation_from", "validation_count"} & values.keys()
    rest = {name: values.pop(name) for name in fields}
    options = {"path": str(path), "size": 16, **values}
    fingerprint = describe("folder", options).fingerprint
    return DataSettings("folder", fingerprint, tuple(sorted(options.items())), **rest)


def held(path: Path, **values: Any) -> Images:
    """The folder in memory."""
    images = load(settings_of(path, held="always", **values))
    assert isinstance(images, Images)
    return images


def streamed(path: Path, **values: Any) -> Streamed:
    """The folder, to be read when it is used."""
    images = load(settings_of(path, held="never", **values))
    assert isinstance(images, Streamed)
    return images

"""A folder of images of the user's own: PATH/train/CLASS/* and PATH/test/CLASS/* (or val/ for test/).

Classes are the names of the folders, sorted. Images are scaled so that the shorter side is `size`, cropped in the
middle, and held in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunectl.core.datasets.arrays import Arrays
from prunectl.core.datasets.files import Finder
from prunectl.core.datasets.registry import Description, OptionValue
from prunectl.errors import DataError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Of ImageNet's photographs, as is usual for others too; grey is their luma (ITU-R 601).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = 0.459, 0.226


def describe(options: Mapping[str, OptionValue]) -> Description:
    """Lists the folder and hashes its files. Raises DataError where it is not laid out as above."""
    size, channels = int(options["size"]), int(options["channels"])
    if size < 1 or channels not in (1, 3):
        raise DataError(f"dataset folder: size {size}, channels {channels} (1 or 3)")
    root, classes, train, test = _listing(options)
    digest = hashlib.sha256()
    for path, _ in [*train, *test]:
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Description(
        shape=(channels, size, size),
        classes=len(classes),
        train=len(train),
        test=len(test),
        mean=MEAN if channels == 3 else (GREY_MEAN,),
        std=STD if channels == 3 else (GREY_STD,),
        fingerprint=f"sha256-{digest.hexdigest()[:32]}",
    )


def read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays:
    """Decode all images."""
    size, channels = int(options["size"]), int(options["channels"])
    _, _, train, test = _listing(options)
    return Arrays(*_decode(train, size, channels), *_decode(test, size, channels))


Listed = list[tuple[Path, int]]
"""Files with their class numbers, sorted by class and name."""


def _listing(options: Mapping[str, OptionValue]) -> tuple[Path, list[str], Listed, Listed]:
    root = Path(str(options["path"])).expanduser()
    test = root / ("test" if (root / "test").is_dir() else "val")
    for folder in (root / "train", test):
        if not folder.is_dir():
            raise DataError(f"dataset folder: {folder} is not there")
    classes = sorted(entry.name for entry in os.scandir(root / "train") if entry.is_dir())
    others = {entry.name for entry in os.scandir(test) if entry.is_dir()} - set(classes)
    if others:
        raise DataError(f"dataset folder: {test} has the class {min(others)}, train has not")
    listed = [_files(folder, classes) for folder in (root / "train", test)]
    for folder, files in zip((root / "train", test), listed, strict=True):
        if not files:
            raise DataError(f"dataset folder: no images in {folder}")
    return root, classes, listed[0], listed[1]


def _files(folder: Path, classes: list[str]) -> Listed:
    return [
        (path, index)
        for index, name in enumerate(classes)
        for path in sorted((folder / name).glob("*"))
        if path.suffix.lower() in SUFFIXES
    ]


def _decode(files: Listed, size: int, channels: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from PIL import Image, UnidentifiedImageError

    images = np.empty((len(files), size, size, channels), np.uint8)
    for index, (path, _) in enumerate(files):
        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGB" if channels == 3 else "L")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: {error}") from error
        scale = size / min(picture.size)
        wide, high = (max(size, round(side * scale)) for side in picture.size)
        left, top = (wide - size) // 2, (high - size) // 2
        picture = picture.resize((wide, high), Image.Resampling.BILINEAR)
        cropped = np.asarray(picture.crop((left, top, left + size, top + size)))
        images[index] = cropped.reshape(size, size, channels)
    return images, np.array([label for _, label in files], np.int64)

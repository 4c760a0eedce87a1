"""Data sets of image files, FOLDER/train/CLASS/* and FOLDER/test/CLASS/*: lists the files without reading them.

Classes are the names of the folders, sorted; images are sorted by class and file name. Free of torch and numpy.
torchvision's `make_dataset` does not serve here: it needs torch, which plans do not load, and it walks into nested
folders, so that a folder would get another fingerprint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from prunectl.errors import DataError
from prunectl.ml.datasets.registry import Description
from prunectl.spec.settings import Shape

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

CONTENT_BYTES = 512 << 20
"""The fingerprint covers every file's content where all files together have no more than this many bytes."""
SAMPLED = 256
"""Where they have more: number of files, evenly spaced, whose content it covers, besides all names and sizes."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes an image tensor where nothing is random: resized, then cropped at its centre."""

    shape: Shape
    """Channels, height, width of the tensor."""
    resize: int = 0
    """Pixels that the shorter side is scaled to; 0: the least that covers height and width."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


@dataclass(frozen=True)
class ImageFiles:
    """Image files of any sizes, in order, and how they become tensors."""

    root: str
    names: list[str] = field(repr=False)
    """Paths relative to `root`."""
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        """Return the path of one file."""
        return f"{self.root}/{self.names[index]}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Count, channels, height, width: the shape of the tensor that would hold all images."""
        return len(self), *self.preprocessing.shape

    def select(self, chosen: Iterable[int]) -> ImageFiles:
        """Return some of the files, in the order of the indices `chosen`."""
        return replace(self, names=[self.names[index] for index in chosen])


@dataclass(frozen=True)
class ImageFolder:
    """The image files of a data set with their targets."""

    classes: tuple[str, ...]
    """Names of the network's outputs, whatever the task."""
    train: ImageFiles
    train_targets: list[Any]
    """Numbers of classes; of another task what that declares (`ml.tasks.registry.Targets`)."""
    test: ImageFiles
    test_targets: list[Any]
    held: Literal["auto", "always", "never"] = "auto"
    """Whether image tensors are kept in memory, or made from the files again whenever they are used; ``auto``: by
    size."""

    def check(self, name: str, description: Description) -> None:
        """Raise DataError where counts are not those described."""
        for what, found, wanted in (
            ("classes", len(self.classes), description.classes),
            ("train images", len(self.train), description.train),
            ("test images", len(self.test), description.test),
        ):
            if found != wanted:
                raise DataError(f"{name}: {found} {what} in {self.train.root}, not {wanted}")

    def fingerprint(self) -> str:
        """Identify the content: every file's name and size, and the bytes of all, or of a sample if there are many.

        Raises DataError where a file cannot be read.
        """
        names = [*self.train.names, *self.test.names]
        paths = [f"{self.train.root}/{name}" for name in names]
        digest = hashlib.sha256()
        try:
            sizes = [os.stat(path).st_size for path in paths]
            for name, size in zip(names, sizes, strict=True):
                # File names need not be UTF-8.
                digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
            whole = sum(sizes) <= CONTENT_BYTES
            for path in paths[:: 1 if whole else -(-len(paths) // SAMPLED)]:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}") from error
        return f"{'sha256' if whole else 'sampled'}-{digest.hexdigest()[:32]}"


def list_images(
    root: Path, test: str, preprocessing: Preprocessing, held: str = "auto"
) -> ImageFolder:
    """List the images under `root`, whose test images are in its folder `test`.

    Raises DataError where it is not laid out as the module says, or holds no images.
    """
    if held not in ("auto", "always", "never"):
        raise DataError(f"{root}: held is {held!r}, not auto, always or never")
    for folder in ("train", test):
        if not (root / folder).is_dir():
            raise DataError(f"{root / folder} is not there")
    classes = _subfolders(root / "train")
    others = sorted(set(_subfolders(root / test)) - set(classes))
    if others:
        raise DataError(f"{root / test} has the class {others[0]}, train has not")
    train_names, train_targets = _list_split(root, "train", classes)
    test_names, test_targets = _list_split(root, test, classes)
    train = ImageFiles(str(root), train_names, preprocessing)
    tested = ImageFiles(str(root), test_names, preprocessing)
    return ImageFolder(tuple(classes), train, train_targets, tested, test_targets, held)  # type: ignore[arg-type]


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _list_split(root: Path, folder: str, classes: list[str]) -> tuple[list[str], list[int]]:
    """Return file names relative to `root`, and class numbers. A class may have no folder in a test split."""
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        place = root / folder / name
        if not place.is_dir():
            continue
        with os.scandir(place) as entries:
            found = sorted(entry.name for entry in entries if _is_image(entry))
        names.extend(f"{folder}/{name}/{file}" for file in found)
        labels.extend([label] * len(found))
    if not names:
        raise DataError(f"no images in {root / folder}")
    return names, labels


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file()

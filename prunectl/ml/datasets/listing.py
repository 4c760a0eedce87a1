"""Data sets whose pictures are files, FOLDER/train/CLASS/* and FOLDER/test/CLASS/*: what there is, not yet read.

Classes are the names of the folders, sorted; pictures are sorted by class and name. Free of torch and numpy.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prunectl.errors import DataError
from prunectl.ml.datasets.registry import Description
from prunectl.spec.settings import Shape

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

CONTENT_BYTES = 512 << 20
"""Up to so many bytes in all, every file's content is part of the fingerprint."""
SAMPLED = 256
"""Beyond that: the contents of so many files, evenly spaced, beside the names and sizes of all."""


@dataclass(frozen=True)
class View:
    """How a picture is shown where nothing is random: scaled, and the middle cropped out of it."""

    shape: Shape
    resize: int = 0
    """Pixels that the shorter side is scaled to; 0 is no more than the shape needs."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


@dataclass(frozen=True)
class Files:
    """Some of the pictures: names relative to the data set's folder, with class numbers."""

    names: list[str]
    labels: list[int]


@dataclass(frozen=True)
class Listing:
    """All pictures of a data set, where they lie, and how they are to be shown."""

    root: Path
    classes: tuple[str, ...]
    train: Files
    test: Files
    view: View
    held: Literal["auto", "always", "never"] = "auto"
    """Whether the images are kept in memory, as they are shown, or read again whenever they are used."""

    def check(self, name: str, description: Description) -> None:
        """Raise DataError where counts are not those described."""
        for what, found, wanted in (
            ("classes", len(self.classes), description.classes),
            ("train images", len(self.train.names), description.train),
            ("test images", len(self.test.names), description.test),
        ):
            if found != wanted:
                raise DataError(f"{name}: {found} {what} in {self.root}, not {wanted}")

    def fingerprint(self) -> str:
        """Identifies the content: every file's name and size, and their bytes, or a sample's if they are many.

        Raises DataError where a file cannot be read.
        """
        names = [*self.train.names, *self.test.names]
        digest = hashlib.sha256()
        try:
            sizes = [os.stat(self.root / name).st_size for name in names]
            for name, size in zip(names, sizes, strict=True):
                digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
            whole = sum(sizes) <= CONTENT_BYTES
            for index in range(0, len(names), 1 if whole else -(-len(names) // SAMPLED)):
                with open(self.root / names[index], "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}") from error
        return f"{'sha256' if whole else 'sampled'}-{digest.hexdigest()[:32]}"


def list_pictures(root: Path, test: str, view: View, held: str = "auto") -> Listing:
    """What lies in a folder whose test images are in its folder `test`.

    Raises DataError where it is not laid out as the module says, or holds no pictures.
    """
    if held not in ("auto", "always", "never"):
        raise DataError(f"{root}: held is {held!r}, not auto, always or never")
    for folder in ("train", test):
        if not (root / folder).is_dir():
            raise DataError(f"{root / folder} is not there")
    classes = _folders(root / "train")
    others = sorted(set(_folders(root / test)) - set(classes))
    if others:
        raise DataError(f"{root / test} has the class {others[0]}, train has not")
    train, tested = (_files(root, folder, classes) for folder in ("train", test))
    return Listing(root, tuple(classes), train, tested, view, held)  # type: ignore[arg-type]


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _files(root: Path, folder: str, classes: list[str]) -> Files:
    out = Files([], [])
    for label, name in enumerate(classes):
        place = root / folder / name
        if not place.is_dir():
            continue
        with os.scandir(place) as entries:
            found = sorted(entry.name for entry in entries if _is_picture(entry))
        out.names.extend(f"{folder}/{name}/{file}" for file in found)
        out.labels.extend([label] * len(found))
    if not out.names:
        raise DataError(f"no images in {root / folder}")
    return out


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file()

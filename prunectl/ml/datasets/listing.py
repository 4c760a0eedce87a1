"""Data sets of image files, FOLDER/train/CLASS/* and FOLDER/test/CLASS/*: lists the files without opening them.

Classes are the names of the folders, sorted; images are sorted by class and file name. Free of torch.
torchvision's `make_dataset` does not serve here: it needs torch, which plans do not load, it walks into nested folders,
and it says nothing of what it leaves out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from prunectl.errors import DataError
from prunectl.ml.datasets.content import digests
from prunectl.ml.datasets.files import Progress
from prunectl.ml.datasets.registry import Description
from prunectl.ml.datasets.scan import Findings, Scanner, Split, first_of, some_of
from prunectl.spec.settings import DataSettings, Shape
from prunectl.text import printable

FINGERPRINT = "content-"
"""How fingerprints of folders begin."""
OLDER_FINGERPRINTS = ("sha256-", "sampled-")
"""How they began when they covered neither the names of classes nor, of large folders, every file."""

HELD_BYTES = 2 << 30
"""Images of files are held in memory where they take no more bytes than this, unless the option `held` says."""


@dataclass(frozen=True)
class Decoding:
    """What a file's pixels mean where the file leaves it open."""

    background: str = "#ffffff"
    """Colour, #rrggbb, that see-through pictures are laid over."""
    value_range: tuple[float, ...] = ()
    """Values that are black and white in pictures of more than 8 bits a value; none: 0 and the largest that 16 (12)
    bits hold, 0 and 1 of floats, and others are refused. Not of PPM, whose files say what white is."""
    upright: bool = True
    """Whether pictures are turned as their EXIF orientation says."""


AS_SEEN = Decoding()


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes an image tensor where nothing is random: resized, then cropped at its centre."""

    shape: Shape
    """Channels, height, width of the tensor."""
    resize: int = 0
    """Pixels that the shorter side is scaled to; 0: the least that covers height and width."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    decoding: Decoding = AS_SEEN


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

    notes: tuple[str, ...] = ()
    """What lies in the folder and is left out, a line each."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """What tells the content where the fingerprint does not, by name."""

    @property
    def in_memory(self) -> bool:
        """Whether image tensors are kept in memory."""
        size = math.prod(self.train.shape) + math.prod(self.test.shape)
        return self.held == "always" or (self.held == "auto" and size <= HELD_BYTES)

    def names(self) -> list[str]:
        """Return the names of all files, relative to the root, those to train on first."""
        return [*self.train.names, *self.test.names]

    def check(self, name: str, description: Description) -> None:
        """Raise DataError where counts are not those described."""
        for what, found, wanted in (
            ("classes", len(self.classes), description.classes),
            ("train images", len(self.train), description.train),
            ("test images", len(self.test), description.test),
        ):
            if found != wanted:
                raise DataError(f"{name}: {found} {what} in {self.train.root}, not {wanted}")

    def fingerprint(self, progress: Progress | None = None) -> str:
        """Identify the content: the names of the classes in order, and every image's class and bytes in order.

        Raises DataError where a file cannot be read.
        """
        paths = [f"{self.train.root}/{name}" for name in self.names()]
        found = digests(paths, progress, what=f"the pictures of {self.train.root}")
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        targets = [*self.train_targets, *self.test_targets]
        for index, (target, content) in enumerate(zip(targets, found, strict=True)):
            split = "train" if index < len(self.train) else "test"
            digest.update(f"\n{split} {target} {content}".encode())
        return f"{FINGERPRINT}{digest.hexdigest()[:32]}"


def list_images(
    root: Path, test: str, preprocessing: Preprocessing, held: str = "auto"
) -> ImageFolder:
    """List the images under `root`, whose test images are in its folder `test`.

    Raises DataError, which names all that is wrong, where it is not laid out as the module says.
    """
    folder, findings = look_through(root, test, preprocessing, held)
    findings.refuse(str(root))
    return folder


def has_older_key(data: DataSettings) -> bool:
    """Whether a stage's data is a folder under a fingerprint that this version no longer makes."""
    return data.name == "folder" and data.fingerprint.startswith(OLDER_FINGERPRINTS)


def look_through(
    root: Path,
    test: str,
    preprocessing: Preprocessing,
    held: str = "auto",
    notes: Sequence[str] = (),
) -> tuple[ImageFolder, Findings]:
    """List the images under `root` as `list_images` does, also where something is wrong, which is among the findings;
    after `notes`.

    Raises DataError for another `held`.
    """
    if held not in ("auto", "always", "never"):
        raise DataError(f"{root}: held is {held!r}, not auto, always or never")
    scanner = Scanner(root)
    scanner.findings.notes.extend(notes)
    train, tested = scanner.split("train"), scanner.split(test)
    classes = list(train.pictures)
    for name in tested.pictures:
        if name not in train.pictures:
            scanner.problem(f"class {printable(name)} is in {test} alone: train has none of it")
    missing = [name for name in classes if train.pictures[name] and name not in tested.pictures]
    if missing:
        scanner.note(
            f"{test} has none of {len(missing)} of {len(classes)} classes: {some_of(missing)}"
        )
    findings = scanner.finish()
    folder = ImageFolder(
        tuple(classes),
        *_files(root, train, classes, preprocessing),
        *_files(root, tested, classes, preprocessing),
        held,  # type: ignore[arg-type]
        tuple(first_of(findings.notes)),
    )
    return folder, findings


def _files(
    root: Path, split: Split, classes: list[str], preprocessing: Preprocessing
) -> tuple[ImageFiles, list[int]]:
    """Return a split's files with the numbers of their classes, some of which may have no folder there."""
    found = [
        (f"{split.name}/{name}/{file}", label)
        for label, name in enumerate(classes)
        for file in split.pictures.get(name, ())
    ]
    files = ImageFiles(str(root), [place for place, _ in found], preprocessing)
    return files, [label for _, label in found]

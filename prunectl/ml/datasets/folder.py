"""A folder of images of the user's own: PATH/train/CLASS/* and PATH/test/CLASS/* (or val/, valid/, validation/).

Images are square, `size` pixels: the shorter side is scaled to `resize` (or to `size` itself), and the centre cropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from prunectl.errors import DataError
from prunectl.ml.datasets.files import Finder, Progress
from prunectl.ml.datasets.listing import (
    AS_SEEN,
    Decoding,
    ImageFolder,
    Preprocessing,
    look_through,
)
from prunectl.ml.datasets.registry import Description, OptionValue, whole
from prunectl.ml.datasets.regular_file import kind
from prunectl.ml.datasets.scan import Findings, some_of, visible
from prunectl.spec.settings import Shape
from prunectl.text import printable

# Of ImageNet's photographs, as is usual for others too; grey is their luma (ITU-R 601).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.459,), (0.226,)

LARGEST = 3e38
"""Of the values of pixels: floats in files have 32 bits."""

VALIDATION = ("val", "valid", "validation")
"""One word: what is tested on where there is no test/."""


def describe(options: Mapping[str, OptionValue], progress: Progress | None = None) -> Description:
    """List the folder and take its fingerprint.

    Raises DataError, which names all that is wrong with folder and pictures, where it is not laid out as above.
    """
    folder, findings = _look_through(options)
    if findings.problems:
        from prunectl.ml.datasets.picture_check import check_pictures

        # They are decoded all the same, for the user to mend all at once.
        findings.problems += check_pictures(folder, None, progress).problems
        findings.refuse(folder.train.root)
    shape = folder.train.preprocessing.shape
    return Description(
        shape=shape,
        classes=len(folder.classes),
        train=len(folder.train),
        test=len(folder.test),
        mean=MEAN if shape[0] == 3 else GREY_MEAN,
        std=STD if shape[0] == 3 else GREY_STD,
        fingerprint=folder.fingerprint(progress),
        notes=folder.notes,
    )


def read(find: Finder, options: Mapping[str, OptionValue]) -> ImageFolder:
    """List the images. Raises DataError where the folder is not known, or not laid out as above."""
    folder, findings = _look_through(options)
    findings.refuse(folder.train.root)
    return folder


def inspect(folder: ImageFolder, fingerprint: str, progress: Progress | None) -> list[str]:
    """Look at every picture before anything is queued. Returns what is to be told of them.

    Raises DataError, which names all pictures that cannot be trained on.
    """
    from prunectl.ml.datasets.picture_check import check_pictures  # Pillow and NumPy take 0.2 s

    findings = check_pictures(folder, fingerprint, progress)
    Findings(findings.problems, [*folder.notes]).refuse(folder.train.root)
    return findings.notes


def _look_through(options: Mapping[str, OptionValue]) -> tuple[ImageFolder, Findings]:
    """List the folder. Raises DataError for options that make no sense, and where a split is missing."""
    size, channels = whole(options, "size"), whole(options, "channels")
    if channels not in (1, 3):
        raise DataError(f"dataset folder: option channels is {channels}, not 1 or 3")
    if not options["path"]:
        raise DataError(
            "dataset folder needs the option path: the folder that holds train/ and test/"
        )
    root = Path(str(options["path"])).expanduser()
    preprocessing = preprocessing_of((channels, size, size), options, _decoding(options))
    test, notes = _tested_on(root)
    return look_through(root, test, preprocessing, str(options["held"]), notes)


def _tested_on(root: Path) -> tuple[str, list[str]]:
    """Return the folder that is tested on, and a note on those that are not read.

    Raises DataError where several could be, or none, and where one of them is no folder.
    """
    found = visible(root)
    for word in ("train", "test", *VALIDATION):
        what = kind(root / word)
        if what not in (None, "file", "folder"):
            raise DataError(f"{printable(root / word)} is {what}")
    words = [word for word in ("test", *VALIDATION) if word in found]
    missing = [*(() if "train" in found else ("train/",)), *(() if words else ("test/",))]
    if missing:
        there = f"found: {some_of(found)}" if found else "no folder is"
        raise DataError(
            f"{root}: {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there ({there}; test/ may be called {', '.join(VALIDATION)})"
        )
    if words[0] != "test" and len(words) > 1:
        raise DataError(f"{root}: {' and '.join(words)} could both be what is tested on: keep one")
    test = words[0]
    unread = [f"{name}/" for name in found if name not in ("train", test)]
    note = f"trained on train/, tested on {test}/; not read: {some_of(unread)}"
    return test, [note] if unread else []


def _decoding(options: Mapping[str, OptionValue]) -> Decoding:
    """Return what pixels mean. Raises DataError for a colour or a range that is none."""
    background, given = str(options["background"]), options["range"]
    if not re.fullmatch("#[0-9a-f]{6}", background):
        raise DataError(
            f"background is {background!r}, not a colour as #rrggbb (0-9, a-f), such as {AS_SEEN.background!r}"
        )
    assert isinstance(given, tuple)
    if given and not (len(given) == 2 and -LARGEST <= given[0] < given[1] <= LARGEST):
        raise DataError(
            f"range is {list(given)}, not [black, white] with black less than white, both within ±{LARGEST:g}"
        )
    return Decoding(background, given)


def preprocessing_of(
    shape: Shape, options: Mapping[str, OptionValue], decoding: Decoding
) -> Preprocessing:
    """Return how images are made, by the options `resize` and `interpolation`. Raises DataError."""
    resize, interpolation = whole(options, "resize"), options["interpolation"]
    if resize != 0 and resize < max(shape[1:]):
        raise DataError(f"resize {resize} is less than the image's {max(shape[1:])} pixels")
    if interpolation not in ("bilinear", "bicubic"):
        raise DataError(f"interpolation is {interpolation!r}, not bilinear or bicubic")
    return Preprocessing(shape, resize, interpolation, decoding)  # type: ignore[arg-type]

"""A folder of images of the user's own: PATH/train/CLASS/* and PATH/test/CLASS/* (or val/ for test/).

Images are square, `size` pixels: the shorter side is scaled to `resize` (or to `size` itself), and the middle taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prunectl.errors import DataError
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.listing import Listing, View, list_pictures
from prunectl.ml.datasets.registry import Description, OptionValue

# Of ImageNet's photographs, as is usual for others too; grey is their luma (ITU-R 601).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = 0.459, 0.226


def describe(options: Mapping[str, OptionValue]) -> Description:
    """Lists the folder and takes its fingerprint. Raises DataError where it is not laid out as above."""
    return described(_listing(options))


def described(listing: Listing) -> Description:
    """As `describe`, of what has been listed."""
    channels = listing.view.shape[0]
    return Description(
        shape=listing.view.shape,
        classes=len(listing.classes),
        train=len(listing.train.names),
        test=len(listing.test.names),
        mean=MEAN if channels == 3 else (GREY_MEAN,),
        std=STD if channels == 3 else (GREY_STD,),
        fingerprint=listing.fingerprint(),
    )


def read(find: Finder, options: Mapping[str, OptionValue]) -> Listing:
    """List the pictures. Raises DataError where the folder is not known, or not laid out as above."""
    return _listing(options)


def _listing(options: Mapping[str, OptionValue]) -> Listing:
    size, channels = int(options["size"]), int(options["channels"])
    if size < 1 or channels not in (1, 3):
        raise DataError(f"dataset folder: size {size}, channels {channels} (1 or 3)")
    if not options["path"]:
        raise DataError(
            "dataset folder needs the option path: the folder that holds train/ and test/"
        )
    root = Path(str(options["path"])).expanduser()
    test = "test" if (root / "test").is_dir() else "val"
    view = view_of((channels, size, size), options)
    return list_pictures(root, test, view, str(options["held"]))


def view_of(shape: tuple[int, int, int], options: Mapping[str, OptionValue]) -> View:
    """How images are shown, by the options `resize` and `interpolation`. Raises DataError."""
    resize, interpolation = int(options["resize"]), options["interpolation"]
    if resize != 0 and resize < max(shape[1:]):
        raise DataError(f"resize {resize} is less than the image's {max(shape[1:])} pixels")
    if interpolation not in ("bilinear", "bicubic"):
        raise DataError(f"interpolation is {interpolation!r}, not bilinear or bicubic")
    return View(shape, resize, interpolation)  # type: ignore[arg-type]

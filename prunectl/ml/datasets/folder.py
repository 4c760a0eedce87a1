"""A folder of images of the user's own: PATH/train/CLASS/* and PATH/test/CLASS/* (or val/ for test/).

Images are square, `size` pixels: the shorter side is scaled to `resize` (or to `size` itself), and the centre cropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prunectl.errors import DataError
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.listing import ImageFolder, Preprocessing, list_images
from prunectl.ml.datasets.registry import Description, OptionValue
from prunectl.spec.settings import Shape

# Of ImageNet's photographs, as is usual for others too; grey is their luma (ITU-R 601).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.459,), (0.226,)


def describe(options: Mapping[str, OptionValue]) -> Description:
    """List the folder and take its fingerprint. Raises DataError where it is not laid out as above."""
    folder = _list(options)
    shape = folder.train.preprocessing.shape
    return Description(
        shape=shape,
        classes=len(folder.classes),
        train=len(folder.train),
        test=len(folder.test),
        mean=MEAN if shape[0] == 3 else GREY_MEAN,
        std=STD if shape[0] == 3 else GREY_STD,
        fingerprint=folder.fingerprint(),
    )


def read(find: Finder, options: Mapping[str, OptionValue]) -> ImageFolder:
    """List the images. Raises DataError where the folder is not known, or not laid out as above."""
    return _list(options)


def _list(options: Mapping[str, OptionValue]) -> ImageFolder:
    size, channels = int(options["size"]), int(options["channels"])
    if size < 1 or channels not in (1, 3):
        raise DataError(f"dataset folder: size {size}, channels {channels} (1 or 3)")
    if not options["path"]:
        raise DataError(
            "dataset folder needs the option path: the folder that holds train/ and test/"
        )
    root = Path(str(options["path"])).expanduser()
    test = "test" if (root / "test").is_dir() else "val"
    preprocessing = preprocessing_of((channels, size, size), options)
    return list_images(root, test, preprocessing, str(options["held"]))


def preprocessing_of(shape: Shape, options: Mapping[str, OptionValue]) -> Preprocessing:
    """Return how images are resized, by the options `resize` and `interpolation`. Raises DataError."""
    resize, interpolation = int(options["resize"]), options["interpolation"]
    if resize != 0 and resize < max(shape[1:]):
        raise DataError(f"resize {resize} is less than the image's {max(shape[1:])} pixels")
    if interpolation not in ("bilinear", "bicubic"):
        raise DataError(f"interpolation is {interpolation!r}, not bilinear or bicubic")
    return Preprocessing(shape, resize, interpolation)  # type: ignore[arg-type]

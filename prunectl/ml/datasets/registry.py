"""The data sets there are, and what a plan needs to know of each without reading it. Free of torch.

A data set is one line here and one module with

    read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays | Listing

(images, or where the pictures' files are) and, where shape and counts depend on the options,

    describe(options) -> Description
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from prunectl.errors import DataError, UnknownName
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.known_folders import remember
from prunectl.ml.resolve import resolve
from prunectl.spec.settings import Shape

OptionValue = str | int | float
Options = Mapping[str, OptionValue] | Iterable[tuple[str, OptionValue]]


@dataclass(frozen=True)
class Description:
    """What a plan needs to know of a data set."""

    shape: Shape
    """Channels, height, width."""
    classes: int
    train: int
    """Images to train on, before any are held out for validation."""
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the training pixels scaled to [0, 1], one per channel."""
    fingerprint: str
    """Identifies the content."""


@dataclass(frozen=True)
class DatasetEntry:
    """One name of the registry."""

    name: str
    module: str
    """Module of `prunectl.ml.datasets` that reads it."""
    description: Description | None
    """None where it depends on the options."""
    title: str = ""
    defaults: Mapping[str, OptionValue] = field(default_factory=dict)
    """Options that say what the images are, with their defaults."""
    local: Mapping[str, OptionValue] = field(default_factory=dict)
    """Options that say where the files lie and how they are handled: they decide no number, and are part of no
    stage. Data sets whose pictures are files have them."""
    embedded: bool = False
    """It comes with the package."""

    def implementation(self) -> ModuleType:
        """The module that reads it."""
        module: ModuleType = resolve(f"prunectl.ml.datasets.{self.module}")
        return module


# Mean and std of cifar10 are those of the reproduction's code, the others computed from the training images.
# Fingerprints name the published files (MD5 of the archive or of the training images as their authors list them).
_ENTRIES = (
    DatasetEntry(
        "digits",
        "digits",
        Description(
            (1, 8, 8), 10, 1437, 360, (0.3059,), (0.3764,), "uci-optdigits-test-1797-split-1"
        ),
        "UCI handwritten digits, 8×8, in the package",
        embedded=True,
    ),
    DatasetEntry(
        "mnist",
        "idx",
        Description(
            (1, 28, 28),
            10,
            60_000,
            10_000,
            (0.1307,),
            (0.3081,),
            "md5-f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        "handwritten digits",
    ),
    DatasetEntry(
        "fashion-mnist",
        "idx",
        Description(
            (1, 28, 28),
            10,
            60_000,
            10_000,
            (0.2860,),
            (0.3530,),
            "md5-8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        "Zalando's articles of clothing",
    ),
    DatasetEntry(
        "cifar10",
        "cifar",
        Description(
            (3, 32, 32),
            10,
            50_000,
            10_000,
            (0.49139968, 0.48215841, 0.44653091),
            (0.24703223, 0.24348513, 0.26158784),
            "md5-c58f30108f718f92721af3b95e74349a",
        ),
        "photographs of ten kinds of things",
    ),
    DatasetEntry(
        "cifar100",
        "cifar",
        Description(
            (3, 32, 32),
            100,
            50_000,
            10_000,
            (0.50707516, 0.48654887, 0.44091784),
            (0.26733429, 0.25643846, 0.27615047),
            "md5-eb9058c3a382ffc7106e4002c42a8d85",
        ),
        "photographs of a hundred kinds of things",
    ),
    DatasetEntry(
        "svhn",
        "svhn",
        Description(
            (3, 32, 32),
            10,
            73_257,
            26_032,
            (0.4377, 0.4438, 0.4728),
            (0.1980, 0.2010, 0.1970),
            "md5-e26dedcc434d2e4c54c9b2d4a06d8373",
        ),
        "street view house numbers, without the extra images",
    ),
    # Counts are those of ILSVRC 2012. 256 and then the middle 224 is how most evaluate; TensorFlow's reference takes
    # the middle 87.5 % and scales it bicubically (from memory: unverified), which is the same but for rounding.
    DatasetEntry(
        "imagenet",
        "imagenet",
        Description(
            (3, 224, 224),
            1000,
            1_281_167,
            50_000,
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            "ilsvrc2012-train-val",
        ),
        "photographs of a thousand kinds of things; the validation images are the test",
        {"resize": 256, "interpolation": "bilinear"},
        {"path": "", "held": "auto"},
    ),
    DatasetEntry(
        "synthetic",
        "synthetic",
        None,
        "generated, of any shape and size",
        {
            "channels": 3,
            "height": 32,
            "width": 32,
            "classes": 10,
            "train": 2048,
            "test": 512,
            "seed": 0,
        },
    ),
    DatasetEntry(
        "folder",
        "folder",
        None,
        "a folder of one's own: PATH/train/CLASS/*, PATH/test/CLASS/*",
        {"size": 32, "channels": 3, "resize": 0, "interpolation": "bilinear"},
        {"path": "", "held": "auto"},
    ),
)
_BY_NAME = {entry.name: entry for entry in _ENTRIES}


def names() -> list[str]:
    """The names a plan may say."""
    return list(_BY_NAME)


def find(name: str) -> DatasetEntry:
    """The entry of a name. Raises UnknownName."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UnknownName("dataset", name, _BY_NAME) from None


def complete(name: str, options: Options = ()) -> dict[str, OptionValue]:
    """The options with the defaults filled in, local ones too.

    Raises UnknownName for an option the data set does not have, DataError for a value of the wrong kind.
    """
    entry = find(name)
    out = {**entry.defaults, **entry.local}
    for option, value in dict(options).items():
        if option not in out:
            raise UnknownName(f"option of dataset {name}", option, out)
        if type(value) is not type(out[option]):
            wanted = type(out[option]).__name__
            raise DataError(f"dataset {name}: option {option} is {value!r}, not of type {wanted}")
        out[option] = value
    return out


def divide(
    name: str, options: Mapping[str, OptionValue]
) -> tuple[dict[str, OptionValue], dict[str, OptionValue]]:
    """Options as those that say what the images are, and the local ones."""
    local = find(name).local
    what = {option: value for option, value in options.items() if option not in local}
    return what, {option: value for option, value in options.items() if option in local}


def ensure(
    name: str,
    root: Path,
    options: Options = (),
    fingerprint: str = "",
    progress: Callable[[str], None] | None = None,
) -> None:
    """See that a data set's files are there and can be read, downloading them where they are missing.

    What the local options say is written down under the root, where those who load the data by its fingerprint
    find it. Free of torch but for a download. Raises DataError, naming what is missing and where it is expected.
    """
    entry = find(name)
    if entry.embedded or (entry.description is None and not entry.local):
        return
    complete_options = complete(name, options)
    found = entry.implementation().read(Finder(name, root, progress=progress), complete_options)
    if entry.local:
        if entry.description is not None:
            found.check(name, entry.description)
        remember(root, fingerprint, divide(name, complete_options)[1])


def describe(name: str, options: Options = ()) -> Description:
    """Shape, classes, counts, pixel statistics and fingerprint of a data set.

    Reads nothing but for ``folder``, whose files are listed and hashed. Raises as `complete` does.
    """
    entry = find(name)
    complete_options = complete(name, options)
    if entry.description is not None:
        return entry.description
    described: Description = entry.implementation().describe(complete_options)
    return described

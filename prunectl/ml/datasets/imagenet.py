"""ImageNet, ILSVRC 2012's classification task (Russakovsky et al. 2015), unpacked: train/CLASS/* and val/CLASS/*.

Trained networks are tested on the validation images, as everywhere: the labels of the test images are not public.
The files cannot be downloaded without an account, so they must be there. Photographs are taken as they lie in the file:
some have an EXIF orientation, which no published pipeline applies, so that accuracies compare.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from prunectl.errors import DataError, MissingData
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.folder import preprocessing_of
from prunectl.ml.datasets.listing import Decoding, ImageFolder, list_images
from prunectl.ml.datasets.registry import OptionValue
from prunectl.ml.datasets.regular_file import kind

SHAPE = (3, 224, 224)
AS_IN_THE_FILE = Decoding(upright=False)
WNIDS = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
"""SHA-256 of the names of the 1,000 classes (WordNet ids), sorted, a line feed between two; from timm 1.0's list."""
PER_CLASS = range(732, 1301)
"""Training images of one class; of validation images each has `VALIDATION` (Russakovsky et al. 2015, table 2)."""
VALIDATION = 50
TELL_EVERY = 200_000
"""Files between two lines of progress."""
FOLDERS = ("imagenet", "ImageNet", "ILSVRC2012", ".")
"""Where within the data root it is looked for, unless the option `path` names the folder."""


def read(find: Finder, options: Mapping[str, OptionValue]) -> ImageFolder:
    """List the images. Raises DataError where the two folders are not there, or are not ILSVRC 2012's."""
    if options["path"]:
        places = [Path(str(options["path"])).expanduser()]
    else:
        places = [find.root / folder for folder in FOLDERS]
    for place in places:
        if all(_is_folder(place / split) for split in ("train", "val")):
            preprocessing = preprocessing_of(SHAPE, options, AS_IN_THE_FILE)
            found = list_images(place, "val", preprocessing, str(options["held"]))
            check(find.name, found)
            return replace(found, digests=_digests(find, found))
    raise MissingData(
        f"{find.name}: train/ and val/ with a folder per class not found in {places[0]} (it cannot be downloaded); "
        "put them there, or name their folder with --data, PRUNECTL_DATA or the data set's option path"
    )


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder. Raises DataError where it is something odd, or may not be looked at."""
    what = kind(path)
    if what not in (None, "file", "folder"):
        raise DataError(f"{path} is {what}")
    return what == "folder"


def _digests(find: Finder, found: ImageFolder) -> dict[str, str]:
    """Return a digest of all images' names and sizes: no digest of their content is published, and it is 150 GB."""
    digest = hashlib.sha256()
    names = [*found.train.names, *found.test.names]
    for number, name in enumerate(names, 1):
        path = f"{found.train.root}/{name}"
        try:
            size = os.stat(path).st_size
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
        if find.progress is not None and number % TELL_EVERY == 0:
            find.progress(f"looking at {find.name}: {number:,} of {len(names):,} files")
    return {"names and sizes": f"sha256-{digest.hexdigest()[:32]}"}


def check(name: str, found: ImageFolder) -> None:
    """Raise DataError where classes, or the number of images of one, are not ILSVRC 2012's."""
    listed = hashlib.sha256("\n".join(found.classes).encode(errors="replace")).hexdigest()
    if listed != WNIDS:
        raise DataError(
            f"{name}: the {len(found.classes):,} folders of {found.train.root}/train are not the 1,000 classes of "
            'ILSVRC 2012 (n01440764 … n15075141); a subset is a data set of its own: kind = "folder"'
        )
    for split, targets, allowed in (
        ("train", found.train_targets, PER_CLASS),
        ("val", found.test_targets, range(VALIDATION, VALIDATION + 1)),
    ):
        counts = Counter(targets)
        wrong = [label for label in range(len(found.classes)) if counts[label] not in allowed]
        if wrong:
            texts = [f"{found.classes[label]} has {counts[label]:,}" for label in wrong[:5]]
            more = f", … {len(wrong) - 5} more" if len(wrong) > 5 else ""
            wanted = (
                f"{allowed.start:,}"
                if len(allowed) == 1
                else f"{allowed.start:,} to {allowed[-1]:,}"
            )
            raise DataError(
                f"{name}: {found.train.root}/{split} does not have {wanted} images of each class: "
                f"{', '.join(texts)}{more}"
            )

"""ImageNet, ILSVRC 2012's classification task (Russakovsky et al. 2015), unpacked: train/CLASS/* and val/CLASS/*.

Trained networks are tested on the validation images, as everywhere: the labels of the test images are not public.
The files cannot be downloaded without an account, so they must be there. Photographs are taken as they lie in the file:
some have an EXIF orientation, which no published pipeline applies, so that accuracies compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prunectl.errors import DataError
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.folder import preprocessing_of
from prunectl.ml.datasets.listing import Decoding, ImageFolder, list_images
from prunectl.ml.datasets.registry import OptionValue

SHAPE = (3, 224, 224)
AS_IN_THE_FILE = Decoding(upright=False)
FOLDERS = ("imagenet", "ImageNet", "ILSVRC2012", ".")
"""Where within the data root it is looked for, unless the option `path` names the folder."""


def read(find: Finder, options: Mapping[str, OptionValue]) -> ImageFolder:
    """List the images. Raises DataError where the two folders are not there."""
    if options["path"]:
        places = [Path(str(options["path"])).expanduser()]
    else:
        places = [find.root / folder for folder in FOLDERS]
    for place in places:
        if (place / "train").is_dir() and (place / "val").is_dir():
            preprocessing = preprocessing_of(SHAPE, options, AS_IN_THE_FILE)
            return list_images(place, "val", preprocessing, str(options["held"]))
    raise DataError(
        f"{find.name}: train/ and val/ with a folder per class not found in {places[0]} (it cannot be downloaded); "
        "put them there, or name their folder with --data, PRUNECTL_DATA or the data set's option path"
    )

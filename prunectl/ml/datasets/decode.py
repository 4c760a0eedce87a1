"""From an image file to the pixels that a person sees in it: uint8, colour or grey, by Pillow. Free of torch.

Refused by name is what has no such pixels: several frames, and numbers of which nobody says what black and white are.
Colour profiles are not applied, as in every published pipeline.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from prunectl.errors import DataError
from prunectl.ml.datasets.listing import AS_SEEN, Decoding
from prunectl.ml.datasets.picture_bounds import MOST_FRAMES, check_bounds, frames, in_turn
from prunectl.ml.datasets.regular_file import open_file
from prunectl.text import printable

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""All that Pillow is given: it knows formats that start programs (PostScript), and tries each by content."""

# Left to itself, Pillow imports its readers when the first file is opened, takes a failed import for good and says
# nothing of it: where they cannot be read at that moment (no more file descriptors, another user), never after.
_READERS = (
    *(BmpImagePlugin, JpegImagePlugin, MpoImagePlugin),
    *(PngImagePlugin, PpmImagePlugin, TiffImagePlugin, WebPImagePlugin),
)

DEEP = frozenset({"F", "I", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes of more than 8 bits a value, all of grey."""

ROWS = 256
"""Of a picture of more than 8 bits, whose values are scaled at once."""

# What it says of odd but readable files (damaged EXIF, sizes beyond 89 megapixels) names no file and changes no pixel.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(path: Path, channels: int, decoding: Decoding = AS_SEEN) -> NDArray[np.uint8]:
    """Return the pixels [height, width, channels], grey for 1 channel. Raises DataError, naming the file."""
    with _opened(path, decoding) as image:
        pixels = np.array(_as_seen(image, decoding).convert("RGB" if channels == 3 else "L"))
    return pixels.reshape(*pixels.shape[:2], channels)


def look_at(path: Path, decoding: Decoding, *, whole: bool) -> bool:
    """Return whether a picture has transparency; `whole` decodes it, else its header is read.

    Raises DataError, naming the file, where `decode` would; without `whole`, where the header shows it.
    """
    with _opened(path, decoding) as image:
        if whole:
            _as_seen(image, decoding).convert("RGB")
        return image.has_transparency_data


@contextlib.contextmanager
def _opened(path: Path, decoding: Decoding) -> Iterator[Image.Image]:
    """Open a picture that `decode` can do with. Raises DataError for all that goes wrong in the block, too."""
    try:
        with open_file(path) as file, _header(file) as image:
            _check_header(image, decoding)
            check_bounds(image, file)
            _mend_transparency(image)
            with in_turn(image):
                yield image
    except MemoryError:
        raise
    # Pillow's readers of damaged files raise whatever they run into: EOFError, struct.error, IndexError, ….
    except Exception as error:
        raise DataError(f"{printable(path)}: {_what_is_wrong(path, error)}") from error


def _header(file: BinaryIO) -> Image.Image:
    """Read a picture's header. Raises ValueError where it asks for more memory than there is."""
    try:
        # By content, whatever the suffix: ImageNet has a PNG named .JPEG.
        return Image.open(file, formats=FORMATS)
    except MemoryError:  # the canvas of a WebP
        raise ValueError("its header asks for more memory than there is") from None


def _what_is_wrong(path: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        with contextlib.suppress(OSError):
            if os.stat(path).st_size == 0:
                return "the file is empty"
        return f"no picture, or of a kind that is not read ({', '.join(FORMATS)} are)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error) or type(error).__name__)


def _check_header(image: Image.Image, decoding: Decoding) -> None:
    """Raise ValueError for a picture whose meaning is not known."""
    # An MPO is a JPEG with more pictures behind the one that everybody shows: depth maps, other exposures.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        count = frames(image)
        number = f"{count} or more" if count >= MOST_FRAMES else f"{count}"
        raise ValueError(f"{number} frames or pages: which of them is the picture is not known")
    if image.mode == "I" and image.format == "TIFF" and not decoding.value_range:
        raise ValueError(
            "whole numbers with a sign or of 32 bits: which are black and white is not known; "
            "the data set's option range = [black, white] says it"
        )

    if decoding.value_range and ";16" in _stored(image) and image.mode not in DEEP:
        raise ValueError("16-bit colour: the data set's option range is for shades of grey")


def _stored(image: Image.Image) -> str:
    """Return how pixels lie in the file, in Pillow's words (raw mode): ``RGB;16B``; "" where it does not say."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    how = tiles[0].args if tiles else ""
    return str(how[0] if isinstance(how, tuple) and how else how)


def _mend_transparency(image: Image.Image) -> None:
    """Put a PNG's transparent colour on the scale of Pillow's pixels, which it leaves as the file has it.

    Raises ValueError where that cannot be: Pillow cuts colours of 16 bits to 8.
    """
    colour = image.info.get("transparency")
    if colour is None or image.format != "PNG":
        return
    stored = _stored(image)
    if stored == "RGB;16B":
        raise ValueError("16-bit colour with a transparent colour is not read")
    if stored in ("L;2", "L;4"):
        image.info["transparency"] = colour * {"L;2": 85, "L;4": 17}[stored]


def _as_seen(image: Image.Image, decoding: Decoding) -> Image.Image:
    """Load a picture. Returns it upright, opaque, in a mode of 8 bits that Pillow's `convert` is right for."""
    image = _eight_bits(_upright(image, decoding), decoding)
    if image.mode == "LAB":
        return image.convert("RGB")  # by its profile; to grey there is no way of its own
    return _over(image, decoding.background) if image.has_transparency_data else image


def _upright(image: Image.Image, decoding: Decoding) -> Image.Image:
    """Load a picture, and turn it as its EXIF says. A TIFF is turned by Pillow in any case."""
    image.load()
    if not decoding.upright:
        return image
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data, which viewers pass over
        return image
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image, decoding: Decoding) -> Image.Image:
    """Scale values of more than 8 bits, which Pillow's `convert` clips, to the nearest of 256 levels of grey.

    Raises ValueError for values outside their range. Colours of 16 bits Pillow has cut to their upper 8 bits.
    """
    if image.mode not in DEEP:
        return image
    values = np.asarray(image)
    black, white = _range(image, decoding)
    least, most = float(values.min()), float(values.max())
    if not black <= least <= most <= white:  # nor where there are NaN
        raise ValueError(
            f"values from {least:g} to {most:g}, outside of {black:g} to {white:g}; "
            "the data set's option range = [black, white] says which are meant"
        )
    levels = np.empty(values.shape, np.uint8)
    for row in range(
        0, len(values), ROWS
    ):  # as 64-bit floats the largest picture would take 1.4 GB three times
        part = values[row : row + ROWS].astype(np.float64)
        levels[row : row + ROWS] = np.rint((part - black) / (white - black) * 255)
    if _white_is_zero(image):
        levels = 255 - levels
    grey = Image.fromarray(levels)
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(alpha)))


def _range(image: Image.Image, decoding: Decoding) -> tuple[float, float]:
    """Return the values that are black and white."""
    if image.mode == "I" and image.format == "PPM":
        return 0.0, 65535.0  # Pillow has scaled them by the file's own white
    if decoding.value_range:
        black, white = decoding.value_range
        return black, white
    if image.mode == "F":
        return 0.0, 1.0
    bits = _tiff_tag(image, ExifTags.Base.BitsPerSample, (16,))[0]
    return 0.0, float((1 << bits) - 1)


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF counts from white; Pillow minds it where values have 8 bits alone."""
    return bool(_tiff_tag(image, ExifTags.Base.PhotometricInterpretation, 1) == 0)


def _tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    """Return a tag of a TIFF; the default where there is none, or the picture is of another format."""
    return getattr(image, "tag_v2", {}).get(tag, default)


def _over(image: Image.Image, background: str) -> Image.Image:
    """Lay a see-through picture over a colour."""
    if image.mode == "La":  # has no way to RGBA of its own
        image = image.convert("LA")
    under = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(under, image.convert("RGBA"))

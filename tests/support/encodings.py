"""Pictures in every encoding that image files have: pixels are made first, then encoded."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.raw_images import exif, png, tiff, turned

Pixels = NDArray[np.uint8]
"""What a person is to see: [height, width, 3]."""

WHITE = 255
LOSSY = 8
"""Most levels by which a flat surface of a JPEG (quality 95) or an ink differs."""


@dataclass(frozen=True)
class Encoding:
    """How pixels become a file."""

    suffix: str
    encode: Callable[[Pixels], bytes]
    seen: Callable[[Pixels], Pixels] = lambda pixels: pixels
    """What a person sees of it, where an encoding cannot hold all."""
    tolerance: int = 0
    """Levels."""
    refused: bool = False
    """Whether nobody can say what is to be seen."""


def blocks(colours: Any, height: int = 16, width: int = 16) -> Pixels:
    """Return four flat rectangles; of 8×8 pixels and multiples, which JPEG keeps."""
    four = np.asarray(colours, np.uint8).reshape(2, 2, 3)
    return four.repeat(height // 2, 0).repeat(width // 2, 1)


def grey_of(pixels: Pixels) -> Pixels:
    """Return the red channel as grey: simple, and no luma to compute."""
    return np.repeat(pixels[:, :, :1], 3, axis=2)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _by_pillow(mode: str, kind: str, **options: Any) -> Callable[[Pixels], bytes]:
    return lambda pixels: _saved(Image.fromarray(pixels).convert(mode), kind, **options)


def _grey16(pixels: Pixels) -> NDArray[np.uint16]:
    return pixels[:, :, 0].astype(np.uint16) * 257


def _pgm(white: int) -> Callable[[Pixels], bytes]:
    def encode(pixels: Pixels) -> bytes:
        values = np.rint(pixels[:, :, 0] * (white / 255)).astype(">u2" if white > 255 else "u1")
        height, width = values.shape
        return b"P5 %d %d %d\n" % (width, height, white) + values.tobytes()

    return encode


def _over(alpha: int, under: int = WHITE) -> Callable[[Pixels], Pixels]:
    """What is seen where the left half has this opacity, and the right half all of it."""

    def seen(pixels: Pixels) -> Pixels:
        out = pixels.astype(float)
        half = pixels.shape[1] // 2
        out[:, :half] = out[:, :half] * (alpha / 255) + under * (1 - alpha / 255)
        return np.rint(out).astype(np.uint8)

    return seen


def _half_alpha(pixels: Pixels, alpha: int) -> Pixels:
    out = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    out[:, : pixels.shape[1] // 2] = alpha
    return out


def _rgba(alpha: int, kind: str, **options: Any) -> Callable[[Pixels], bytes]:
    def encode(pixels: Pixels) -> bytes:
        image = Image.fromarray(np.concatenate([pixels, _half_alpha(pixels, alpha)], 2))
        return _saved(image, kind, **options)

    return encode


def _palette(alpha: int | None) -> Callable[[Pixels], bytes]:
    """Colours by number, each pixel's own; of the first pixel's colour an opacity."""

    def encode(pixels: Pixels) -> bytes:
        colours, numbers = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
        chunks = {b"PLTE": colours.tobytes()}
        if alpha is not None:
            opacity = np.full(len(colours), 255, np.uint8)
            opacity[numbers.reshape(-1)[0]] = alpha
            chunks[b"tRNS"] = opacity.tobytes()
        return png(numbers.reshape(*pixels.shape[:2], 1), "palette", 8, chunks)

    return encode


def _first_colour_over(alpha: int) -> Callable[[Pixels], Pixels]:
    def seen(pixels: Pixels) -> Pixels:
        out = pixels.astype(float)
        same = (pixels == pixels[0, 0]).all(2)
        out[same] = out[same] * (alpha / 255) + WHITE * (1 - alpha / 255)
        return np.rint(out).astype(np.uint8)

    return seen


def _levels(depth: int) -> Callable[[Pixels], Pixels]:
    """What is seen of few levels of grey."""
    most = (1 << depth) - 1
    return lambda pixels: (grey_of(pixels) >> (8 - depth)) * np.uint8(255 // most)


def _few_bits(depth: int, *, transparent: bool = False) -> Callable[[Pixels], bytes]:
    """Grey of 1, 2 or 4 bits; the first pixel's level may be transparent."""

    def encode(pixels: Pixels) -> bytes:
        values = pixels[:, :, :1] >> (8 - depth)
        level = struct.pack(">H", int(values[0, 0, 0]))
        return png(values, "grey", depth, {b"tRNS": level} if transparent else {})

    return encode


def _clear(seen: Callable[[Pixels], Pixels]) -> Callable[[Pixels], Pixels]:
    """What is seen where the first pixel's level is transparent."""

    def clear(pixels: Pixels) -> Pixels:
        out = seen(pixels).copy()
        out[(out == out[0, 0]).all(2)] = WHITE
        return out

    return clear


def _grey16_clear(pixels: Pixels) -> bytes:
    values = _grey16(pixels)[:, :, None]
    return png(values, "grey", 16, {b"tRNS": struct.pack(">H", int(values[0, 0, 0]))})


def _rgb_clear(pixels: Pixels) -> bytes:
    return png(pixels, "rgb", 8, {b"tRNS": struct.pack(">3H", *map(int, pixels[0, 0]))})


def _cmyk(pixels: Pixels) -> Image.Image:
    """Inks without black: what is not cyan is red."""
    inks = np.concatenate([255 - pixels, np.zeros((*pixels.shape[:2], 1), np.uint8)], 2)
    return Image.frombytes("CMYK", (pixels.shape[1], pixels.shape[0]), inks.tobytes())


def _turned(orientation: int, kind: str, **options: Any) -> Callable[[Pixels], bytes]:
    def encode(pixels: Pixels) -> bytes:
        image = Image.fromarray(turned(pixels, orientation))
        return _saved(image, kind, exif=exif(orientation), **options)

    return encode


def _turned_tiff(orientation: int) -> Callable[[Pixels], bytes]:
    return lambda pixels: _saved(
        Image.fromarray(turned(pixels, orientation)), "TIFF", tiffinfo={0x0112: orientation}
    )


def _frames(kind: str, **options: Any) -> Callable[[Pixels], bytes]:
    def encode(pixels: Pixels) -> bytes:
        other = Image.fromarray(255 - pixels)
        return _saved(
            Image.fromarray(pixels), kind, save_all=True, append_images=[other], **options
        )

    return encode


def _cut(kind: str) -> Callable[[Pixels], bytes]:
    """Two thirds of a file, as of a download that broke off."""

    def encode(pixels: Pixels) -> bytes:
        whole = _by_pillow("RGB", kind)(pixels)
        return whole[: len(whole) * 2 // 3]

    return encode


SUFFIXES = {
    "PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "PPM": ".ppm", "WEBP": ".webp", "TIFF": ".tif"
}  # fmt: skip
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"

ENCODINGS = {
    "png": Encoding(".png", _by_pillow("RGB", "PNG")),
    "png-grey": Encoding(".png", lambda p: png(p[:, :, :1], "grey", 8), grey_of),
    "png-grey-1": Encoding(".png", _few_bits(1), _levels(1)),
    "png-grey-2": Encoding(".png", _few_bits(2), _levels(2)),
    "png-grey-4": Encoding(".png", _few_bits(4), _levels(4)),
    "png-grey-16": Encoding(".png", lambda p: png(_grey16(p)[:, :, None], "grey", 16), grey_of),
    "png-16": Encoding(".png", lambda p: png(p.astype(np.uint16) * 257, "rgb", 16)),
    "png-palette": Encoding(".PNG", _palette(None)),
    "png-palette-clear": Encoding(".png", _palette(0), _first_colour_over(0)),
    "png-palette-half": Encoding(".png", _palette(100), _first_colour_over(100), 1),
    "png-alpha": Encoding(".png", _rgba(90, "PNG"), _over(90), 1),
    "png-alpha-0": Encoding(".png", _rgba(0, "PNG"), _over(0)),
    "png-alpha-16": Encoding(
        ".png",
        lambda p: png(
            np.concatenate([p, _half_alpha(p, 90)], 2).astype(np.uint16) * 257, "rgb-alpha", 16
        ),
        _over(90),
        1,
    ),
    "png-grey-alpha": Encoding(
        ".png",
        lambda p: png(np.concatenate([p[:, :, :1], _half_alpha(p, 90)], 2), "grey-alpha", 8),
        lambda p: _over(90)(grey_of(p)),
        1,
    ),
    "png-grey-clear": Encoding(".png", _few_bits(8, transparent=True), _clear(grey_of)),
    "png-grey-1-clear": Encoding(".png", _few_bits(1, transparent=True), _clear(_levels(1))),
    "png-grey-2-clear": Encoding(".png", _few_bits(2, transparent=True), _clear(_levels(2))),
    "png-grey-4-clear": Encoding(".png", _few_bits(4, transparent=True), _clear(_levels(4))),
    "png-grey-16-clear": Encoding(".png", _grey16_clear, _clear(grey_of)),
    "png-clear": Encoding(".png", _rgb_clear, _first_colour_over(0)),
    "jpeg": Encoding(".jpg", _by_pillow("RGB", "JPEG", quality=95, subsampling=0), tolerance=LOSSY),
    "jpeg-grey": Encoding(
        ".JPEG", lambda p: _saved(Image.fromarray(p[:, :, 0]), "JPEG", quality=95), grey_of, LOSSY
    ),
    "jpeg-cmyk": Encoding(".jpg", lambda p: _saved(_cmyk(p), "JPEG", quality=95), tolerance=LOSSY),
    "jpeg-called-png": Encoding(
        ".png", _by_pillow("RGB", "JPEG", quality=95, subsampling=0), tolerance=LOSSY
    ),
    "bmp": Encoding(".bmp", _by_pillow("RGB", "BMP")),
    "ppm": Encoding(".ppm", _by_pillow("RGB", "PPM")),
    "pgm": Encoding(".pgm", _pgm(255), grey_of),
    "pgm-65535": Encoding(".pgm", _pgm(65535), grey_of),
    "pgm-4095": Encoding(".pgm", _pgm(4095), grey_of, 1),
    "webp": Encoding(".webp", _by_pillow("RGB", "WEBP", lossless=True)),
    "webp-alpha": Encoding(".webp", _rgba(90, "WEBP", lossless=True), _over(90), 1),
    "tiff": Encoding(".tif", _by_pillow("RGB", "TIFF")),
    "tiff-cmyk": Encoding(".tiff", lambda p: _saved(_cmyk(p), "TIFF"), tolerance=1),
    "tiff-lab": Encoding(".tiff", _by_pillow("LAB", "TIFF"), tolerance=32),
    "tiff-16": Encoding(".tiff", lambda p: tiff(p.astype(np.uint16) * 257, bits=16)),
    "tiff-16-big": Encoding(".tiff", lambda p: tiff(p.astype(np.uint16) * 257, bits=16, order=">")),
    "tiff-grey-16": Encoding(".tiff", lambda p: tiff(_grey16(p), bits=16), grey_of),
    "tiff-grey-16-big": Encoding(".tiff", lambda p: tiff(_grey16(p), bits=16, order=">"), grey_of),
    "tiff-grey-16-white": Encoding(
        ".tiff", lambda p: tiff(65535 - _grey16(p), bits=16, white_is_zero=True), grey_of
    ),
    "tiff-grey-12": Encoding(
        ".tiff", lambda p: tiff(p[:, :, 0].astype(np.uint16) * 16 + 8, bits=12), grey_of, 1
    ),
    "tiff-float": Encoding(
        ".tiff", lambda p: tiff((p[:, :, 0] / 255).astype(np.float32), bits=32), grey_of
    ),
    **{
        f"jpeg-turned-{n}": Encoding(
            ".jpg", _turned(n, "JPEG", quality=95, subsampling=0), tolerance=LOSSY
        )
        for n in range(1, 9)
    },
    **{f"png-turned-{n}": Encoding(".png", _turned(n, "PNG")) for n in (3, 6)},
    **{f"webp-turned-{n}": Encoding(".webp", _turned(n, "WEBP", lossless=True)) for n in (5, 8)},
    **{f"tiff-turned-{n}": Encoding(".tif", _turned_tiff(n)) for n in (2, 6)},
    "png-frames": Encoding(".png", _frames("PNG"), refused=True),
    "webp-frames": Encoding(".webp", _frames("WEBP", lossless=True), refused=True),
    "tiff-pages": Encoding(".tif", _frames("TIFF"), refused=True),
    "tiff-int-32": Encoding(
        ".tif", lambda p: tiff(p[:, :, 0].astype(np.int32) * 99, bits=32), refused=True
    ),
    "tiff-int-16": Encoding(
        ".tif", lambda p: tiff(p[:, :, 0].astype(np.int16) - 99, bits=16), refused=True
    ),
    "tiff-float-255": Encoding(
        ".tif", lambda p: tiff(p[:, :, 0].astype(np.float32) + 2, bits=32), refused=True
    ),
    "tiff-float-nan": Encoding(
        ".tif", lambda p: tiff(np.full(p.shape[:2], np.nan, np.float32), bits=32), refused=True
    ),
    "png-16-clear": Encoding(
        ".png",
        lambda p: png(p.astype(np.uint16) * 257, "rgb", 16, {b"tRNS": bytes(6)}),
        refused=True,
    ),
    "gif-called-png": Encoding(".png", _by_pillow("P", "GIF"), refused=True),
    "postscript-called-png": Encoding(".png", lambda p: POSTSCRIPT, refused=True),
    "empty": Encoding(".png", lambda p: b"", refused=True),
    "text": Encoding(".jpg", lambda p: b"no picture\n" * 40, refused=True),
    **{
        f"short-{kind.lower()}": Encoding(suffix, _cut(kind), refused=True)
        for kind, suffix in SUFFIXES.items()
    },
}
"""By name: all that a folder may hold under the suffix of a picture."""

"""Whether files are those that their data set's authors published: MD5 sums of what they hold.

The sums are in registry.toml. MD5, because that is what is published; it tells other data and damage, not forgery.
A gzipped file is judged by its content: who packs it anew gets other bytes, as Debian does with Fashion-MNIST.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from prunectl.errors import DataError
from prunectl.ml.datasets import registry
from prunectl.ml.datasets.content import BYTES, GUNZIPPED, digests
from prunectl.ml.datasets.files import Progress

UNNAMED = {
    "Kuzushiji-MNIST": {
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    },
    "QMNIST": {
        "ed72d4157d28c017586c42bc6afe6370",
        "0058f8dd561b90ffdd0f734c6a30e5e4",
        "1394631089c404de565df7b7aeaf9412",
        "5b5b05890a5e13444e108efe57b788aa",
    },
}
"""MD5 sums of the gzipped files of data sets in MNIST's format that plans have no name for (torchvision 0.29,
datasets/mnist.py)."""


def check(name: str, paths: Sequence[Path], progress: Progress | None = None) -> dict[str, str]:
    """Compare files with the published ones of the data set `name`. Returns the MD5 sum of each one's content, by name.

    Raises DataError, naming every file that is another, what was found and what was expected, and whose it is if
    known.
    """
    wanted = registry.find(name).files
    found = {path: md5(name, path, progress) for path in paths}
    wrong = {path: sum_ for path, sum_ in found.items() if wanted[_plain(path)] != sum_}
    if wrong:
        lines = [
            f"{path}: MD5 {sum_}, not {wanted[_plain(path)]}{_whose(name, path, sum_)}"
            for path, sum_ in wrong.items()
        ]
        raise DataError(
            "\n  ".join(
                [
                    f"{name}: {len(wrong)} of {len(paths)} files are not the published ones (MD5 of what they hold):",
                    *lines,
                    "Put the published files there; images of your own are a data set of their own: "
                    'kind = "folder"',
                ]
            )
        )
    return {_plain(path): sum_ for path, sum_ in found.items()}


def most_bytes(name: str) -> int:
    """Return more bytes than any published file of a data set holds: twice those of all pixels of a split."""
    about = registry.find(name).description
    assert about is not None
    return 2 * max(about.train, about.test) * math.prod(about.shape)


def md5(name: str, path: Path, progress: Progress | None = None) -> str:
    """Return the MD5 sum of what a file of the data set `name` holds, unpacked where gzipped. Raises DataError."""
    content, most = GUNZIPPED if path.suffix == ".gz" else BYTES, most_bytes(name)
    [found] = digests([path], progress, most=most, content=content, algorithm="md5", what=path.name)
    return found


def are_anothers(name: str, paths: Sequence[Path]) -> bool:
    """Return whether all files are another data set's, the same one. Raises DataError for one that cannot be read."""
    shared = set.intersection(*(set(_owners(name, path, md5(name, path))) for path in paths))
    return bool(shared) and name not in shared


def _owners(name: str, path: Path, sum_: str) -> list[str]:
    """List the data sets that this file is of."""
    names = list(owners(sum_))
    if not names and path.suffix == ".gz":
        [packed] = digests([path], most=most_bytes(name), algorithm="md5")
        names = [title for title, sums in UNNAMED.items() if packed in sums]
    return names


def owners(sum_: str) -> Iterator[str]:
    """Yield the data sets that have a file with this MD5 sum of its content."""
    for name in registry.names():
        if sum_ in registry.find(name).files.values():
            yield name


def _plain(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _whose(name: str, path: Path, sum_: str) -> str:
    names = _owners(name, path, sum_)
    return f"; it is of {' and '.join(names)}" if names else ""

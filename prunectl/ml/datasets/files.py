"""Where the files of a data set lie, and how they get there. Free of torch but for a download by torchvision."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError

from prunectl.errors import DataError, MissingData
from prunectl.ml.datasets.regular_file import kind

Progress = Callable[[str], None]
TIMEOUT = 20.0
"""Seconds a server may be silent before a download is given up."""


def data_root(option: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of data sets: the option, else PRUNECTL_DATA, else prunectl/data in the user's cache."""
    if option is not None:
        return Path(option).expanduser()
    if os.environ.get("PRUNECTL_DATA"):
        return Path(os.environ["PRUNECTL_DATA"]).expanduser()
    return user_cache() / "data"


def user_cache() -> Path:
    """Return prunectl's folder in the user's cache. Raises RuntimeError where the user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "prunectl"


@dataclass(frozen=True)
class Finder:
    """Finds the files of one data set under the data root, downloading them where they are missing."""

    name: str
    root: Path
    download: bool = True
    progress: Progress | None = None

    def folder(
        self,
        names: Sequence[str],
        folders: Sequence[str],
        download: Callable[[Path], object],
        *,
        compressed: bool = False,
        fallbacks: Sequence[Path] = (),
        suits: Callable[[Path], bool] = lambda folder: True,
    ) -> Path:
        """Return the first folder that holds all the files `names`, each plain or, if `compressed`, with ``.gz`` added.

        Searched are `folders` within the root, the root itself, then `fallbacks`; `suits` may turn one down.
        Where there is none, `download(root)` brings the files into the root, and the search is made again.
        Raises MissingData, in one line, naming what is missing and where it is expected; DataError where something
        has a file's name that is none.
        """

        def missing(place: Path) -> list[str]:
            return [name for name in names if not present(place, name, compressed)]

        def search() -> Path | None:
            return next((p for p in places if not missing(p) and suits(p)), None)

        def refuse_folders() -> None:
            # In the root itself a folder may be of another data set: ImageNet has train/, CIFAR-100 a file train.
            for path in (place / name for place in places if place != self.root for name in names):
                if kind(path) == "folder":
                    raise DataError(f"{self.name}: {path} is a folder, not a file")

        places = [*(self.root / folder for folder in folders), self.root, *fallbacks]
        found = search()
        if found is not None:
            return found
        refuse_folders()
        reason = self._download(download) if self.download else "downloads are off"
        found = search()
        if found is not None:
            return found
        expected = self.root / folders[0]
        raise MissingData(
            f"{self.name}: {', '.join(missing(expected) or names)} not found in {expected} ({reason}); "
            "put the files there, or name their folder with --data or PRUNECTL_DATA"
        )

    def _download(self, download: Callable[[Path], object]) -> str:
        """Download, one process at a time. Returns what went wrong, in a few words."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with _locked(self.root / f".{self.name}.lock"), _socket_timeout():
                if self.progress is not None:
                    self.progress(f"downloading {self.name} to {self.root}")
                download(self.root)
        except (OSError, RuntimeError, EOFError, HTTPException, TarError) as error:
            return f"download failed: {' '.join(str(error).split()) or type(error).__name__}"
        return "the download did not bring it"


def torchvision_download(kind: str, folder: Path, **options: str) -> None:
    """Download into `folder` by the class `kind` of torchvision, which checks MD5 sums."""
    from torchvision import datasets

    getattr(datasets, kind)(str(folder), download=True, **options)


def present(folder: Path, name: str, compressed: bool = False) -> Path | None:
    """Return the path of a file that exists, or of its compressed form ``name.gz`` where that will do; else None.

    Raises DataError where neither a file nor a folder has the name, as a FIFO, or it may not be looked at.
    """
    for path in [folder / name, folder / f"{name}.gz"] if compressed else [folder / name]:
        what = kind(path)
        if what == "file":
            return path
        if what not in (None, "folder"):
            raise DataError(f"{path} is {what}")
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file: workers that start together must not write the same archive at once."""
    # O_NONBLOCK: opening a FIFO of that name would wait for a reader.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    """Set a timeout for torchvision, which has none: a silent network would hang a worker for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

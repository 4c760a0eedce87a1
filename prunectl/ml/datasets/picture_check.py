"""One look at every picture of a folder before it is trained on, so that all that is wrong is said at once.

Whole pictures are decoded where images are held in memory; of larger sets the headers are read, and what is wrong
behind them is said when it is met. That a folder is in order is remembered in the user's cache, by its fingerprint.
Free of torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import PIL

from prunectl.errors import DataError
from prunectl.ml.datasets.content import Teller
from prunectl.ml.datasets.decode import look_at
from prunectl.ml.datasets.files import Progress, user_cache
from prunectl.ml.datasets.listing import ImageFolder
from prunectl.ml.datasets.regular_file import read_bounded
from prunectl.ml.datasets.scan import MOST_LINES, Findings, some_of
from prunectl.text import plural, printable

RULES = 1
"""Incremented when `decode` refuses other pictures, or `Verdict` says more."""


MOST_VERDICT_BYTES = 1 << 12


class Verdict(msgspec.Struct, frozen=True):
    """What is known of the pictures of a folder that is in order."""

    see_through: int = 0
    """How many have transparency."""
    first: int = 0
    """Number of the first of them, those to train on first."""


def check_pictures(
    folder: ImageFolder, fingerprint: str | None, progress: Progress | None = None
) -> Findings:
    """Look at every picture, or remember that all of this fingerprint are in order; None: nothing is remembered."""
    place = None if fingerprint is None else _place(folder, fingerprint)
    verdict = _remembered(place)
    findings = Findings()
    if verdict is None:
        verdict, findings.problems = _look(folder, progress)
        if findings.problems:
            return findings
        _remember(place, verdict)
    if verdict.see_through:
        shown = printable(folder.names()[verdict.first])
        colour = folder.train.preprocessing.decoding.background
        findings.notes.append(
            f"{plural(verdict.see_through, 'picture')} with transparency laid over {colour} "
            f"(option `background`), as {shown}"
        )
    return findings


def _look(folder: ImageFolder, progress: Progress | None) -> tuple[Verdict, list[str]]:
    """Return what is known of the pictures, and the problems."""
    names, whole, root = folder.names(), folder.in_memory, Path(folder.train.root)
    decoding = folder.train.preprocessing.decoding

    def look(name: str) -> bool | str:
        try:
            return look_at(root / name, decoding, whole=whole)
        except DataError as error:
            return str(error).removeprefix(f"{printable(root / name)}: ")

    see_through: list[int] = []
    wrong: defaultdict[str, list[str]] = defaultdict(list)
    what = f"{'pictures' if whole else 'headers of pictures'} of {root} to find bad ones"
    teller = Teller(progress, len(names), what)
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as threads:
        for index, found in enumerate(threads.map(look, names)):
            if isinstance(found, str):
                wrong[found].append(names[index])
            elif found:
                see_through.append(index)
            with contextlib.suppress(OSError):
                teller.has_read((root / names[index]).stat().st_size)
            teller.tell(index + 1)
    first = see_through[0] if see_through else 0
    return Verdict(len(see_through), first), _problems(wrong)


def _problems(wrong: dict[str, list[str]]) -> list[str]:
    """Write a line for each file; where they are more than a message holds, a line for each reason."""
    if sum(map(len, wrong.values())) <= MOST_LINES:
        return [f"{printable(name)}: {why}" for why, files in wrong.items() for name in files]
    by_count = sorted(wrong.items(), key=lambda item: -len(item[1]))
    return [f"{plural(len(files), 'file')}: {why}: {some_of(files)}" for why, files in by_count]


def _place(folder: ImageFolder, fingerprint: str) -> Path | None:
    """Return the file that remembers the verdict on this content; None where the user has no home."""
    decoding = folder.train.preprocessing.decoding
    about = repr((RULES, PIL.__version__, fingerprint, folder.in_memory, decoding))
    with contextlib.suppress(RuntimeError):
        return user_cache() / "pictures" / f"{hashlib.sha256(about.encode()).hexdigest()}.json"
    return None


def _remembered(place: Path | None) -> Verdict | None:
    if place is not None:
        with contextlib.suppress(OSError, ValueError):  # msgspec's errors are ValueErrors
            return msgspec.json.decode(read_bounded(place, MOST_VERDICT_BYTES), type=Verdict)
    return None


def _remember(place: Path | None, verdict: Verdict) -> None:
    """Write a verdict; what cannot be written is found anew the next time."""
    if place is not None:
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = place.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(msgspec.json.encode(verdict))
            temporary.replace(place)

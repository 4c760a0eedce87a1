"""What lies in the folders of a data set of image files, SPLIT/CLASS/*: what is read, what is not, and what is wrong.

Nothing is opened. Nothing is passed over in silence, either: each file and folder is a picture, counted among the
notes, or a problem. Free of torch and numpy.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prunectl.errors import DataError
from prunectl.ml.datasets.regular_file import kind, unreadable
from prunectl.text import plural, printable

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

BY_RULE = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})
"""What systems leave in folders, besides hidden files: no class and no picture."""

MOST_DEEPER = 10_000
"""Folders below those of classes that are looked through, to say what is not read: a link may lead to a whole disk."""

MOST_LINES = 20
"""Lines of one message; the rest is counted."""
MOST_NAMES = 5
"""Names in one line."""


@dataclass
class Findings:
    """What is to be said of a folder."""

    problems: list[str] = field(default_factory=list)
    """Why it cannot be trained on."""
    notes: list[str] = field(default_factory=list)
    """What is left out."""

    def refuse(self, place: str) -> None:
        """Raise DataError where there are problems, with all that is to be said, problems first."""
        if self.problems:
            head = f"{printable(place)}: {plural(len(self.problems), 'problem')}"
            raise DataError("\n  ".join([head, *first_of(self.problems + self.notes)]))


def first_of(lines: list[str]) -> list[str]:
    """Return at most `MOST_LINES` lines, the last of which counts those that are left out."""
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[: MOST_LINES - 1], f"… {len(lines) - MOST_LINES + 1:,} more"]


@dataclass
class Split:
    """The pictures of one split, by class, and what else lies there."""

    name: str
    pictures: dict[str, list[str]] = field(default_factory=dict)
    """File names, sorted, of each class that has a folder."""


@dataclass
class _Examples:
    """How many there are of something, and where one is."""

    count: int = 0
    first: str = ""

    def add(self, place: str) -> None:
        if not self.count:
            self.first = place
        self.count += 1


class Scanner:
    """Looks through the splits of one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings = Findings()
        self._skipped, self._loose, self._deeper = _Examples(), _Examples(), _Examples()
        self._unread: dict[str, _Examples] = {}

    def split(self, name: str) -> Split:
        """List a split. What is wrong is added to the findings."""
        found = Split(name)
        folders = []
        entries = self._entries(name)
        for entry in entries or ():
            place = f"{name}/{entry.name}"
            match self._kind(entry, place):
                case "folder":
                    folders.append(entry.name)
                case "file" if _suffix(entry.name) in SUFFIXES:
                    self._loose.add(place)
                case "file":
                    self._is_unread(place)
        for folder in folders:
            found.pictures[folder] = self._class(name, folder)
        if entries is not None and not folders:
            self.problem(f"{name}/ has no folders of classes")
        return found

    def finish(self) -> Findings:
        """Add what was counted to the notes, and return all findings."""
        if self._skipped.count:
            self.note(
                f"{self._skipped.count:,} skipped by rule (hidden, Thumbs.db, __MACOSX and the like), "
                f"as {printable(self._skipped.first)}"
            )
        for suffix, examples in sorted(self._unread.items()):
            number = plural(examples.count, "file")
            what = _with_suffix(suffix)
            self.note(f"{number} {what} not read, as {printable(examples.first)}")
        for where, examples in (
            ("deeper than CLASS/", self._deeper),
            ("outside of the folders of classes", self._loose),
        ):
            if examples.count:
                verb = "lies" if examples.count == 1 else "lie"
                self.note(
                    f"{plural(examples.count, 'picture')} {verb} {where}: not read, "
                    f"as {printable(examples.first)}"
                )
        return self.findings

    def note(self, text: str) -> None:
        """Add what is left out."""
        self.findings.notes.append(text)

    def problem(self, text: str) -> None:
        """Add what is wrong."""
        self.findings.problems.append(text)

    def _class(self, split: str, name: str) -> list[str]:
        """Return the names of a class's pictures, sorted."""
        folder = f"{split}/{name}"
        pictures: list[str] = []
        others: list[str] = []
        folders: list[str] = []
        entries = self._entries(folder)
        for entry in entries or ():
            match self._kind(entry, f"{folder}/{entry.name}"):
                case "folder":
                    folders.append(f"{folder}/{entry.name}")
                case "file" if _suffix(entry.name) in SUFFIXES:
                    pictures.append(entry.name)
                case "file":
                    others.append(f"{folder}/{entry.name}")
        deeper = list(self._pictures_below(folders))
        if pictures:
            for place in others:
                self._is_unread(place)
            for place in deeper:
                self._deeper.add(place)
        elif entries is not None:
            why = _why_without(others, deeper)
            self.problem(f"class {printable(name)} has no pictures in {split} ({why})")
        return pictures

    def _pictures_below(self, folders: list[str]) -> Iterator[str]:
        """Yield the pictures in folders and theirs; each folder once, whatever links to it."""
        waiting, seen = list(reversed(folders)), set()
        while waiting:
            folder = waiting.pop()
            try:
                about = (self.root / folder).stat()
            except OSError:
                continue
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            if len(seen) > MOST_DEEPER:
                self.problem(f"{printable(folder)}: more than {MOST_DEEPER:,} folders lie in it")
                return
            for entry in self._entries(folder) or ():
                place = f"{folder}/{entry.name}"
                kind = self._kind(entry, place)
                if kind == "folder":
                    waiting.append(place)
                elif kind == "file" and _suffix(entry.name) in SUFFIXES:
                    yield place

    def _entries(self, folder: str) -> list[os.DirEntry[str]] | None:
        """Return what is in a folder and not skipped by rule, sorted by name; None, and a problem, where it cannot be
        read."""
        try:
            with os.scandir(self.root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.problem(f"{printable(folder)}: {error.strerror}")
            return None
        kept = []
        for entry in found:
            if _is_skipped(entry.name):
                self._skipped.add(f"{folder}/{entry.name}")
            else:
                kept.append(entry)
        return kept

    def _kind(self, entry: os.DirEntry[str], place: str) -> str:
        """Return ``file``, ``folder``, or ``problem`` for what is neither, which is added to the findings."""
        what = _kind(entry)
        if what in ("file", "folder"):
            return what
        self.problem(f"{printable(place)} is {what}")
        return "problem"

    def _is_unread(self, place: str) -> None:
        self._unread.setdefault(_suffix(place), _Examples()).add(place)


def visible(folder: Path) -> list[str]:
    """Return the names of folders that are not skipped by rule, sorted; none where there is no folder.

    Raises DataError where it cannot be read, or is something else.
    """
    what = kind(folder)
    if what not in (None, "folder"):
        raise DataError(
            f"{printable(folder)} is {what if what != 'file' else 'a file, not a folder'}"
        )
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if _kind(entry) == "folder"]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{printable(folder)}: {error.strerror}") from error
    return sorted(name for name in found if not _is_skipped(name))


def some_of(of: list[str]) -> str:
    """Return the first of some names in words."""
    shown = ", ".join(map(printable, of[:MOST_NAMES]))
    return shown if len(of) <= MOST_NAMES else f"{shown}, … {len(of) - MOST_NAMES:,} more"


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.casefold() in BY_RULE


def _kind(entry: os.DirEntry[str]) -> str:
    """Return ``file``, ``folder`` (links followed), or in words what is neither."""
    try:
        if entry.is_dir():
            return "a link back to a folder that it is in" if _leads_back(entry) else "folder"
        if entry.is_file():
            return "file"
    except OSError as error:
        return unreadable(error)
    return kind(entry.path) or "gone since it was listed"


def _leads_back(entry: os.DirEntry[str]) -> bool:
    """Whether a folder is a link to one that it lies in."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    above = os.path.realpath(os.path.dirname(entry.path))
    return f"{above}/".startswith(f"{target.rstrip('/')}/")


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _with_suffix(suffix: str) -> str:
    return f"with the suffix {printable(suffix)}" if suffix else "without a suffix"


def _why_without(others: list[str], deeper: list[str]) -> str:
    """Say what a folder without pictures holds."""
    said = []
    for suffix, count in Counter(map(_suffix, others)).most_common(3):
        verb = "is" if count == 1 else "are"
        said.append(f"{plural(count, 'file')} {_with_suffix(suffix)} {verb} not read")
    if deeper:
        verb = "lies" if len(deeper) == 1 else "lie"
        said.append(
            f"{plural(len(deeper), 'picture')} {verb} deeper than CLASS/, as {printable(deeper[0])}"
        )
    return "; ".join(said) or "nothing to be read in it"

"""The data sets that plans can name, and what a plan needs to know of each without reading it. Free of torch.

A data set is a table in registry.toml and a module with

    read(find: Finder, options: Mapping[str, OptionValue]) -> Arrays | ImageFolder

(images, or where their files are) and, where shape and counts depend on the options,

    describe(options, progress) -> Description

and, where files are of the user's own, a look at them before anything is queued

    inspect(what `read` returned, fingerprint, progress) -> list[str]       what is to be told of them

What `read` returns has digests of what was read, of files that were published once they are those (`published.check`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import tomli

from prunectl.errors import DataError, MissingData, UnknownName, shown
from prunectl.ml.datasets.content import reading_all
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.known_folders import load_options, save_options
from prunectl.ml.resolve import lookup, resolve
from prunectl.spec.settings import Shape
from prunectl.spec.task import DEFAULT_TASK

OptionValue = str | int | float | tuple[float, ...]
Options = Mapping[str, OptionValue] | Iterable[tuple[str, OptionValue]]


@dataclass(frozen=True)
class Description:
    """What a plan needs to know of a data set."""

    shape: Shape
    """Channels, height, width."""
    classes: int
    """Outputs of a network; classes where the task is to tell those apart."""
    train: int
    """Images to train on, before any are held out for validation."""
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the training pixels scaled to [0, 1], one per channel."""
    fingerprint: str
    """Identifies the content."""
    task: str = DEFAULT_TASK
    """A name `ml.tasks.registry` knows: what its targets are for."""
    notes: tuple[str, ...] = ()
    """What lies among the files and is left out, a line each."""


@dataclass(frozen=True)
class DatasetEntry:
    """One name of the registry."""

    name: str
    module: str
    """Module of `prunectl.ml.datasets` that reads it."""
    description: Description | None = None
    """None where it depends on the options."""
    defaults: Mapping[str, OptionValue] = field(default_factory=dict)
    """Options that say what the images are, with their defaults."""
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The least and the most that options may be which are numbers."""
    local: Mapping[str, OptionValue] = field(default_factory=dict)
    """Options that say where the files lie and how they are handled: they decide no number, and are part of no
    stage. Data sets of image files have them."""
    files: Mapping[str, str] = field(default_factory=dict)
    """MD5 of what each of its published files holds, by name; empty where it has none."""
    external: bool = True
    """Its files are not part of the package; False also where it is generated."""

    def implementation(self) -> ModuleType:
        """Import the module that reads it."""
        module: ModuleType = resolve(f"prunectl.ml.datasets.{self.module}")
        return module


def _read_entries() -> dict[str, DatasetEntry]:
    tables = tomli.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    entries = {}
    for name, table in tables.items():
        about = table.pop("description", None)
        if about is not None:
            table["description"] = Description(**_frozen(about))
        table["defaults"] = _frozen(table.get("defaults", {}))
        entries[name] = DatasetEntry(name, **table)
    return entries


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a table, its lists as tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}


_ENTRIES = _read_entries()


def names() -> list[str]:
    """Return the names a plan may use."""
    return list(_ENTRIES)


def find(name: str) -> DatasetEntry:
    """Return the entry of a name. Raises UnknownName."""
    return lookup("dataset", name, _ENTRIES)


def complete(name: str, options: Options = ()) -> dict[str, OptionValue]:
    """Fill in the defaults of options, local ones too.

    Raises UnknownName for an option the data set does not have, DataError for a value of the wrong kind or out of its
    range.
    """
    entry = find(name)
    out = {**entry.defaults, **entry.local}
    for option, value in dict(options).items():
        if option not in out:
            raise UnknownName(f"option of dataset {name}", option, out)
        out[option] = _checked(entry, option, value, out[option])
    return out


def _checked(entry: DatasetEntry, option: str, value: object, default: OptionValue) -> OptionValue:
    """Return an option's value in its type. Raises DataError where it is of another, or out of range."""
    about = f"dataset {entry.name}: option {option} is {shown(repr(value))}"
    if isinstance(default, tuple):
        numbers = value if isinstance(value, list | tuple) else [None]
        if not all(type(number) in (int, float) for number in numbers):
            raise DataError(f"{about}, not a list of numbers")
        try:
            return tuple(map(float, numbers))
        except OverflowError:  # a whole number beyond all floats
            raise DataError(f"{about}, beyond {sys.float_info.max:g}") from None
    if type(value) is not type(default):
        raise DataError(f"{about}, not of type {type(default).__name__}")
    if option in entry.ranges and isinstance(value, int | float):
        least, most = entry.ranges[option]
        if not least <= value <= most:
            raise DataError(f"{about}, not {least} to {most}")
    return value


def whole(options: Mapping[str, OptionValue], option: str) -> int:
    """Return an option that is a whole number."""
    value = options[option]
    assert isinstance(value, int)
    return value


def split_options(
    name: str, options: Mapping[str, OptionValue]
) -> tuple[dict[str, OptionValue], dict[str, OptionValue]]:
    """Split options into those that say what the images are, and the local ones."""
    local = find(name).local
    what = {option: value for option, value in options.items() if option not in local}
    return what, {option: value for option, value in options.items() if option in local}


def ensure(
    name: str,
    root: Path,
    options: Options = (),
    fingerprint: str = "",
    progress: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Check that a data set's files are there and are what they should be, downloading them where they are missing.

    Local options are saved under the root, where `load` finds them by the data's fingerprint. Free of torch but for
    a download. Returns digests of what the files hold, by name; none where the fingerprint is of all content, or there
    are no files. Raises DataError, naming what is missing or wrong.
    """
    entry = find(name)
    if not entry.external:
        return {}
    complete_options = complete(name, options)
    found = entry.implementation().read(Finder(name, root, progress=progress), complete_options)
    if entry.local:
        if entry.description is not None:
            found.check(name, entry.description)
        notes = [*found.notes]
        inspect = getattr(entry.implementation(), "inspect", None)
        if inspect is not None:
            notes += inspect(found, fingerprint, progress)
        if progress is not None:
            for note in notes:
                progress(f"note: {found.train.root}: {note}")
        save_options(root, fingerprint, split_options(name, complete_options)[1])
    return dict(found.digests)


def read_again(
    name: str,
    root: Path,
    options: Options,
    fingerprint: str,
    progress: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Read all of a data set's files, whatever is remembered of them, and check that they are what they should be.

    Returns as `ensure`. Raises MissingData where they are not here, DataError where they are others.
    """
    entry = find(name)
    if not entry.external:
        return {}
    known = load_options(root, fingerprint) if entry.local else {}
    place = known.get("path") or ("" if entry.description is None else root)
    if "path" in entry.local and not place:
        raise MissingData(f"{name}: where {fingerprint} lies is not known under {root}")
    if "path" in entry.local and not Path(str(place)).is_dir():
        raise MissingData(f"{name}: {place} is not there")
    complete_options = complete(name, known | dict(options))
    with reading_all():
        found = describe(name, complete_options, progress).fingerprint
        if found != fingerprint:
            raise DataError(f"{name}: {place} now has the fingerprint {found}, not {fingerprint}")
        finder = Finder(name, root, download=False, progress=progress)
        content = entry.implementation().read(finder, complete_options)
    if entry.local and entry.description is not None:
        content.check(name, entry.description)
    return dict(content.digests)


def describe(
    name: str, options: Options = (), progress: Callable[[str], None] | None = None
) -> Description:
    """Return shape, classes, counts, pixel statistics and fingerprint of a data set.

    Reads nothing but for ``folder``, whose files are listed and hashed. Raises as `complete` does.
    """
    entry = find(name)
    complete_options = complete(name, options)
    if entry.description is not None:
        return entry.description
    return entry.implementation().describe(complete_options, progress)  # type: ignore[no-any-return]

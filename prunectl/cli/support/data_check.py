"""Whether data sets are there and hold what they should: before a run, and again of what networks were trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prunectl.cli.support.terminal import narrate
from prunectl.errors import DataError, MissingData, UnknownName
from prunectl.spec.settings import DataSettings
from prunectl.store.paths import StorePaths
from prunectl.store.records.dataset import DatasetRecord, check_dataset, dataset_record

if TYPE_CHECKING:  # the registry takes some milliseconds to import
    from prunectl.ml.datasets.registry import OptionValue


def check_data(
    paths: StorePaths,
    needed: set[DataSettings],
    places: Mapping[DataSettings, dict[str, OptionValue]],
    data: Path | None,
) -> list[DatasetRecord]:
    """Find the files of every data set before anything is queued, and fetch those that are missing.

    `places` are the options that say where files lie, of data sets that have some.
    Returns what they hold. Raises DataError for files that cannot be had, or that are not what they should be.
    """
    from prunectl.ml.datasets.files import data_root
    from prunectl.ml.datasets.registry import ensure

    root = data_root(data)
    # Variants that hold out other images have the same files.
    distinct = {
        (item.name, item.options, item.fingerprint): dict(item.options) | places.get(item, {})
        for item in needed
    }
    found = []
    for (name, _, fingerprint), options in sorted(distinct.items()):
        digests = ensure(name, root, options, fingerprint, progress=narrate)
        if digests:
            record = dataset_record(name, fingerprint, digests)
            damage = check_dataset(paths, record)
            if damage:
                narrate(f"note: {damage}; it is made anew")
            found.append(record)
    return found


def find_places(
    needed: Iterable[DataSettings], data: Path | None, folders: Sequence[Path]
) -> dict[DataSettings, dict[str, OptionValue]]:
    """Return where data sets lie whose place only a plan says: in one of the folders, or without any where it was
    written down when a plan of theirs was last run here.

    Raises MissingData where one is in neither, DataError for a folder that cannot be read.
    """
    from prunectl.ml.datasets.files import data_root
    from prunectl.ml.datasets.known_folders import load_options
    from prunectl.ml.datasets.registry import find

    found: dict[DataSettings, dict[str, OptionValue]] = {}
    for each in needed:
        entry = find(each.name)
        if entry.local:
            found[each] = load_options(data_root(data), each.fingerprint)
        if entry.local and entry.description is None and (folders or not found[each].get("path")):
            found[each] = {"path": str(_folder_of(each, folders))}
    return found


def _folder_of(wanted: DataSettings, folders: Sequence[Path]) -> Path:
    """Return the folder whose images have the fingerprint. Raises MissingData where none has."""
    from prunectl.ml.datasets.registry import describe

    others = []
    for folder in folders:
        options = dict(wanted.options) | {"path": str(folder.absolute())}
        found = describe(wanted.name, options, narrate).fingerprint
        if found == wanted.fingerprint:
            return folder.absolute()
        others.append(f"{folder} has {found}")
    raise MissingData(
        f"{wanted.name}: images with the fingerprint {wanted.fingerprint} are needed, "
        f"{' and '.join(others) or 'and where they lie is not known'}: --images FOLDER names their place"
    )


@dataclass
class DataVerdict:
    """What became of the data sets."""

    same: list[str] = field(default_factory=list)
    """Those that hold what they held, with the files of each."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Those whose files are not here, or that this version cannot check."""


def check_again(paths: StorePaths, data: Iterable[DataSettings], root: Path) -> DataVerdict:
    """Read the files of all data sets, whatever is remembered of them, and compare them with what they should hold."""
    from prunectl.ml.datasets.listing import has_older_key
    from prunectl.ml.datasets.registry import find, read_again

    found = DataVerdict()
    known = set(data)
    older = {each.fingerprint for each in known if has_older_key(each)}
    found.notes += [f"folder: {each} is a fingerprint of an older kind" for each in sorted(older)]
    distinct = {
        (each.name, each.options, each.fingerprint) for each in known if not has_older_key(each)
    }
    for name, options, fingerprint in sorted(distinct):
        try:
            if not find(name).external:
                continue
            digests = read_again(name, root, options, fingerprint, narrate)
            if digests:
                check_dataset(paths, dataset_record(name, fingerprint, digests))
            files = f", {len(digests)} files" if len(digests) > 1 else ""
            found.same.append(f"{name} ({fingerprint}{files})")
        except (MissingData, UnknownName) as error:
            found.notes.append(str(error))
        except DataError as error:
            found.problems.append(str(error))
    return found

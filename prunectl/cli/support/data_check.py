"""Reading again what a store's networks were trained on: are the files still what they were?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from prunectl.cli.support.terminal import narrate
from prunectl.errors import DataError, MissingData
from prunectl.spec.settings import DataSettings
from prunectl.store.paths import StorePaths
from prunectl.store.records.dataset import check_dataset, dataset_record


@dataclass
class DataVerdict:
    """What became of the data sets."""

    same: list[str] = field(default_factory=list)
    """Those that hold what they held, with the files of each."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Those whose files are not here."""


def check_again(paths: StorePaths, data: Iterable[DataSettings], root: Path) -> DataVerdict:
    """Read the files of all data sets, whatever is remembered of them, and compare them with what they should hold."""
    from prunectl.ml.datasets.registry import find, read_again

    found = DataVerdict()
    distinct = {(each.name, each.options, each.fingerprint) for each in data}
    for name, options, fingerprint in sorted(distinct):
        if not find(name).external:
            continue
        try:
            digests = read_again(name, root, options, fingerprint, narrate)
            if digests:
                check_dataset(paths, dataset_record(name, fingerprint, digests))
            files = f", {len(digests)} files" if len(digests) > 1 else ""
            found.same.append(f"{name} ({fingerprint}{files})")
        except MissingData as error:
            found.notes.append(str(error))
        except DataError as error:
            found.problems.append(str(error))
    return found

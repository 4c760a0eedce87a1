"""Records of data sets (`datasets/<fingerprint>.json`): what the files held that stages of this store were trained on.

A stage's key has a data set's fingerprint; this says which files stood for it, so that the same name never means other
images in one store.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.errors import DataError, StoreError
from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import BadRecord, Time, read_record, write_record
from prunectl.version import __version__


class DatasetRecord(msgspec.Struct, kw_only=True):
    """The files of a data set, as they were when this store first used them."""

    name: Annotated[str, Meta(description="name of the data set, such as cifar10")]
    fingerprint: Annotated[
        str, Meta(description="what stands for its content in the keys of stages")
    ]
    digests: Annotated[
        dict[str, str],
        Meta(
            description="digest of each file's content by its name: MD5, 32 hex digits, of IDX files unpacked "
            "and of other files as they are; of imagenet one of all names and sizes"
        ),
    ] = {}
    first: Annotated[Time, Meta(description="when they were first used, Unix seconds")] = None
    prunectl: Annotated[str | None, Meta(description="version of prunectl then")] = None


def dataset_record(name: str, fingerprint: str, digests: dict[str, str]) -> DatasetRecord:
    """Make the record of files that are used now."""
    return DatasetRecord(
        name=name,
        fingerprint=fingerprint,
        digests=digests,
        first=time.time(),
        prunectl=__version__,
    )


def read_dataset(path: Path) -> DatasetRecord:
    """Read a file of datasets/. Raises FileNotFoundError as is, BadRecord where it is not what its name says."""
    record = read_record(path, DatasetRecord)
    if record.fingerprint != path.stem:
        raise BadRecord(f"{path} is of the data set {record.fingerprint}")
    return record


def check_dataset(paths: StorePaths, found: DatasetRecord) -> str:
    """Compare files with those that this store used before under the same fingerprint.

    Returns what is wrong with a record that is damaged, which keeps nothing from being used; else "". Raises DataError
    where files hold something else, StoreError where the record cannot be read.
    """
    try:
        known = read_dataset(paths.dataset(found.fingerprint))
    except FileNotFoundError:
        return ""
    except BadRecord as error:
        return str(error)
    changed = [
        f"{file}: {found.digests.get(file, 'not there')}, not {known.digests.get(file, 'there')}"
        for file in sorted(known.digests.keys() | found.digests.keys())
        if known.digests.get(file) != found.digests.get(file)
    ]
    if changed:
        raise DataError(
            "\n  ".join(
                [
                    f"{found.name}: its files hold something else than those that {paths.root} has results of:",
                    *changed,
                    "Put the former files back, or take another --store",
                ]
            )
        )
    return ""


def unreadable(paths: StorePaths) -> list[str]:
    """Return a sentence for each record that is none, or cannot be read."""
    found = []
    for path in files.disk.glob(paths.datasets, "*.json"):
        try:
            read_dataset(path)
        except FileNotFoundError:
            continue
        except StoreError as error:
            found.append(str(error))
    return found


def write_datasets(paths: StorePaths, found: list[DatasetRecord]) -> None:
    """Write the records of data sets that this store had not used, and of those whose record is damaged.

    Damaged ones are set aside. Raises StoreError where one cannot be written.
    """
    for record in found:
        path = paths.dataset(record.fingerprint)
        try:
            read_dataset(path)
            continue
        except FileNotFoundError:
            pass
        except BadRecord:
            files.set_aside(path)
        write_record(path, record)

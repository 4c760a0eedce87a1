"""Records of labels (`labels/<fingerprint>-<digest>.json`): the true class of each test item, in its order.

With them and a stage's predictions everything that is counted over test items can be counted again, without the files
of the data set. The digest is of all that decides which the test items are: the data set with its options, and how many
are held out for validation. Whoever first trains on the data writes the record.
"""

from __future__ import annotations

import hashlib
import sys
import time
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.errors import DataError
from prunectl.spec.key import to_json
from prunectl.spec.ranges import MOST_ITEMS, ClassNumber
from prunectl.spec.settings import DataSettings
from prunectl.store import files
from prunectl.store.locks import Lock, process_name
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import BadRecord, Time, read_record, write_record
from prunectl.version import __version__

PATIENCE = 30.0
"""Seconds to wait for another process that writes a record."""


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """The labels of a test set, as they were when this store first used it."""

    data: Annotated[
        DataSettings,
        Meta(
            description="what decides which the test items are; a validation split only if taken from them"
        ),
    ]
    labels: Annotated[
        tuple[ClassNumber, ...],
        Meta(
            max_length=MOST_ITEMS,
            description="number of the class, from 0, of each test item, in the order of evaluation",
        ),
    ]
    first: Annotated[Time, Meta(description="when they were first used, Unix seconds")] = None
    prunectl: Annotated[str | None, Meta(description="version of prunectl then")] = None

    @property
    def test_set(self) -> str:
        """What names the test set in results: the sha256 of the data's JSON and of the labels, two bytes each."""
        labels = array("H", self.labels)
        if sys.byteorder == "big":
            labels.byteswap()
        return hashlib.sha256(to_json(self.data).encode() + b"\n" + labels.tobytes()).hexdigest()


def labels_record(data: DataSettings, labels: Iterable[int]) -> Labels:
    """Make the record of the labels of some data's test items, that are used now."""
    return Labels(
        data=data.test_items, labels=tuple(labels), first=time.time(), prunectl=__version__
    )


def read_labels(path: Path) -> Labels:
    """Read a file of labels/. Raises FileNotFoundError as is, BadRecord where it is not what its name says."""
    record = read_record(path, Labels)
    if (
        StorePaths(path.parent.parent).labels_of(record.data) != path
        or record.data.test_items != record.data
    ):
        raise BadRecord(f"{path} is of other test items, of {record.data.name}")
    return record


def check_labels(paths: StorePaths, found: Labels) -> bool:
    """Compare labels with those that this store has. Returns whether it has any that can be trusted.

    Raises DataError where it has others, StoreError where their record cannot be read.
    """
    place = paths.labels_of(found.data)
    try:
        known = read_labels(place)
    except (FileNotFoundError, BadRecord):
        return False
    if known.test_set != found.test_set:
        others = sum(one != other for one, other in zip(known.labels, found.labels, strict=False))
        raise DataError(
            f"{found.data.name}: its test items have other labels than those that {paths.root} has results of: "
            f"{len(found.labels)} items, not {len(known.labels)}, {others} of other classes, in {place}.\n"
            "  Put the former data back, or take another --store"
        )
    return True


def keep_labels(paths: StorePaths, found: Labels) -> None:
    """Write the record of a test set that this store had not used, or whose record is damaged and set aside.

    Raises as `check_labels`, and StoreError where it cannot be written.
    """
    if check_labels(paths, found):
        return
    lock = Lock(paths.labels_lock)
    lock.acquire(process_name(), patience=PATIENCE)
    with lock:
        if check_labels(paths, found):  # by another worker, just now
            return
        place = paths.labels_of(found.data)
        if files.disk.exists(place):
            files.set_aside(place)
        write_record(place, found)

"""How a stage of a bundle was replicated, `replications/<id>.json` (in SQL the table `replications`); and which bundle
a store replicates, `replica.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from prunectl.errors import StoreError
from prunectl.spec.ranges import Amount, Count, Seed, Small
from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import (
    BadRecord,
    Finite,
    Key,
    Metrics,
    Time,
    read_record,
    write_record,
)
from prunectl.store.records.result import Versions

VerdictName = Literal["identical", "within", "incomparable", "different"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage came to, on one machine."""

    score: Annotated[
        Finite, Meta(description="what its task ranks by, on the test set after the last step")
    ] = None
    loss: Annotated[Finite, Meta(description="loss on the test set after the last step")] = None
    metrics: Annotated[
        Metrics, Meta(description="all that the task measured, by name, as in the stage's result")
    ] = {}
    flag: Annotated[
        str | None, Meta(description="diverged or collapsed, as in the stage's result; else null")
    ] = None
    kept: Annotated[Count | None, Meta(description="prunable weights that its mask keeps")] = None
    prunable: Annotated[Count | None, Meta(description="prunable weights of the dense network")] = (
        None
    )
    weights: Annotated[
        str | None,
        Meta(description="sha256 of its final tensors, computed from them; null without the file"),
    ] = None
    device_name: Annotated[str | None, Meta(description="the device's model")] = None
    versions: Versions = {}
    ended: Annotated[Time, Meta(description="when it was done, Unix seconds")] = None


class Replication(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of a bundle that was run again on some machine, and how what came out compares."""

    bundle: Annotated[str, Meta(description="digest of the bundle, 64 hex digits")]
    plan: Annotated[str, Meta(description="digest of the version of the plan in the bundle")]
    name: Annotated[str, Meta(description="name of the plan in the bundle")] = ""
    key: Key
    verdict: Annotated[
        VerdictName,
        Meta(
            description="identical: the same final weights and the same results; within: the scores differ by at most "
            "the tolerance; different: they differ by more, or the same weights have other results; incomparable: not "
            "identical, and the cell has too few seeds to say more"
        ),
    ]
    reason: Annotated[str, Meta(description="why, in words")] = ""
    there: Annotated[Outcome, Meta(description="what the bundle says")]
    here: Annotated[Outcome, Meta(description="what came out")]
    tolerance: Annotated[
        Amount | None,
        Meta(
            description="how far the scores may be apart: 3 × the sample standard deviation over the seeds of the "
            "stage's cell in the bundle, computed with the score there and with the score here in its place, of which "
            "the smaller one counts; in the metric's unit; null below n = 2"
        ),
    ] = None
    n: Annotated[Small, Meta(description="seeds that the tolerance is computed from")] = 0
    from_parents: Annotated[
        bool,
        Meta(
            description="whether it started from the bundle's stages; else all was run from scratch"
        ),
    ] = False
    host: Annotated[str, Meta(description="name of the machine that ran it")] = ""
    device: Annotated[str | None, Meta(description="id of the device that it ran on")] = None
    time: Annotated[Time, Meta(description="when it was done there, Unix seconds")] = None

    @property
    def id(self) -> str:
        """The record's name, 32 hex digits: the same whenever the same run is compared with the same bundle."""
        parts = (self.bundle, self.key, self.host, str(self.from_parents), repr(self.time))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is for that `replicate` made: it holds nothing else."""

    bundle: Annotated[str, Meta(description="digest of the bundle, 64 hex digits")]
    seed: Annotated[Seed, Meta(description="seed of the last choice of stages")]
    parents: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="keys of the stages that start from the bundle's; null where all stages are run from scratch"
        ),
    ] = None


def replica_of(paths: StorePaths) -> Replica | None:
    """Return what the store replicates; None where it is no such store."""
    try:
        return read_record(paths.replica, Replica)
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_replication(path: Path) -> Replication:
    """Read a file of replications/. Raises FileNotFoundError as is, BadRecord where it is not what its name says."""
    record = read_record(path, Replication)
    if record.id != path.stem:
        raise BadRecord(f"{path} is of the replication {record.id}")
    return record


def read_replications(paths: StorePaths) -> Iterator[tuple[Path, Replication]]:
    """Yield the records that can be read, with their files; `store.db` leaves out and names the others."""
    for path in files.disk.glob(paths.replications, "*.json"):
        try:
            yield path, read_replication(path)
        except (FileNotFoundError, StoreError):
            continue


def write_replications(paths: StorePaths, found: Sequence[Replication]) -> None:
    """Write records into a store. Raises StoreError where one cannot be written."""
    for each in found:
        write_record(paths.replication(each.id), each)

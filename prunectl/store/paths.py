"""Every file name of a store is built here and nowhere else."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunectl.errors import StoreError
from prunectl.spec.key import to_json
from prunectl.spec.settings import DataSettings
from prunectl.store import files

RESULT, EVENTS, LOCK = "result.json", "events.jsonl", "lock"
"""Files of a stage, which its state is computed from."""


class _Named:
    """An attribute that is a path: a name under the object's own folder.

    An object keeps it once it is made: joining paths takes 7 % of reading a store into the database.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __set_name__(self, _: type, attribute: str) -> None:
        self._attribute = attribute

    def __get__(self, owner: Any, _: type) -> Path:
        folder: Path = owner.folder
        path = folder / self._name
        vars(owner)[self._attribute] = path
        return path


@dataclass(frozen=True)
class StagePaths:
    """The files of one stage. `result` is written last: where it is sound, the stage is done."""

    folder: Path

    spec = _Named("spec.json")
    events = _Named(EVENTS)
    result = _Named(RESULT)
    mask = _Named("mask.safetensors")
    final = _Named("final.safetensors")
    latest = _Named("latest.safetensors")
    """The newest checkpoint inside the stage, for resuming; replaced as training goes on."""
    predictions = _Named("predictions.safetensors")
    """The class that the network at the end predicts for each test item."""
    lock = _Named(LOCK)

    @property
    def key(self) -> str:
        """The stage's key, which names its folder."""
        return self.folder.name

    def rewind(self, step: int) -> Path:
        """Return the file of the training state before optimizer step number `step`."""
        return self.folder / f"rewind-{step}.safetensors"

    def rewind_steps(self) -> list[int]:
        """List the steps of the rewind checkpoints that exist, ascending."""
        names = [path.stem for path in files.disk.glob(self.folder, "rewind-*.safetensors")]
        steps = (name.removeprefix("rewind-") for name in names)
        return sorted(int(step) for step in steps if re.fullmatch("[0-9]{1,16}", step))

    def remove_tensors(self) -> None:
        """Remove checkpoints, final weights, mask and predictions: those of one attempt must not stay beside the log of
        another."""
        for path in files.disk.glob(self.folder, "*.safetensors"):
            files.disk.unlink(path, missing_ok=True)


@dataclass(frozen=True)
class StorePaths:
    """The files of a store."""

    root: Path

    database = _Named("results.duckdb")
    database_lock = _Named("control/database.lock")
    """Held by whoever writes the database; DuckDB's own lock vanishes when the file is replaced."""
    stages = _Named("stages")
    plans = _Named("plans")
    runs = _Named("runs")
    datasets = _Named("datasets")
    labels = _Named("labels")
    labels_lock = _Named("control/labels.lock")
    """Held by whoever writes a record of labels."""
    format = _Named("format.json")
    """Which records have no checksum."""
    replications = _Named("replications")
    replica = _Named("replica.json")
    """Which bundle it replicates, where it was made for that."""
    scheduler_log = _Named("scheduler.jsonl")
    """Journal of what the scheduler did: requests carried out, retries, failures, devices."""
    control = _Named("control")
    scheduler_lock = _Named("control/lock")
    heartbeat = _Named("control/heartbeat.json")
    """What the scheduler is doing now, replaced every second."""
    requests = _Named("control/requests")
    """One file per request; the scheduler removes it when it has carried it out and logged it."""
    logs = _Named("logs")
    queries = _Named("recipes")
    """The user's own SQL queries, beside those in the package."""

    @classmethod
    def locate(cls, option: Path | None = None) -> StorePaths:
        """Return the store of the option `--store`, else of PRUNECTL_STORE, else ./store.

        Raises StoreError for a path that is not UTF-8: DuckDB cannot open it, and safetensors calls its files corrupt.
        """
        chosen = option or Path(os.environ.get("PRUNECTL_STORE") or "store")
        root = chosen.expanduser().absolute()
        try:
            str(root).encode()
        except UnicodeEncodeError as error:
            raise StoreError(
                f"the store's path {str(root)!r} is not UTF-8: give another"
            ) from error
        return cls(root)

    def is_store(self) -> bool:
        """Return whether the folder is a store, or an empty one: whether a plan has been run in it or could be next."""
        if not files.disk.is_folder(self.root):
            return False
        own = (self.stages, self.plans, self.runs, self.datasets, self.control, self.database)
        return any(map(files.disk.exists, own)) or not files.disk.glob(self.root)

    @property
    def folder(self) -> Path:
        """The store's folder, `root`."""
        return self.root

    def stage(self, key: str) -> StagePaths:
        """Return the files of the stage with this key."""
        return StagePaths(self.stages / key)

    def plan(self, digest: str) -> Path:
        """Return the record of this version of a plan."""
        return self.plans / f"{digest}.json"

    def dataset(self, fingerprint: str) -> Path:
        """Return the record of the data set with this fingerprint."""
        return self.datasets / f"{fingerprint}.json"

    def labels_of(self, data: DataSettings) -> Path:
        """Return the record of the labels of the test items of these data."""
        items = data.test_items
        digest = hashlib.sha256(to_json(items).encode()).hexdigest()[:12]
        return self.labels / f"{items.fingerprint}-{digest}.json"

    def run(self, run_id: str) -> Path:
        """Return the record of this start of a scheduler."""
        return self.runs / f"{run_id}.json"

    def replication(self, identifier: str) -> Path:
        """Return the record of a stage that was run again, and compared."""
        return self.replications / f"{identifier}.json"

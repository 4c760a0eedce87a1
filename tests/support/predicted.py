"""A finished study with predictions, for tests of what is made of them; import `made` and `paths`."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import load_file

from prunectl.store.archive import export_study, finish
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.labels import read_labels
from prunectl.store.records.plan import write_plans
from prunectl.store.records.result import Result
from prunectl.store.tensors import metadata_sum, read_checked, write_tensors
from prunectl.store.verify import verify
from tests.support.bundles import make_writable
from tests.support.records import rewrite
from tests.support.tiny_plans import tiny_plan
from tests.worker.conftest import Laboratory

PLAN = tiny_plan(
    seeds=[0, 1], strategies=["fine-tune", "lr-rewind"], test=90, train=128, epochs=3, iterations=1,
    milestones=(1, 2),
)  # fmt: skip
"""90 test items: not a whole number of bytes of bits."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """A finished study: two seeds, two strategies, one iteration."""
    lab = Laboratory(tmp_path_factory.mktemp("made") / "store", text=PLAN)
    write_plans(lab.paths, [lab.plan.study()])
    for key in lab.plan.stages:
        lab.run(key, keep=())
    ingest(lab.paths)
    return lab


@pytest.fixture
def paths(made: Laboratory, tmp_path: Path) -> StorePaths:
    """A copy of its store, to be spoilt."""
    return StorePaths(Path(shutil.copytree(made.paths.root, tmp_path / "store")))


def dense_and_pruned(made: Laboratory) -> tuple[str, str]:
    dense, pruned = made.path("fine-tune")
    return dense, pruned


def problems(paths: StorePaths) -> str:
    return "\n".join(verify(paths).problems)


def forge(paths: StorePaths, key: str, arrays: dict[str, Any], **changes: Any) -> None:
    """Write another file of predictions, and a result and a log that name it, all with checksums that fit."""
    stage = paths.stage(key)
    metadata = {"stage": key}
    file = stage.predictions
    write_tensors(file, arrays, metadata | {"sha256": "0" * 64})
    digest = _sha256(file)
    metadata |= {"sha256": digest}
    write_tensors(file, arrays, metadata | {"sum": metadata_sum(metadata)})
    old = read_record(stage.result, Result)
    digests = old.digests | {file.name: digest}
    write_record(stage.result, replace(old, digests=digests, **changes))
    text = stage.result.read_text()
    rewrite(stage.events, lambda line: text.strip() if '"type":"done"' in line else line)


def _sha256(file: Path) -> str:
    """What read_checked computes of a file's tensors."""
    digest = hashlib.sha256()
    for name, array in sorted(load_file(file).items()):
        digest.update(f"{name} torch.{array.dtype} {list(array.shape)};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def classes(paths: StorePaths, key: str) -> Any:
    return read_checked(paths.stage(key).predictions).arrays["predictions"]


def exported(paths: StorePaths, folder: Path) -> Path:
    """A bundle of the study that may be changed."""
    finish(folder, export_study(paths, "tiny", folder))
    return make_writable(folder)


def table(paths: StorePaths) -> dict[str, list[Any]]:
    return {
        name: query.run(paths, f"SELECT * FROM {name} ORDER BY ALL").rows
        for name in ("correctness", "labels", "leaderboard", "points")
    }


def right(paths: StorePaths, key: str) -> Any:
    """Which items a stage has right, from its files."""
    [labels] = paths.labels.iterdir()
    return classes(paths, key) == np.array(read_labels(labels).labels)

"""A worker trains a store's stages on what the store recorded, and on nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from prunectl.errors import DataError
from prunectl.ml.datasets import idx, registry
from prunectl.spec.settings import DataSettings, NetworkSettings
from prunectl.spec.stage import Stage
from prunectl.store.paths import StorePaths
from prunectl.store.records.dataset import dataset_record, write_datasets
from prunectl.worker.trainer_cache import TrainerCache
from tests.support.sharing import spec


def publish_small_mnist(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> dict[str, str]:
    """Write 60 and 10 images, and let MNIST be these. Returns the MD5 sums of the files, by name."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, shape in zip(idx.FILES, ((60, 28, 28), (60,), (10, 28, 28), (10,)), strict=True):
        sizes = b"".join(size.to_bytes(4, "big") for size in shape)
        values = random.integers(0, 10, shape).astype(np.uint8).tobytes()
        data = b"\0\0\x08" + bytes([len(shape)]) + sizes + values
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    entry = registry.find("mnist")
    assert entry.description is not None
    about = dataclasses.replace(entry.description, train=60, test=10)
    small = dataclasses.replace(entry, files=sums, description=about)
    monkeypatch.setattr(registry, "_ENTRIES", {**registry._ENTRIES, "mnist": small})
    return sums


def test_other_files_than_those_recorded_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, paths = tmp_path / "data", StorePaths(tmp_path / "store")
    about = registry.describe("mnist")
    stage: Stage = replace(
        spec("lenet-300-100", 0, 4),
        data=DataSettings("mnist", about.fingerprint),
        network=NetworkSettings("lenet-300-100", about.shape, 10),
    )

    def borrow(store: StorePaths) -> None:
        TrainerCache(data, "cpu", store=store).borrow(stage)

    first = publish_small_mnist(data / "mnist", monkeypatch, 0)
    borrow(paths)
    write_datasets(paths, [dataset_record("mnist", about.fingerprint, first)])
    borrow(paths)
    second = publish_small_mnist(data / "mnist", monkeypatch, 1)
    borrow(StorePaths(tmp_path / "other"))
    with pytest.raises(DataError) as caught:
        borrow(paths)
    for name in idx.FILES:
        assert f"{name}: {second[name]}, not {first[name]}" in str(caught.value)

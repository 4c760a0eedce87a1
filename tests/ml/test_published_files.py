"""A named data set is what it is called: files that hold something else are refused by name, before anything runs."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prunectl.cli.support.data_check import check_again
from prunectl.errors import DataError, MissingData
from prunectl.ml.datasets import content, idx, published, registry
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.registry import ensure, find, read_again
from prunectl.spec.settings import DataSettings
from prunectl.store.gc import removable
from prunectl.store.paths import StorePaths
from prunectl.store.records.dataset import check_dataset, dataset_record, write_datasets
from prunectl.store.verify import verify
from tests.support.command import Done, here
from tests.support.tiny_plans import TINY

__all__ = ["here"]


def idx_bytes(array: np.ndarray) -> bytes:
    shape = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes()


def made_up(seed: int) -> dict[str, bytes]:
    """The content of four files in MNIST's format, by name; fewer images than MNIST has."""
    random = np.random.default_rng(seed)
    out = {}
    for split, count in (("train", 60), ("t10k", 10)):
        labels = random.integers(0, 10, count).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        images[np.arange(count), labels] = 200
        out[f"{split}-images-idx3-ubyte"] = idx_bytes(images)
        out[f"{split}-labels-idx1-ubyte"] = idx_bytes(labels)
    return out


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return made_up(0)


def write(folder: Path, files: dict[str, bytes], *, packed: int | None = None) -> None:
    """Write the files, gzipped at the level `packed` where it is given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if packed is None:
            (folder / name).write_bytes(data)
        else:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, packed))


def offline(name: str, root: Path) -> Finder:
    return Finder(name, root, download=False)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, bytes]], None]:
    """Lets these files be the published ones of a data set: the real ones of MNIST are not here."""

    def change(name: str, files: dict[str, bytes]) -> None:
        sums = {file: md5(data) for file, data in files.items()}
        entries = registry._ENTRIES
        monkeypatch.setattr(
            registry, "_ENTRIES", entries | {name: replace(entries[name], files=sums)}
        )

    return change


def test_other_files_in_a_named_sets_place_are_refused_by_the_command(
    here: Callable[..., Done], tmp_path: Path, files: dict[str, bytes]
) -> None:
    write(tmp_path / "data/mnist", files, packed=1)
    plan = tmp_path / "plan.toml"
    plan.write_text(TINY.replace('["toy"]', '["mnist"]'))
    store = tmp_path / "store"
    done = here("run", plan, "--store", store, "--data", tmp_path / "data", "--plain")
    assert done.returncode == 2
    assert "mnist: 4 of 4 files are not the published ones" in done.stderr
    for name, data in files.items():
        path = tmp_path / "data/mnist" / f"{name}.gz"
        assert f"{path}: MD5 {md5(data)}, not {find('mnist').files[name]}" in done.stderr
    assert 'kind = "folder"' in done.stderr
    assert not store.exists()


def test_files_of_two_sets_are_told_apart_and_named_with_whose_they_are(
    tmp_path: Path, files: dict[str, bytes], publish: Callable[[str, dict[str, bytes]], None]
) -> None:
    other = made_up(1)
    publish("mnist", files)
    publish("fashion-mnist", other)
    mixed = files | {"train-labels-idx1-ubyte": other["train-labels-idx1-ubyte"]}
    write(tmp_path / "mnist", mixed)
    with pytest.raises(DataError) as caught:
        ensure("mnist", tmp_path)
    text = str(caught.value)
    assert "1 of 4 files" in text
    assert "train-labels-idx1-ubyte: MD5" in text
    assert "it is of fashion-mnist" in text
    assert "images" not in text.split("\n")[1]


def test_another_sets_files_are_passed_over_in_the_data_root_alone(
    tmp_path: Path,
    files: dict[str, bytes],
    publish: Callable[[str, dict[str, bytes]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "none")
    publish("mnist", files)
    write(tmp_path, files)
    assert idx.locate(offline("mnist", tmp_path)) == tmp_path
    with pytest.raises(MissingData, match="FashionMNIST/raw"):
        idx.read(offline("fashion-mnist", tmp_path), {})
    write(tmp_path / "fashion-mnist", files)
    with pytest.raises(DataError, match="4 of 4 files") as caught:
        idx.read(offline("fashion-mnist", tmp_path), {})
    assert str(caught.value).count("; it is of mnist") == 4
    write(tmp_path, files | {"t10k-labels-idx1-ubyte": idx_bytes(np.zeros(3, np.uint8))})
    shutil.rmtree(tmp_path / "fashion-mnist")
    with pytest.raises(DataError, match="4 of 4 files"):
        idx.read(offline("fashion-mnist", tmp_path), {})


@pytest.mark.realdata
@pytest.mark.skipif(not idx.DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_installed_fashion_mnist_in_mnists_place_is_named(tmp_path: Path) -> None:
    shutil.copytree(idx.DEBIAN, tmp_path / "mnist")
    with pytest.raises(DataError, match="mnist: 4 of 4 files") as caught:
        ensure("mnist", tmp_path)
    assert str(caught.value).count("; it is of fashion-mnist") == 4


def test_torchvision_publishes_the_same_sums() -> None:
    from torchvision import datasets

    kinds = {"KMNIST": "Kuzushiji-MNIST", "QMNIST": "QMNIST"}
    splits = datasets.QMNIST.resources
    resources = {
        "KMNIST": datasets.KMNIST.resources,
        "QMNIST": [*splits["train"], *splits["test"]],
    }
    for kind, title in kinds.items():
        assert {sum_ for _, sum_ in resources[kind]} == published.UNNAMED[title]
    for kind, name in ((datasets.CIFAR10, "cifar10"), (datasets.CIFAR100, "cifar100")):
        assert dict([*kind.train_list, *kind.test_list]) == find(name).files
    listed = {file: sum_ for _, file, sum_ in datasets.SVHN.split_list.values()}
    assert {**find("svhn").files, "extra_32x32.mat": listed["extra_32x32.mat"]} == listed


def test_kuzushiji_mnist_is_known_by_its_published_files(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "mnist", files, packed=1)
    sums = {md5(path.read_bytes()) for path in (tmp_path / "mnist").iterdir()}
    monkeypatch.setitem(published.UNNAMED, "Kuzushiji-MNIST", sums)
    with pytest.raises(DataError, match="it is of Kuzushiji-MNIST"):
        ensure("mnist", tmp_path)


@pytest.mark.parametrize("packed", [None, 1, 9])
def test_how_files_are_packed_does_not_matter_and_what_they_hold_does(
    tmp_path: Path,
    files: dict[str, bytes],
    publish: Callable[[str, dict[str, bytes]], None],
    packed: int | None,
) -> None:
    publish("mnist", files)
    write(tmp_path / "mnist", files, packed=packed)
    expected = {name: md5(data) for name, data in files.items()}
    assert ensure("mnist", tmp_path) == expected
    about = find("mnist").description
    assert about is not None
    assert read_again("mnist", tmp_path, (), about.fingerprint) == expected
    changed = bytearray(files["t10k-labels-idx1-ubyte"])
    changed[-1] ^= 1
    write(tmp_path / "mnist", {"t10k-labels-idx1-ubyte": bytes(changed)}, packed=packed)
    for look in (
        lambda: ensure("mnist", tmp_path),
        lambda: idx.read(offline("mnist", tmp_path), {}),
        lambda: read_again("mnist", tmp_path, (), about.fingerprint),
    ):
        with pytest.raises(DataError, match="t10k-labels"):
            look()


def test_each_file_is_hashed_once_and_again_only_by_verify(
    tmp_path: Path,
    files: dict[str, bytes],
    publish: Callable[[str, dict[str, bytes]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "SETTLED_NS", 0)
    publish("mnist", files)
    write(tmp_path / "mnist", files)
    read: list[Path] = []
    digest = content._digest

    def count(path: Path, *arguments: object) -> str:
        read.append(path)
        return digest(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(content, "_digest", count)
    for _ in range(3):
        ensure("mnist", tmp_path)
        idx.read(offline("mnist", tmp_path), {})
    assert len(read) == 4
    about = find("mnist").description
    assert about is not None
    read_again("mnist", tmp_path, (), about.fingerprint)
    assert len(read) == 8


def test_a_store_keeps_to_what_it_used_first(tmp_path: Path) -> None:
    paths = StorePaths(tmp_path / "store")
    first = dataset_record("imagenet", "ilsvrc2012-train-val", {"names and sizes": "sha256-1"})
    check_dataset(paths, first)
    write_datasets(paths, [first])
    check_dataset(paths, first)
    other = dataset_record("imagenet", "ilsvrc2012-train-val", {"names and sizes": "sha256-2"})
    with pytest.raises(DataError, match="sha256-2, not sha256-1") as caught:
        check_dataset(paths, other)
    assert str(paths.root) in str(caught.value)
    write_datasets(paths, [other])
    check_dataset(paths, first)


def test_a_damaged_record_is_named_set_aside_and_keeps_nothing_from_running(
    here: Callable[..., Done], tmp_path: Path
) -> None:
    paths = StorePaths(tmp_path / "store")
    paths.stages.mkdir(parents=True)
    paths.plans.mkdir()
    found = dataset_record("imagenet", "ilsvrc2012-train-val", {"names and sizes": "sha256-1"})
    path = paths.dataset(found.fingerprint)
    path.parent.mkdir()
    path.write_text('{"name": 3}')
    [problem] = [text for text in verify(paths).problems if str(path) in text]
    assert "is malformed" in problem
    named = here("status", "--store", paths.root).stdout
    assert "datasets/ilsvrc2012-train-val.json is malformed" in " ".join(named.split())
    assert check_dataset(paths, found) == problem
    write_datasets(paths, [found])
    assert check_dataset(paths, found) == ""
    [aside] = paths.datasets.glob("*.damaged-*")
    assert aside.read_text() == '{"name": 3}'
    assert [each.path for each in removable(paths)] == [aside]


def test_verify_takes_a_folder_of_data_only_to_read_it(
    here: Callable[..., Done], tmp_path: Path
) -> None:
    done = here("store", "verify", tmp_path, "--store", tmp_path)
    assert done.returncode == 2
    assert "only --data takes a folder" in done.stderr


@pytest.mark.realdata
def test_verify_reads_the_data_again(here: Callable[..., Done], tmp_path: Path) -> None:
    """Debian's Fashion-MNIST, whose .gz files have other bytes than the published ones and the same content."""
    data = tmp_path / "data/fashion-mnist"
    shutil.copytree(idx.DEBIAN, data)
    plan = tmp_path / "plan.toml"
    plan.write_text(TINY.replace('["toy"]', '["fashion-mnist"]').replace('"4ep"', '"3it"'))
    store = tmp_path / "store"
    changes = {
        "recipe.schedule": '{ kind = "constant", lr = 0.05 }',
        "recipe.retrain": '{ fine-tune = "2it" }',
        "grid.strategy": '["fine-tune"]',
        "seeds": "[0]",
    }
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    done = here("run", plan, "--store", store, "--data", data.parent, "--plain", *words)
    assert done.returncode == 0, done.stderr
    record = next((store / "datasets").iterdir()).read_text()
    assert find("fashion-mnist").files["train-images-idx3-ubyte"] in record
    check = ("store", "verify", "--store", store, "--data", data.parent)
    done = here(*check)
    assert done.returncode == 0, done.stderr
    assert "data as they were: fashion-mnist" in done.stderr
    file = data / "t10k-labels-idx1-ubyte.gz"
    labels = bytearray(gzip.decompress(file.read_bytes()))
    labels[-1] ^= 1
    file.write_bytes(gzip.compress(bytes(labels)))
    done = here(*check)
    assert done.returncode == 3
    assert "t10k-labels-idx1-ubyte" in done.stdout
    shutil.rmtree(data.parent)
    data.parent.mkdir()
    published_place = idx.DEBIAN
    idx.DEBIAN = tmp_path / "none"
    try:
        done = here(*check)
    finally:
        idx.DEBIAN = published_place
    assert done.returncode == 0
    assert "not found" in done.stderr


def test_a_folder_that_is_gone_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData):
        read_again("folder", tmp_path / "none", (("size", 8),), "content-0")
    with pytest.raises(MissingData, match="content-0 lies is not known"):
        read_again("folder", tmp_path, (("size", 8),), "content-0")


def test_a_data_set_that_this_version_does_not_know_is_a_note(tmp_path: Path) -> None:
    found = check_again(StorePaths(tmp_path), [DataSettings("waves", "waves-1")], tmp_path)
    assert not found.problems
    [note] = found.notes
    assert "waves" in note

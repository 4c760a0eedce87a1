"""Readers of data files, on small files in the real formats, and the real Fashion-MNIST where it is installed."""

from __future__ import annotations

import gzip
import pickle
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from prunectl.errors import DataError, UnknownName
from prunectl.ml.datasets import cifar, digits, idx, registry, svhn
from prunectl.ml.datasets import synthetic as synthetic_module
from prunectl.ml.datasets.files import Finder, data_root
from prunectl.ml.datasets.images import load
from prunectl.ml.datasets.pickled_arrays import parse_pickle
from prunectl.ml.datasets.registry import Description, describe
from prunectl.spec.settings import DataSettings

RANDOM = np.random.default_rng(0)


def offline(name: str, root: Path) -> Finder:
    return Finder(name, root, download=False)


def settings(name: str, **values: object) -> DataSettings:
    options = tuple(sorted(values.pop("options", {}).items()))  # type: ignore[attr-defined]
    fingerprint = describe(name, options).fingerprint
    return DataSettings(name, fingerprint, options, **values)  # type: ignore[arg-type]


def idx_bytes(array: np.ndarray) -> bytes:
    header = b"\0\0\x08" + bytes([array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(place: Path, compressed: bool) -> list[np.ndarray]:
    arrays = [
        RANDOM.integers(0, 256, (20, 28, 28)).astype(np.uint8),
        RANDOM.integers(0, 10, 20).astype(np.uint8),
        RANDOM.integers(0, 256, (12, 28, 28)).astype(np.uint8),
        RANDOM.integers(0, 10, 12).astype(np.uint8),
    ]
    place.mkdir(parents=True, exist_ok=True)
    for name, array in zip(idx.FILES, arrays, strict=True):
        if compressed:
            (place / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
        else:
            (place / name).write_bytes(idx_bytes(array))
    return arrays


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist", "."])
def test_idx_files_are_read_where_they_lie(tmp_path: Path, place: str, compressed: bool) -> None:
    written = write_idx(tmp_path / place, compressed)
    arrays = idx.read_folder(idx.locate(offline("fashion-mnist", tmp_path)))
    assert np.array_equal(arrays.train_images[..., 0], written[0])
    assert np.array_equal(arrays.train_targets, written[1])
    assert np.array_equal(arrays.test_images[..., 0], written[2])
    assert np.array_equal(arrays.test_targets, written[3])


@pytest.mark.parametrize("damage", ["short", "magic", "gzip"])
def test_a_damaged_idx_file_is_named(tmp_path: Path, damage: str) -> None:
    write_idx(tmp_path, compressed=damage == "gzip")
    path = tmp_path / (idx.FILES[0] + (".gz" if damage == "gzip" else ""))
    content = path.read_bytes()
    path.write_bytes(b"\1" + content[1:] if damage == "magic" else content[:-40])
    with pytest.raises(DataError, match=path.name):
        idx.read_folder(tmp_path)


def write_cifar(root: Path, name: str, count: int = 6) -> dict[str, tuple[np.ndarray, list[int]]]:
    inner, train, test = cifar.LAYOUT[name]
    (root / inner).mkdir(parents=True)
    written = {}
    for batch in [*train, *test]:
        pixels = RANDOM.integers(0, 256, (count, 3072)).astype(np.uint8)
        labels = RANDOM.integers(0, 10, count).tolist()
        content = {b"data": pixels, cifar.LABELS[name]: labels, b"batch_label": b"training"}
        (root / inner / batch).write_bytes(pickle.dumps(content, protocol=2))
        written[batch] = (pixels, labels)
    return written


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_batches_are_read_in_order_with_channels_last(tmp_path: Path, name: str) -> None:
    written = write_cifar(tmp_path, name)
    arrays = cifar.read_folder(name, cifar.locate(offline(name, tmp_path)))
    _, train, test = cifar.LAYOUT[name]
    assert arrays.train_targets.tolist() == [
        label for batch in train for label in written[batch][1]
    ]
    first = written[train[0]][0][0].reshape(3, 32, 32)
    assert np.array_equal(arrays.train_images[0].transpose(2, 0, 1), first)
    assert np.array_equal(
        arrays.test_images[-1].transpose(2, 0, 1), written[test[0]][0][-1].reshape(3, 32, 32)
    )


def test_python_2_pickles_of_arrays_are_read(tmp_path: Path) -> None:
    # The names and opcodes of the published files: Python 2's numpy, byte strings as SHORT_BINSTRING.
    pixels = bytes(range(256)) * 12
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x01M\x00\x0ctcnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", len(pixels))
        + pixels
        + b"tb"
    )
    path = tmp_path / "test_batch"
    path.write_bytes(b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x07eu.")
    images, labels = cifar.read_batch(path, b"labels")
    assert labels.tolist() == [7]
    assert images[0, :, :, 0].tobytes() == pixels[:1024]


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path).encode() + b"/owned'\ntR.")
    with pytest.raises(DataError, match=r"os\.system"):
        cifar.read_batch(path, b"labels")
    assert not (tmp_path / "owned").exists()


def test_svhn_labels_ten_are_zeros(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 256, (32, 32, 3, 5)).astype(np.uint8)
    for name in svhn.FILES:
        content = {"X": images, "y": np.array([[1], [10], [9], [10], [2]], np.uint8)}
        scipy.io.savemat(tmp_path / name, content)
    arrays = svhn.read_folder(svhn.locate(offline("svhn", tmp_path)))
    assert arrays.test_targets.tolist() == [1, 0, 9, 0, 2]
    assert np.array_equal(arrays.train_images[3], images[..., 3])
    (tmp_path / svhn.FILES[0]).write_bytes(b"nonsense")
    with pytest.raises(DataError, match="train_32x32"):
        svhn.read_folder(tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"])
def test_missing_files_are_named_in_one_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "none")
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr(socket, "create_connection", no_network)
    told: list[str] = []
    with pytest.raises(DataError) as caught:
        load(settings(name), tmp_path / "data", told.append)
    text = str(caught.value)
    assert "\n" not in text
    assert str(tmp_path / "data") in text
    assert "PRUNECTL_DATA" in text
    assert "Name or service not known" in text
    assert told == [f"downloading {name} to {tmp_path / 'data'}"]


def test_what_a_download_brings_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(kind: str, folder: Path) -> None:
        write_idx(folder / kind / "raw", True)

    monkeypatch.setattr(idx, "torchvision_download", download)
    found = idx.locate(Finder("mnist", tmp_path / "new"))
    assert len(idx.read_folder(found).test_targets) == 12


def test_the_data_root_is_option_then_environment_then_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("PRUNECTL_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert data_root() == Path("/home/someone/.cache/prunectl/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_root() == Path("/cache/prunectl/data")
    monkeypatch.setenv("PRUNECTL_DATA", "~/images")
    assert data_root() == Path("/home/someone/images")
    assert data_root(tmp_path) == tmp_path


def test_digits_are_complete_and_stratified(tmp_path: Path) -> None:
    images = load(settings("digits"), tmp_path)
    assert images.train_images.shape == (1437, 1, 8, 8)
    assert images.test_images.shape == (360, 1, 8, 8)
    histogram = images.test_targets.bincount(minlength=10)
    assert histogram.min() >= 34
    assert histogram.max() <= 37
    pixels = images.train_images.double() / 255
    about = describe("digits")
    assert pixels.mean().item() == pytest.approx(about.mean[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(about.std[0], abs=1e-4)


def test_the_script_reproduces_the_packaged_digits(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from tests.support import make_digits

    made = make_digits.content()
    with np.load(digits.FILE) as packaged:
        assert set(packaged.files) == set(made)
        for name, array in made.items():
            assert np.array_equal(packaged[name], array)
    make_digits.write(tmp_path / "digits.npz")
    with np.load(tmp_path / "digits.npz") as again:
        assert all(np.array_equal(again[name], array) for name, array in made.items())


def small(**changes: str | int) -> dict[str, str | int]:
    base: dict[str, str | int] = {"channels": 1, "height": 9, "width": 12, "classes": 4}
    return {**base, "train": 200, "test": 60, **changes}


def test_synthetic_images_have_the_shape_asked_for_and_depend_on_the_seed(tmp_path: Path) -> None:
    one = load(settings("synthetic", options=small()), tmp_path)
    again = load(settings("synthetic", options=small()), tmp_path)
    other = load(settings("synthetic", options=small(seed=1)), tmp_path)
    assert one.train_images.shape == (200, 1, 9, 12)
    assert torch.equal(one.train_images, again.train_images)
    assert not torch.equal(one.train_images, other.train_images)
    assert set(one.train_targets.tolist()) == {0, 1, 2, 3}
    assert (one.train_images == 0).float().mean() < 0.05
    assert one.train_images.float().std(0).min() > 20


def test_synthetic_images_never_change() -> None:
    # pinned: results are stored under this fingerprint
    arrays = synthetic_module.read(offline("synthetic", Path()), registry.complete("synthetic"))
    assert describe("synthetic").fingerprint == "synthetic-1"
    assert arrays.train_targets[:8].tolist() == LABELS
    assert arrays.train_images[0, 0, :3].tolist() == PIXELS


LABELS = [1, 4, 2, 5, 5, 5, 2, 5]
PIXELS = [[140, 170, 125], [162, 81, 177], [172, 111, 151]]


def write_folder(root: Path, size: tuple[int, int] = (20, 10)) -> None:
    from PIL import Image

    for split, count in (("train", 3), ("val", 2)):
        for index, kind in enumerate(("cat", "dog")):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", size, (100 * index, 10 * number, 7))
                image.save(root / split / kind / f"{number}.png")


def test_a_folder_of_images_is_scaled_cropped_and_labelled(tmp_path: Path) -> None:
    write_folder(tmp_path)
    options: dict[str, str | int] = {"path": str(tmp_path), "size": 8}
    about = describe("folder", options)
    assert (about.shape, about.classes, about.train, about.test) == ((3, 8, 8), 2, 6, 4)
    images = load(settings("folder", options=options))
    assert images.train_targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.train_images[4, :, 3, 3].tolist() == [100, 10, 7]
    grey = load(settings("folder", options={**options, "channels": 1}))
    assert grey.train_images.shape == (6, 1, 8, 8)


def test_a_changed_folder_has_another_fingerprint(tmp_path: Path) -> None:
    write_folder(tmp_path)
    options: dict[str, str | int] = {"path": str(tmp_path), "size": 8}
    before = settings("folder", options=options)
    (tmp_path / "train/cat/0.png").rename(tmp_path / "train/cat/9.png")
    assert describe("folder", options).fingerprint != before.fingerprint
    with pytest.raises(DataError, match="fingerprint"):
        load(before)


def test_a_folder_that_is_not_laid_out_is_refused(tmp_path: Path) -> None:
    options = {"path": str(tmp_path)}
    with pytest.raises(DataError, match="train"):
        describe("folder", options)
    write_folder(tmp_path)
    (tmp_path / "val/bird").mkdir()
    with pytest.raises(DataError, match="bird"):
        describe("folder", options)
    (tmp_path / "val/bird").rmdir()
    (tmp_path / "train/cat/0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png"):
        load(settings("folder", options=options))


def test_options_are_checked() -> None:
    with pytest.raises(UnknownName, match="chanels"):
        describe("synthetic", {"chanels": 1})
    with pytest.raises(UnknownName):
        describe("cifar10", {"size": 1})
    with pytest.raises(DataError, match="height"):
        describe("synthetic", {"height": "tall"})
    with pytest.raises(DataError, match="classes"):
        describe("synthetic", {"classes": 0})
    with pytest.raises(DataError, match="path"):
        describe("folder")
    with pytest.raises(UnknownName, match="did you mean 'cifar10'"):
        describe("cifar1")


@pytest.mark.parametrize("name", registry.names())
def test_every_entry_resolves(name: str) -> None:
    entry = registry.find(name)
    assert callable(entry.implementation().read)
    assert isinstance(entry.description, Description) or callable(entry.implementation().describe)
    if entry.description:
        assert (
            len(entry.description.mean) == len(entry.description.std) == entry.description.shape[0]
        )


@pytest.mark.parametrize("source", ["test", "train"])
def test_validation_images_are_held_out_of_their_source(tmp_path: Path, source: str) -> None:
    whole = load(settings("digits"), tmp_path)
    count = 72
    held = load(settings("digits", validation_from=source, validation_count=count), tmp_path)
    again = load(settings("digits", validation_from=source, validation_count=count), tmp_path)
    assert held.validation_images is not None
    assert again.validation_images is not None
    assert torch.equal(held.validation_images, again.validation_images)
    assert len(held.validation_images) == count
    rest, all_images = (
        (held.test_images, whole.test_images)
        if source == "test"
        else (held.train_images, whole.train_images)
    )
    untouched = (
        (held.train_images, whole.train_images)
        if source == "test"
        else (held.test_images, whole.test_images)
    )
    assert torch.equal(*untouched)
    assert len(rest) == len(all_images) - count
    joined = torch.cat([rest, held.validation_images]).flatten(1)
    assert sorted(map(tuple, joined.tolist())) == sorted(map(tuple, all_images.flatten(1).tolist()))
    assert held.validation_images.is_contiguous(memory_format=torch.channels_last)


def test_holding_out_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="360"):
        load(settings("digits", validation_from="test", validation_count=360), tmp_path)


@pytest.mark.realdata
@pytest.mark.skipif(not idx.DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_installed_fashion_mnist_is_found_and_complete(tmp_path: Path) -> None:
    images = load(settings("fashion-mnist"), tmp_path, download=False)
    assert images.train_images.shape == (60_000, 1, 28, 28)
    assert images.train_targets.bincount().tolist() == [6_000] * 10
    assert images.test_targets.bincount().tolist() == [1_000] * 10
    assert images.test_targets[:12].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5]
    pixels = images.train_images.float() / 255
    about = describe("fashion-mnist")
    assert pixels.mean().item() == pytest.approx(about.mean[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(about.std[0], abs=1e-4)


def test_escapes_that_python_no_longer_knows_are_no_warning() -> None:
    """In the texts of a damaged batch: what is wrong with the file is said by its reader, and by nothing else."""
    assert parse_pickle(b"S'\\q\\d'\n.") == b"\\q\\d"

"""Streams of images: the same as images in memory, whoever reads them and wherever one begins."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prunectl.errors import DataError
from prunectl.ml.datasets import read_ahead
from prunectl.ml.datasets.image_files import Sample
from prunectl.ml.datasets.images import Images, Streamed, load
from prunectl.ml.datasets.listing import Preprocessing
from prunectl.ml.datasets.read_ahead import ImageLoader, images_per_chunk, worker_count
from prunectl.ml.datasets.registry import describe
from prunectl.ml.training.batches import Batches, open_source
from prunectl.ml.training.streamed_batches import StreamedBatches
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import AugmentSettings, DataSettings, TrainSettings
from tests.support import image_maker

RANDOM_PARTS = AugmentSettings(flip=True, crop="random-resized")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_maker.write_images(tmp_path_factory.mktemp("images"))


def batches(
    source: Batches | StreamedBatches, steps: list[int], seed: int = 0, iteration: int = 0
) -> list[Tensor]:
    out = []
    for step in steps:
        pixels, labels = source.get(Seeds.of(seed), iteration, step)
        out += [pixels.clone(), labels.clone()]
    return out


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(batch=8),
        TrainSettings(batch=8, drop_last=True, augment=AugmentSettings(flip=True)),
        TrainSettings(batch=8, straddle=True, augment=AugmentSettings(2, "reflect", True)),
        TrainSettings(batch=50, straddle=True, augment=AugmentSettings(3, "zero")),
    ],
)
def test_streamed_images_are_those_in_memory_to_the_bit(
    path: Path, settings: TrainSettings
) -> None:
    memory = open_source(image_maker.held(path), settings)
    files = open_source(image_maker.streamed(path), settings)
    assert isinstance(memory, Batches)
    assert isinstance(files, StreamedBatches)
    assert memory.layout.per_epoch == files.layout.per_epoch
    assert same(batches(memory, [*range(9)]), batches(files, [*range(9)]))
    assert same(batches(memory, [4, 5, 2], 1, 3), batches(files, [4, 5, 2], 1, 3))


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("source", ["none", "train", "test"])
def test_what_is_evaluated_and_held_out_is_the_same_too(
    path: Path, source: str, split: str
) -> None:
    count = 0 if source == "none" else 5
    values = {"validation_from": source, "validation_count": count}
    memory, files = image_maker.held(path, **values), image_maker.streamed(path, **values)
    assert torch.equal(memory.train_targets, files.train_targets)
    assert torch.equal(memory.test_targets, files.test_targets)
    here, there = memory.parts(split, 4), files.parts(split, 4)  # type: ignore[arg-type]
    if source == "none" and split == "validation":
        assert here is there is None
        return
    assert here is not None
    assert there is not None
    for (pixels, labels), (other, names) in zip(here, there, strict=True):
        assert torch.equal(pixels, other)
        assert torch.equal(labels, names)
    settings = TrainSettings(batch=4)
    one, other_source = open_source(memory, settings), open_source(files, settings)
    assert same(batches(one, [0, 1]), batches(other_source, [0, 1]))


def test_random_parts_are_the_same_whether_images_are_held_or_not(path: Path) -> None:
    settings = TrainSettings(batch=8, straddle=True, augment=RANDOM_PARTS)
    memory = open_source(
        image_maker.held(path, validation_from="train", validation_count=4), settings
    )
    files = open_source(
        image_maker.streamed(path, validation_from="train", validation_count=4), settings
    )
    drawn = batches(files, [*range(6)])
    assert same(batches(memory, [*range(6)]), drawn)
    assert not same(drawn[:2], batches(files, [0], seed=1))
    assert not same(drawn[:2], batches(files, [0], iteration=1))


def test_any_step_can_be_the_first_and_evaluating_in_between_changes_nothing(path: Path) -> None:
    settings = TrainSettings(batch=8, augment=RANDOM_PARTS)
    images = image_maker.streamed(path)
    source = open_source(images, settings)
    whole = batches(source, [*range(7)])
    assert same(whole[8:], batches(open_source(image_maker.streamed(path), settings), [4, 5, 6]))
    parted = batches(source, [0, 1])
    assert sum(len(labels) for _, labels in images.parts("test", 5) or ()) == 12
    parted += batches(source, [2, 3])
    other = open_source(images, settings)
    batches(other, [5])
    assert same(whole, parted + batches(source, [4, 5, 6]))


def test_chunks_of_any_size_give_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainSettings(batch=10, straddle=True, augment=RANDOM_PARTS)
    whole = batches(open_source(image_maker.streamed(path), settings), [*range(5)])
    monkeypatch.setattr(read_ahead, "CHUNK_BYTES", 3 * 16 * 16 * 3)
    images = image_maker.streamed(path)
    assert images.loader._sampler.size == 3
    assert same(whole, batches(open_source(images, settings), [*range(5)]))


def test_random_parts_of_images_that_came_as_arrays() -> None:
    options = (("classes", 3), ("height", 12), ("test", 6), ("train", 20), ("width", 14))
    images = load(DataSettings("synthetic", describe("synthetic").fingerprint, options))
    source = open_source(images, TrainSettings(batch=8, augment=RANDOM_PARTS))
    pixels, labels = source.get(Seeds.of(0), 0, 1)
    assert pixels.shape == (8, 12, 14, 3)
    assert isinstance(images, Images)
    plain = open_source(images, TrainSettings(batch=8)).get(Seeds.of(0), 0, 1)
    assert torch.equal(labels, plain[1])
    assert not torch.equal(pixels, plain[0])
    whole = AugmentSettings(crop="random-resized", scale=(1.0, 1.0), ratio=(14 / 12, 14 / 12))
    uncut = open_source(images, TrainSettings(batch=8, augment=whole)).get(Seeds.of(0), 0, 1)
    assert torch.equal(uncut[0], plain[0])


def test_a_broken_file_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    folder = image_maker.write_images(tmp_path, 3, 2)
    content = (folder / "train/bee/1.png").read_bytes()
    (folder / "train/bee/1.png").write_bytes(content[: len(content) // 2])
    source = open_source(image_maker.streamed(folder), TrainSettings(batch=9))
    with pytest.raises(DataError, match=r"bee/1\.png"):
        source.get(Seeds.of(0), 0, 0)
    (folder / "train/bee/1.png").write_bytes(content)
    assert len(source.get(Seeds.of(0), 0, 0)[1]) == 9


def test_nothing_is_drawn_from_the_global_generator(path: Path) -> None:
    before = torch.get_rng_state()
    batches(open_source(image_maker.streamed(path), TrainSettings(augment=RANDOM_PARTS)), [0, 1])
    assert torch.equal(before, torch.get_rng_state())


# --- processes that read ahead ------------------------------------------------------------------


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNECTL_LOADERS", "2")


@pytest.fixture
def files(path: Path) -> Iterator[Streamed]:
    images = image_maker.streamed(path)
    yield images
    images.loader.close()


def pids(images: Streamed) -> list[int]:
    assert images.loader._loader is not None
    iterator = images.loader._loader._iterator
    return [worker.pid for worker in iterator._workers]  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.usefixtures("two_processes")
def test_processes_change_nothing_are_kept_and_are_replaced(
    path: Path, files: Streamed, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(batch=8, straddle=True, augment=RANDOM_PARTS)
    source = open_source(files, settings)
    assert files.loader.workers == 2
    first = batches(source, [0, 1, 2])
    kept = pids(files)
    evaluated = [part.clone() for parts in files.parts("test", 5) or () for part in parts]
    first += batches(source, [3, 4])
    again = batches(source, [0, 1, 2, 3, 4], seed=2)
    assert pids(files) == kept

    for pid in kept:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        batches(source, [*range(5, 40)], seed=2)
    assert same(again, batches(source, [0, 1, 2, 3, 4], seed=2))
    assert not set(pids(files)) & set(kept)

    monkeypatch.setenv("PRUNECTL_LOADERS", "0")
    alone = image_maker.streamed(path)
    other = open_source(alone, settings)
    assert same(first, batches(other, [0, 1, 2, 3, 4]))
    assert same(again, batches(other, [0, 1, 2, 3, 4], seed=2))
    assert same(evaluated, [part for parts in alone.parts("test", 5) or () for part in parts])


def test_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert worker_count(cpu) == 0
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert worker_count(cuda) == 7
    # In a worker, which sees one of the run's eight devices.
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert worker_count(cuda) == 24
    monkeypatch.setenv("PRUNECTL_SHARING", "8")
    assert worker_count(cuda) == 7
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3})
    assert worker_count(cuda) == 1
    monkeypatch.setenv("PRUNECTL_LOADERS", "5")
    assert worker_count(cpu) == worker_count(cuda) == 5


def test_chunks_fit_what_memory_processes_can_share(monkeypatch: pytest.MonkeyPatch) -> None:
    preprocessing = Preprocessing((3, 224, 224))
    assert images_per_chunk(preprocessing, 0) == 27
    assert images_per_chunk(Preprocessing((1, 8, 8)), 0) == 64

    class Small:
        f_bavail, f_frsize = 64 << 8, 4096

    monkeypatch.setattr("os.statvfs", lambda path: Small)
    assert images_per_chunk(preprocessing, 8) == 5
    assert images_per_chunk(preprocessing, 100) == 1


def test_a_stream_ends_when_another_begins() -> None:
    made = ImageLoader(Preprocessing((1, 2, 2)), torch.device("cpu"))
    sample = Sample(torch.zeros(1, 2, 2, dtype=torch.uint8).numpy())
    first = made.stream([[sample]] * 2)
    assert next(first).shape == (1, 2, 2, 1)
    second = made.stream([[sample] * 3])
    with pytest.raises(RuntimeError, match="another stream"):
        next(first)
    assert next(second).shape == (3, 2, 2, 1)
    with pytest.raises(StopIteration):
        next(second)

"""Image files: what is listed, how it is identified, and what tensor an image becomes."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from prunectl.errors import DataError
from prunectl.ml.datasets import imagenet, listing, registry
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.image_files import ImageReader, Sample, resize_and_crop
from prunectl.ml.datasets.images import Images, Streamed, load
from prunectl.ml.datasets.listing import Preprocessing
from prunectl.ml.datasets.registry import describe, ensure, read_again
from prunectl.ml.random_resized_crop import DRAWS, box
from prunectl.ml.randomness import crop_draws
from prunectl.spec.key import to_json
from prunectl.spec.settings import DataSettings
from tests.support import image_maker

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


# --- what is there ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp"])
def test_real_files_become_images_in_the_order_of_classes_and_names(
    tmp_path: Path, kind: str
) -> None:
    path = image_maker.write_images(tmp_path, kind=kind)
    about = describe("folder", {"path": str(path), "size": 16})
    assert (about.shape, about.classes, about.train, about.test) == ((3, 16, 16), 3, 21, 12)
    images = image_maker.held(path)
    assert images.train_targets.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    corners = images.train_images.float().mean(1)[:, [2, 2, 13], [2, 13, 2]]
    assert torch.equal(corners.argmax(1), images.train_targets)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "size is 0, not 1 to"),
        ({"channels": 2}, "channels is 2, not 1 or 3"),
        ({"resize": 15}, "resize 15"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"held": "sometimes"}, "always or never"),
        ({"background": "#FFF"}, "not a colour as #rrggbb"),
        ({"background": "white"}, "such as '#ffffff'"),
        ({"range": [1]}, "black less than white"),
        ({"range": [4095, 0]}, "black less than white"),
        ({"range": [0, math.inf]}, "black less than white"),
        ({"range": [0, 10**400]}, "beyond 1.79769e"),
        ({"range": [-1e39, 1]}, "within ±3e\\+38"),
        ({"range": [math.nan, 1]}, "black less than white"),
        ({"range": [0, "1"]}, "not a list of numbers"),
        ({"range": 4095}, "not a list of numbers"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    path = image_maker.write_images(tmp_path, 1, 1)
    with pytest.raises(DataError, match=said):
        describe("folder", {"path": str(path), "size": 16, **options})


def test_options_of_folders_are_none_of_imagenets_key() -> None:
    assert dict(registry.find("imagenet").defaults) == {"resize": 256, "interpolation": "bilinear"}
    options = registry.complete("folder", {"range": [0, 4095]})
    assert options["range"] == (0.0, 4095.0)
    assert registry.complete("folder")["range"] == ()
    data = DataSettings("folder", "content-1", tuple(sorted(options.items())))
    assert msgspec.json.decode(to_json(data), type=DataSettings) == data


# --- where it lies ------------------------------------------------------------------------------


def test_a_folder_is_found_by_its_fingerprint_wherever_it_lies(tmp_path: Path) -> None:
    path, root = image_maker.write_images(tmp_path / "mine", 2, 1), tmp_path / "data"
    options = registry.complete("folder", {"path": str(path), "size": 16})
    what, where = registry.split_options("folder", options)
    assert set(where) == {"path", "held"}
    about = describe("folder", options)
    settings = DataSettings("folder", about.fingerprint, tuple(sorted(what.items())))
    with pytest.raises(DataError, match="path"):
        load(settings, root)
    ensure("folder", root, options, about.fingerprint)
    assert isinstance(load(settings, root), Images)

    path.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="mine: train/ and test/ are not there"):
        load(settings, root)
    moved = options | {"path": str(tmp_path / "elsewhere"), "held": "never"}
    ensure("folder", root, moved, about.fingerprint)
    assert isinstance(load(settings, root), Streamed)


def test_by_size_images_are_held_or_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = image_maker.settings_of(image_maker.write_images(tmp_path, 2, 1))
    size = 9 * 16 * 16 * 3
    monkeypatch.setattr(listing, "HELD_BYTES", size)
    assert isinstance(load(settings), Images)
    monkeypatch.setattr(listing, "HELD_BYTES", size - 1)
    assert isinstance(load(settings), Streamed)


def small_imagenet(monkeypatch: pytest.MonkeyPatch) -> DataSettings:
    entry = registry.find("imagenet")
    assert entry.description is not None
    small = replace(entry.description, classes=3, train=6, test=3)
    changed = {**registry._ENTRIES, "imagenet": replace(entry, description=small)}
    monkeypatch.setattr(registry, "_ENTRIES", changed)
    monkeypatch.setattr(imagenet, "WNIDS", hashlib.sha256(b"ant\nbee\ncat").hexdigest())
    monkeypatch.setattr(imagenet, "PER_CLASS", range(2, 3))
    monkeypatch.setattr(imagenet, "VALIDATION", 1)
    return DataSettings("imagenet", small.fingerprint, (("resize", 256),))


@pytest.mark.parametrize("place", ["imagenet", "ILSVRC2012", "."])
def test_imagenet_is_train_and_val_of_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    image_maker.write_images(tmp_path / place, 2, 1, "jpg", "train val")
    # The images without public labels, which lie there too.
    (tmp_path / place / "test").mkdir()
    settings = small_imagenet(monkeypatch)
    digests = ensure("imagenet", tmp_path, settings.options, settings.fingerprint)
    images = load(settings, tmp_path)
    assert images.digests == digests
    fingerprint = settings.fingerprint
    assert read_again("imagenet", tmp_path, settings.options, fingerprint) == digests
    assert len(digests) == 1
    assert isinstance(images, Images)
    assert images.test_images.shape == (3, 3, 224, 224)


def test_imagenet_with_other_counts_or_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DataSettings("imagenet", describe("imagenet").fingerprint)
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        ensure("imagenet", tmp_path)
    assert str(tmp_path / "imagenet") in str(caught.value)
    image_maker.write_images(tmp_path / "imagenet", 2, 1, "jpg", "train val")
    for look in (lambda: ensure("imagenet", tmp_path), lambda: load(settings, tmp_path)):
        with pytest.raises(DataError, match=r"the 3 folders of .* are not the 1,000 classes"):
            look()
    small_imagenet(monkeypatch)
    (tmp_path / "imagenet/train/bee/0.jpg").unlink()
    with pytest.raises(DataError, match="train does not have 2 images of each class: bee has 1"):
        ensure("imagenet", tmp_path)
    monkeypatch.undo()
    about = describe("imagenet")
    assert (about.shape, about.train, about.test) == ((3, 224, 224), 1_281_167, 50_000)
    assert registry.complete("imagenet")["resize"] == 256


# --- what an image of it is ---------------------------------------------------------------------


def test_the_whole_is_the_middle_after_scaling_the_shorter_side() -> None:
    gradient = torch.arange(200, dtype=torch.uint8).expand(3, 100, 200)
    whole = resize_and_crop(gradient, Preprocessing((3, 50, 50)))
    assert whole.shape == (3, 50, 50)
    assert abs(whole[0, 0].float().mean() - 99.5) < 1
    assert whole[0, 0, -1] - whole[0, 0, 0] == pytest.approx(98, abs=2)
    closer = resize_and_crop(gradient, Preprocessing((3, 50, 50), resize=100))
    assert torch.equal(closer, gradient[:, 25:75, 75:125])
    same = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    assert torch.equal(resize_and_crop(same, Preprocessing((1, 8, 8))), same)
    larger = resize_and_crop(gradient, Preprocessing((3, 120, 120), interpolation="bicubic"))
    assert larger.shape == (3, 120, 120)


def test_random_parts_lie_inside_and_have_the_area_and_ratio_asked_for() -> None:
    areas, ratios, tops = [], [], []
    for draws in crop_draws(0, 0, 0, 0, 4000).tolist():
        top, left, high, wide = box(draws, 375, 500, SCALE, RATIO)
        assert top >= 0
        assert left >= 0
        assert top + high <= 375
        assert left + wide <= 500
        areas.append(high * wide / (375 * 500))
        ratios.append(wide / high)
        tops.append(top / (375 - high) if high < 375 else 0.5)
    assert min(areas) > 0.079
    assert 0.4 < float(np.mean(areas)) < 0.52
    assert min(ratios) > 0.74
    assert max(ratios) < 1.35
    assert 0.47 < float(np.mean(tops)) < 0.53


def test_the_box_agrees_with_torchvisions_in_distribution() -> None:
    from torchvision.transforms import v2

    transform = v2.RandomResizedCrop(224, SCALE, RATIO)
    image = torch.empty(3, 333, 500)
    torch.manual_seed(0)
    theirs = [transform.make_params([image]) for _ in range(3000)]
    ours = [box(d, 333, 500, SCALE, RATIO) for d in crop_draws(1, 0, 0, 0, 3000).tolist()]
    torch.manual_seed(0)
    for index, name in enumerate(("top", "left", "height", "width")):
        expected = np.quantile([p[name] for p in theirs], (0.1, 0.25, 0.5, 0.75, 0.9))
        found = np.quantile([crop[index] for crop in ours], (0.1, 0.25, 0.5, 0.75, 0.9))
        assert np.abs(expected - found).max() < 16


def test_where_no_shape_fits_it_is_the_largest_in_the_middle() -> None:
    draws = [random.Random(0).random()] * DRAWS
    assert box(draws, 10, 100, (1.0, 1.0), RATIO) == (0, 43, 10, 13)
    assert box(draws, 100, 10, (1.0, 1.0), RATIO) == (43, 0, 13, 10)
    assert box(draws, 12, 12, (1.0, 1.0), (1.0, 1.0)) == (0, 0, 12, 12)


def test_crop_draws_are_a_function_of_the_place_in_the_epoch() -> None:
    whole = crop_draws(0, 0, 0, 0, 2500)
    assert whole.shape == (2500, DRAWS)
    assert torch.equal(whole[1000:2100], crop_draws(0, 0, 0, 1000, 2100))
    assert torch.equal(whole[1024:1025], crop_draws(0, 0, 0, 1024, 1025))
    assert not torch.equal(whole[:5], crop_draws(0, 0, 1, 0, 5))
    assert not torch.equal(whole[:5], whole[1024:1029])
    # Results are stored under seeds: a stream that changed would make them unrepeatable without a word.
    assert whole[0, :2].tolist() == PINNED


PINNED = [0.4737030041799062, 0.26689224307598336]


def test_a_random_part_is_cut_out_and_scaled() -> None:
    source = np.zeros((3, 40, 60), np.uint8)
    source[:, :, 30:] = 200
    draws = crop_draws(0, 0, 0, 0, 3)
    reader = ImageReader(Preprocessing((3, 16, 16)))
    for row in draws.tolist():
        image = reader[Sample(source, row, SCALE, RATIO)]
        assert isinstance(image, torch.Tensor)
        _, left, _, wide = box(row, 40, 60, SCALE, RATIO)
        bright = min(1.0, max(0.0, (left + wide - 30) / wide))
        assert image.float().mean() / 200 == pytest.approx(bright, abs=0.05)


def test_the_finder_of_a_folder_lists_and_reads_nothing(tmp_path: Path) -> None:
    path = image_maker.write_images(tmp_path, 1, 1)
    (path / "train/ant/0.png").write_bytes(b"no image")
    options = registry.complete("folder", {"path": str(path)})
    found = registry.find("folder").implementation().read(Finder("folder", tmp_path), options)
    assert found.train.names[0] == "train/ant/0.png"

"""Image files: what is listed, how it is identified, and what tensor an image becomes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prunectl.errors import DataError
from prunectl.ml.datasets import listing, registry
from prunectl.ml.datasets.files import Finder
from prunectl.ml.datasets.image_files import ImageReader, Sample, decode, resize_and_crop
from prunectl.ml.datasets.images import Images, Streamed, load
from prunectl.ml.datasets.listing import Preprocessing
from prunectl.ml.datasets.registry import describe, ensure
from prunectl.ml.random_resized_crop import DRAWS, box
from prunectl.ml.randomness import crop_draws
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


def test_val_stands_in_for_test_and_other_files_are_passed_over(tmp_path: Path) -> None:
    path = image_maker.write_images(tmp_path, folders="train val")
    (path / "train/ant/notes.txt").write_text("not an image")
    (path / "train/ant/nested.png").mkdir()
    (path / "train/.DS_Store").write_text("")
    (path / "train/dodo").mkdir()
    about = describe("folder", {"path": str(path)})
    assert (about.classes, about.train, about.test) == (4, 21, 12)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    for place in ("train/ant", "test/ant"):
        (tmp_path / place).mkdir(parents=True)
    with pytest.raises(DataError, match="no images"):
        describe("folder", {"path": str(tmp_path)})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "size 0"),
        ({"channels": 2}, "channels 2"),
        ({"resize": 15}, "resize 15"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"held": "sometimes"}, "always or never"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, options: dict[str, str | int], said: str
) -> None:
    path = image_maker.write_images(tmp_path, 1, 1)
    with pytest.raises(DataError, match=said):
        describe("folder", {"path": str(path), "size": 16, **options})


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    one = image_maker.write_images(tmp_path / "one", 2, 1)
    two = image_maker.write_images(tmp_path / "two", 2, 1)
    first = describe("folder", {"path": str(one)}).fingerprint
    assert first == describe("folder", {"path": str(two), "held": "never"}).fingerprint
    file = two / "train/bee/1.png"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    assert first != describe("folder", {"path": str(two)}).fingerprint


def test_of_very_many_images_names_and_sizes_count_and_the_contents_of_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image_maker.write_images(tmp_path, 4, 2)
    monkeypatch.setattr(listing, "CONTENT_BYTES", 100)
    monkeypatch.setattr(listing, "SAMPLED", 6)
    options = {"path": str(path)}
    first = describe("folder", options).fingerprint
    assert first.startswith("sampled-")
    second, third = path / "train/ant/1.png", path / "train/ant/3.png"
    second.write_bytes(second.read_bytes()[::-1])
    assert describe("folder", options).fingerprint == first
    third.write_bytes(third.read_bytes()[::-1])
    assert describe("folder", options).fingerprint != first
    before = describe("folder", options).fingerprint
    second.write_bytes(second.read_bytes() + b"x")
    assert describe("folder", options).fingerprint != before


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
    with pytest.raises(DataError, match="mine/train"):
        load(settings, root)
    moved = options | {"path": str(tmp_path / "elsewhere"), "held": "never"}
    ensure("folder", root, moved, about.fingerprint)
    assert isinstance(load(settings, root), Streamed)


def test_by_size_images_are_held_or_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = image_maker.settings_of(image_maker.write_images(tmp_path, 2, 1))
    size = 9 * 16 * 16 * 3
    monkeypatch.setattr("prunectl.ml.datasets.images.HELD_BYTES", size)
    assert isinstance(load(settings), Images)
    monkeypatch.setattr("prunectl.ml.datasets.images.HELD_BYTES", size - 1)
    assert isinstance(load(settings), Streamed)


def small_imagenet(monkeypatch: pytest.MonkeyPatch) -> DataSettings:
    entry = registry.find("imagenet")
    assert entry.description is not None
    small = replace(entry.description, classes=3, train=6, test=3)
    changed = {**registry._ENTRIES, "imagenet": replace(entry, description=small)}
    monkeypatch.setattr(registry, "_ENTRIES", changed)
    return DataSettings("imagenet", small.fingerprint, (("resize", 256),))


@pytest.mark.parametrize("place", ["imagenet", "ILSVRC2012", "."])
def test_imagenet_is_train_and_val_of_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    image_maker.write_images(tmp_path / place, 2, 1, "jpg", "train val")
    # The images without public labels, which lie there too.
    (tmp_path / place / "test").mkdir()
    settings = small_imagenet(monkeypatch)
    ensure("imagenet", tmp_path, settings.options, settings.fingerprint)
    images = load(settings, tmp_path)
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
    with pytest.raises(DataError, match="3 classes"):
        ensure("imagenet", tmp_path)
    with pytest.raises(DataError, match="not 1000"):
        load(settings, tmp_path)
    about = describe("imagenet")
    assert (about.shape, about.train, about.test) == ((3, 224, 224), 1_281_167, 50_000)
    assert registry.complete("imagenet")["resize"] == 256


# --- what an image of it is ---------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "value"), [("L", 77), ("P", 5), ("RGBA", (9, 99, 199, 50))])
def test_images_of_other_modes_become_what_is_asked_for(
    tmp_path: Path, mode: str, value: int
) -> None:
    path = tmp_path / "x.png"
    Image.new(mode, (6, 4), value).save(path)
    colour, grey = decode(path, 3), decode(path, 1)
    assert (colour.shape, grey.shape) == ((3, 4, 6), (1, 4, 6))
    with Image.open(path) as opened:
        assert colour[:, 0, 0].tolist() == list(np.array(opened.convert("RGB"))[0, 0])


def test_the_name_on_the_file_does_not_matter_and_cmyk_is_read(tmp_path: Path) -> None:
    # ImageNet has both: a PNG called .JPEG, and a few JPEGs in CMYK.
    for name, image, kind in (
        ("a.JPEG", Image.new("RGB", (5, 4), (10, 20, 30)), "png"),
        ("b.JPEG", Image.new("CMYK", (5, 4), (0, 0, 0, 0)), "jpeg"),
    ):
        image.save(tmp_path / name, kind)
    assert decode(tmp_path / "a.JPEG", 3)[:, 0, 0].tolist() == [10, 20, 30]
    assert decode(tmp_path / "b.JPEG", 3).min() >= 250


@pytest.mark.parametrize("damage", ["empty", "short", "gone"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, damage: str) -> None:
    path = image_maker.write_images(tmp_path, 1, 1, "jpg") / "train/ant/0.jpg"
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[:200] if damage == "short" else b"")
    with pytest.raises(DataError, match=r"ant/0\.jpg"):
        decode(path, 3)


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

"""Streams by purpose, batches and layouts, and that nothing draws from a global generator."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain, pairwise

import pytest
import torch

from prunectl.ml.randomness import epoch_offsets, epoch_order, generator
from prunectl.ml.training.batches import Batches
from prunectl.spec.batch_layout import Layout
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import AugmentSettings, TrainSettings


def test_a_stream_is_a_function_of_seed_and_purpose() -> None:
    draws = [
        tuple(torch.randint(0, 1 << 30, (4,), generator=generator(seed, *purpose)).tolist())
        for seed in (0, 1)
        for purpose in (("order", 0, 0), ("order", 0, 1), ("order", 1, 0), ("augment", 0, 0))
    ]
    assert len(set(draws)) == len(draws)
    assert draws[0] == tuple(
        torch.randint(0, 1 << 30, (4,), generator=generator(0, "order", 0, 0)).tolist()
    )


def test_purposes_cannot_run_into_each_other() -> None:
    assert generator(0, "order", 11).initial_seed() != generator(0, "order", 1, 1).initial_seed()
    assert generator(0, "order", 1).initial_seed() != generator(0, "order", "1").initial_seed()


def test_streams_are_pinned() -> None:
    # Results are stored under seeds: a stream that changed would make them unrepeatable without a word.
    assert generator(0, "order", 0, 0).initial_seed() == SEED
    assert epoch_order(0, 0, 0, 10).tolist() == ORDER


SEED = 14832727520227790508
ORDER = [2, 8, 7, 1, 9, 6, 4, 3, 0, 5]


def test_an_order_is_a_permutation_and_differs_between_epochs() -> None:
    orders = [epoch_order(3, 1, epoch, 100) for epoch in range(3)]
    assert all(order.sort().values.tolist() == list(range(100)) for order in orders)
    assert not any(torch.equal(a, b) for a, b in pairwise(orders))


def test_offsets_cover_all_places_independently() -> None:
    offsets = epoch_offsets(0, 0, 0, 5000, 2)
    assert set(offsets.down.tolist()) == set(offsets.right.tolist()) == {0, 1, 2, 3, 4}
    assert 0.45 < offsets.flip.float().mean() < 0.55
    table = torch.stack([offsets.down, offsets.right, offsets.flip.long()]).float()
    assert (torch.corrcoef(table) - torch.eye(3)).abs().max() < 0.06


def training(**values: object) -> TrainSettings:
    return TrainSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "count", "per_epoch"),
    [
        (training(batch=128), 50_000, Fraction(391)),
        (training(batch=128, drop_last=True), 50_000, Fraction(390)),
        (training(batch=128, straddle=True), 50_000, Fraction(50_000, 128)),
        (training(batch=100), 50_000, Fraction(500)),
        (training(batch=128), 100, Fraction(1)),
    ],
)
def test_steps_per_epoch(settings: TrainSettings, count: int, per_epoch: Fraction) -> None:
    assert Layout(settings, count).per_epoch == per_epoch


def test_182_straddling_epochs_are_71094_steps() -> None:
    assert Layout(training(straddle=True), 50_000).steps(182) == 71_094
    assert Layout(training(), 50_000).steps(182) == 182 * 391


def test_too_few_images_for_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="no batch"):
        Layout(training(drop_last=True), 100)
    with pytest.raises(ValueError, match="no batch"):
        Layout(training(), 0)


def numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that say which they are, in every pixel."""
    index = torch.arange(count)
    pixels = index[:, None, None, None].to(torch.uint8).expand(count, 4, 4, 1).contiguous()
    return pixels.permute(0, 3, 1, 2), index


def drawn(batches: Batches, steps: range, seed: int = 0, iteration: int = 0) -> list[list[int]]:
    out = []
    for step in steps:
        pixels, labels = batches.get(Seeds.of(seed), iteration, step)
        assert torch.equal(pixels[:, 0, 0, 0].long(), labels)
        out.append(labels.tolist())
    return out


def test_each_purpose_has_its_own_seed() -> None:
    """Another order alone moves no crop from its place, another augmentation alone no image."""
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    targets = torch.arange(40)
    batches = Batches(images, targets, training(batch=8, augment=AugmentSettings(1, "zero", True)))
    pixels, labels = (part.clone() for part in batches.get(Seeds(7, 1, 2), 0, 3))
    for seeds, same_images, same_changes in (
        (Seeds(8, 1, 2), True, True),
        (Seeds(7, 1, 3), True, False),
        (Seeds(7, 9, 2), False, True),
    ):
        other, other_labels = batches.get(seeds, 0, 3)
        assert torch.equal(labels, other_labels) == same_images
        assert torch.equal(pixels, other) == (same_images and same_changes)
        offsets = [
            torch.cat([part.flatten() for part in batches.order.offsets(each, 0, 24, 32) or ()])
            for each in (Seeds(7, 1, 2), seeds)
        ]
        assert torch.equal(*offsets) == same_changes


def joined(lists: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def test_batches_within_epochs_keep_or_leave_out_the_short_one() -> None:
    kept = drawn(Batches(*numbered(25), training(batch=10)), range(6))
    assert [len(batch) for batch in kept] == [10, 10, 5, 10, 10, 5]
    assert joined(kept[:3]) == epoch_order(0, 0, 0, 25).tolist()
    assert joined(kept[3:]) == epoch_order(0, 0, 1, 25).tolist()
    dropped = drawn(Batches(*numbered(25), training(batch=10, drop_last=True)), range(4))
    assert [len(batch) for batch in dropped] == [10] * 4
    assert joined(dropped[2:]) == epoch_order(0, 0, 1, 25).tolist()[:20]


@pytest.mark.parametrize("batch", [10, 60])
def test_straddling_batches_are_full_and_lose_nothing(batch: int) -> None:
    batches = drawn(Batches(*numbered(25), training(batch=batch, straddle=True)), range(10))
    assert [len(one) for one in batches] == [batch] * 10
    stream = joined(epoch_order(0, 0, epoch, 25).tolist() for epoch in range(24))
    assert joined(batches) == stream[: 10 * batch]


def test_batches_do_not_depend_on_blocks_or_on_where_one_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = training(batch=7, straddle=True, augment=AugmentSettings(1, "zero", True))
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    whole = Batches(images, torch.arange(40), settings)
    monkeypatch.setattr("prunectl.ml.training.batches.HOST_BLOCK", 1)
    single = Batches(images, torch.arange(40), settings)
    for step in (0, 1, 2, 11, 3, 5, 6):
        pixels, labels = whole.get(Seeds.of(1), 2, step)
        other_pixels, other_labels = single.get(Seeds.of(1), 2, step)
        assert torch.equal(pixels, other_pixels)
        assert torch.equal(labels, other_labels)


def test_another_seed_or_iteration_is_another_stream() -> None:
    batches = Batches(*numbered(25), training(batch=25))
    orders = [drawn(batches, range(1), *key)[0] for key in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3


NOT_GLOBAL = """
import random, numpy, torch
from pathlib import Path
from torch import nn
from prunectl.ml.datasets.images import load
from prunectl.ml.datasets.registry import describe
from prunectl.ml.training.torch_flags import configure
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import AugmentSettings, DataSettings, NormalizeSettings, TrainSettings
from prunectl.ml.training.trainer import Trainer

def forbidden(*arguments, **options):
    raise AssertionError("a global generator was used")

options = (("height", 8), ("train", 64), ("width", 8))
about = describe("synthetic", options)
build = lambda source: nn.Sequential(nn.Flatten(), nn.Linear(192, 10, device="meta").to_empty(device="cpu"))
before = torch.get_rng_state(), numpy.random.get_state()[1].tolist(), random.getstate()
data = DataSettings("synthetic", about.fingerprint, options, "test", 12)
images = load(data, Path("nowhere"))
configure("cpu", TrainSettings())
settings = TrainSettings(batch=24, straddle=True, augment=AugmentSettings(2, "reflect", True),
                         normalize=NormalizeSettings("channel", about.mean, about.std))
trainer = Trainer(build, settings, images)
trainer.initialise(0, 0)
for _ in trainer.train(constant(0.1, 8), Seeds.of(0), 0, 8):
    trainer.evaluate("validation")
after = torch.get_rng_state(), numpy.random.get_state()[1].tolist(), random.getstate()
assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 1
"""


def test_nothing_draws_from_a_global_generator_nor_lacks_a_deterministic_kernel() -> None:
    subprocess.run([sys.executable, "-c", NOT_GLOBAL], check=True)


def test_registries_and_layouts_are_free_of_torch() -> None:
    code = (
        "import sys, prunectl.ml.datasets.registry as r, prunectl.spec.batch_layout\n"
        "r.describe('cifar10'); r.describe('synthetic', (('height', 8),))\n"
        "from prunectl.ml.datasets.files import data_root; data_root()\n"
        "assert not {'torch', 'scipy', 'PIL', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

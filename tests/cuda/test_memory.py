"""What slots hold on a device, and who waits for whom over memory that they share."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from prunectl.ml.training.cuda_graphs import SharedMemory
from tests.cuda.counting import CIFAR, go, images, settings, trainer
from tests.support import fakecuda
from tests.support.fakecuda import counted

pytestmark = [pytest.mark.gpu, pytest.mark.fake]

MEMORY = """
import sys, torch
from tests.cuda.counting import CIFAR, go, images, settings, trainer
network, slots = sys.argv[1], int(sys.argv[2])
data, kept = images(CIFAR, 50_000, 10_000).on("cuda"), []
for seed in range(slots):
    kept.append(trainer(network, settings(batch=128), data, seed=seed))
    go(kept[-1], 400)
    kept[-1].evaluate("test")
print(torch.cuda.max_memory_reserved(), torch.cuda.memory_reserved())
"""


def memory(network: str, slots: int) -> tuple[int, int]:
    """Return the bytes that torch reserves with so many slots at CIFAR's size: at most, and in the end."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, network, str(slots)],
        env=fakecuda.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    most, last = map(int, done.stdout.split())
    return most, last


@pytest.mark.parametrize(
    ("network", "slots", "gib"), [("resnet-20", 3, 1.95), ("wrn-16-8", 1, 2.85)]
)
def test_slots_are_small(network: str, slots: int, gib: float) -> None:
    """The data set's 0.18 GiB included. Evaluating 2,000 images at once in each slot's own memory, and augmenting a
    whole epoch at once, they were 6.1 and 6.8 GiB."""
    most, last = memory(network, slots)
    assert last <= most <= gib * 2**30


@pytest.fixture
def two() -> Iterator[list[object]]:
    """Two trainers of other networks, warm."""
    data = images(CIFAR)
    made = [trainer(name, settings(), data) for name in ("resnet-20", "vgg-16")]
    for each in made:
        go(each, 2)
        each.evaluate("test")
    torch.cuda.synchronize()
    yield made
    for each in made:
        if vars(each):
            each.close()
    gc.collect()


def evaluate_both(two: list[object]) -> list[str]:
    """Queue an evaluation of each, with nothing that the host waits for in between. Returns broken rules."""
    with counted() as counts:
        for made in two:
            with made.slot.queue():
                for pixels, targets in made.images.parts("test", 100):
                    made.evaluator.graphs.run(pixels, targets)
    assert counts.waits == 0
    return [note for note in counts.notes if note.startswith("UNORDERED")]


def test_evaluations_share_memory_and_are_ordered_by_events(two: list[object]) -> None:
    for made in two:  # graphs of this size of batch
        with made.slot.queue():
            made.evaluator.graphs.run(*next(iter(made.images.parts("test", 100))))
    torch.cuda.synchronize()
    assert not evaluate_both(two)


def test_without_the_event_evaluations_would_overlap(
    two: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for made in two:
        with made.slot.queue():
            made.evaluator.graphs.run(*next(iter(made.images.parts("test", 100))))
    torch.cuda.synchronize()
    monkeypatch.setattr(SharedMemory, "_wait", lambda self, stream: None)
    assert evaluate_both(two)


def test_a_trainer_that_goes_leaves_the_others_evaluations_alone(two: list[object]) -> None:
    goes, stays = two
    goes.close()
    gc.collect()
    torch.cuda.empty_cache()
    with counted() as counts:
        stays.evaluate("test")
    assert not counts.notes


OTHER_DEVICE = """
from tests.cuda.counting import CIFAR, go, images, settings
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.settings import NetworkSettings
made = Trainer(NetworkSettings("resnet-20", CIFAR, 10), settings(), images(CIFAR), "cuda:1")
made.initialise(0, 0)
go(made, 2)
made.evaluate("test")
print(made.notes())
"""


def test_evaluations_are_recorded_on_a_device_that_is_not_the_current_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_DEVICE],
        env=fakecuda.environment(devices=2),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"

"""What training asks of CUDA, counted on the fake runtime; a table of it: `python -m tests.support.fakecuda run python
-m tests.cuda.counting`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from prunectl.ml.datasets.images import Images
from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    AugmentSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    Shape,
    TrainSettings,
)
from tests.support.fakecuda import Counts, counted
from tests.support.prunable import some_masks

CIFAR = (3, 32, 32)
NETWORKS: dict[str, Shape] = {
    "resnet-20": CIFAR,
    "wrn-16-8": CIFAR,
    "vgg-16": CIFAR,
    "resnet-50": (3, 64, 64),
}
"""With the images they are counted on; ResNet-50's are smaller than ImageNet's, which changes no kernel's name."""
BATCH = 16
IMAGES = 200


def images(shape: Shape, train: int = IMAGES, test: int = IMAGES) -> Images:
    """Return black images of 10 classes."""
    channels, height, width = shape
    splits = []
    for count in (train, test):
        pixels = torch.zeros((count, height, width, channels), dtype=torch.uint8)
        splits += [pixels.permute(0, 3, 1, 2), torch.zeros(count, dtype=torch.int64)]
    return Images(*splits, 10)


def settings(precision: str = "fp32", **values: object) -> TrainSettings:
    """Return the training that is counted."""
    chosen: dict[str, object] = {
        "batch": BATCH,
        "straddle": True,
        "precision": precision,
        "optimizer": OptimizerSettings(nesterov=True, weight_decay=1e-4),
        "augment": AugmentSettings(4, "zero", True),
        "normalize": NormalizeSettings("channel", (0.5,) * 3, (0.25,) * 3),
    }
    return TrainSettings(**{**chosen, **values})  # type: ignore[arg-type]


def trainer(
    network: str, train: TrainSettings, data: Images | None = None, *, seed: int = 0
) -> Trainer:
    """Return a trainer on the device, initialised."""
    configure("cuda", train)
    shape = NETWORKS.get(network, CIFAR)
    made = Trainer(NetworkSettings(network, shape, 10), train, data or images(shape), "cuda")
    made.initialise(seed, 0)
    return made


def go(made: Trainer, until: int) -> None:
    """Train up to a step."""
    for _ in made.train(constant(0.1, 10_000), Seeds.of(0), 0, until):
        pass


@dataclass(frozen=True)
class Training:
    """What each part of a training asks for, once everything is warm."""

    step: Counts
    """One step, its images there already."""
    epoch: Counts
    """One epoch with its metrics."""
    evaluation: Counts
    """Of the test images."""
    predictions: Counts
    """Reading what it predicted."""
    checkpoint: Counts
    """A copy of the whole state."""
    start: Counts
    """Loading a state, with masks where there are any."""
    capture: Counts
    """The first step: warm-up and recording."""


def count(network: str, precision: str, *, masks: bool, **values: object) -> Training:
    """Count a training's parts."""
    made = trainer(network, settings(precision, **values))
    chosen = some_masks(made.parameters) if masks else None
    made.set_masks(chosen)

    def counts(call: Callable[[], object]) -> Counts:
        torch.cuda.synchronize()
        with counted() as found:
            call()
        return found

    def start() -> None:
        made.load(state)
        made.set_masks(chosen)

    capture = counts(lambda: go(made, 1))
    go(made, 3)
    step = counts(lambda: go(made, 4))
    go(made, 25)
    made.metrics()
    epoch = counts(lambda: [go(made, 50), made.metrics(), made.lrs_applied()])
    made.evaluate("test")
    evaluation = counts(lambda: made.evaluate("test"))
    predictions = counts(made.predictions)
    state = made.state()
    checkpoint = counts(made.state)
    found = Training(step, epoch, evaluation, predictions, checkpoint, counts(start), capture)
    made.close()
    return found


def main() -> None:
    """Print a table."""
    for network in sys.argv[1:] or NETWORKS:
        for precision in ("fp32", "tf32", "bf16", "fp16"):
            for masks in (False, True):
                found = count(network, precision, masks=masks)
                print(network, precision, "masks" if masks else "")
                for name, each in vars(found).items():
                    copies = {between: tuple(n) for between, n in each.copies.items()}
                    print(
                        f"  {name:10} eager {each.launched(0):5} captured {each.launched(1):5} "
                        f"replayed {each.launched(2):6} graphs {each.calls['cudaGraphLaunch']:3} "
                        f"waits {each.waits:4} {copies} {each.notes}"
                    )


if __name__ == "__main__":
    main()

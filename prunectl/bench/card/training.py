"""Trainers that parts make in their own process, and what became of them."""

from __future__ import annotations

import torch
from msgspec.structs import replace

from prunectl.bench.baselines import images_of, masks_of
from prunectl.bench.card.records import Order
from prunectl.bench.records import Options, Work
from prunectl.bench.workload import CIFAR, RATE, network, quick, settings
from prunectl.ml.datasets.images import Images
from prunectl.ml.training.state import TrainingState
from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds

LR = constant(RATE, 1 << 20)


def cifar_work(order: Order, name: str) -> Work:
    """Return an epoch of CIFAR-10's size with a network, on the card in TF32."""
    work = quick(CIFAR[name]) if order.quick else CIFAR[name]
    return replace(work, device=order.device, precision="tf32")


class Training:
    """A trainer on a pruned network, and its seed."""

    def __init__(
        self,
        work: Work,
        seed: int = 0,
        options: Options | None = None,
        images: Images | None = None,
    ) -> None:
        options = options or Options()
        configure(work.device, settings(work))
        self.seed = seed
        self.trainer = Trainer(
            network(work),
            settings(work),
            images or images_of(work),
            work.device,
            graphs=options.graphs,
            fuse=options.fuse,
        )
        self.trainer.initialise(seed, 0)
        self.trainer.set_masks(masks_of(self.trainer.parameters))

    def advance(self, steps: int) -> None:
        """Queue so many steps more, as far as the device follows."""
        for _ in self.trainer.train(LR, Seeds.of(self.seed), 0, self.trainer.step + steps):
            pass

    def state(self) -> TrainingState:
        """Return weights, optimizer and sums."""
        return self.trainer.state()


def same(one: TrainingState, other: TrainingState) -> bool:
    """Return whether two states have the same bits."""
    return all(
        torch.equal(values[name], getattr(other, part)[name])
        for part in ("weights", "optimizer", "accumulators")
        for values in (getattr(one, part),)
        for name in values
    )

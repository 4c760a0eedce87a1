"""What is measured: prunectl's stages and trainers, and the loops that people write. Each does a round when called.

stage     a stage from spec to result: prune, train, evaluate each epoch, events, checkpoint
trainer   only the trainer, `slots` of them side by side, launched one by one or as CUDA graphs, fused or not
bare      images as floats in memory, no augmentation, nothing logged: the floor
loader    DataLoader with `workers` processes and torchvision's transforms on PIL images
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from prunectl.bench.records import Kind, Options, Work
from prunectl.bench.workload import RATE, dense_stage, network, pruned_stage, settings
from prunectl.ml.datasets.images import Images, load
from prunectl.ml.networks.build import build
from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.key import NUMERICS, Spec, stage_key
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.stage import Stage
from prunectl.store.files import write_text
from prunectl.store.paths import StorePaths
from prunectl.worker.run import StageControl, run
from prunectl.worker.trainer_cache import TrainerCache

Round = Callable[[], None]
Batches = Callable[[bool], Iterator[tuple[Tensor, Tensor]]]
"""An epoch of training or of test batches."""


def images_of(work: Work) -> Images:
    """Return synthetic images of patterns and noise, the same for every contender."""
    images = load(dense_stage(work).data, Path("."))
    assert isinstance(images, Images)
    return images


def stage(work: Work, options: Options) -> Round:
    """Return rounds of stages as a warm worker runs them, in a store in the option `folder`."""
    folder = Path(options.folder)
    paths = StorePaths(folder)
    trainers = TrainerCache(folder, work.device, fuse=options.fuse)
    number = 0

    def finish(spec: Stage) -> None:
        place = paths.stage(stage_key(spec))
        place.folder.mkdir(parents=True)
        write_text(place.spec, Spec(NUMERICS, spec).to_json())
        control = StageControl()
        for _ in run(stage_key(spec), paths, trainers, control):
            pass
        assert control.outcome == "done"

    finish(dense_stage(work))

    def go() -> None:
        nonlocal number
        number += 1
        finish(pruned_stage(work, number))

    return go


def trainers_alone(work: Work, options: Options) -> Round:
    """Return rounds of the trainer alone: `work.epochs` epochs in each of `slots` trainers, which share the device."""
    configure(work.device, settings(work))
    images = images_of(work)
    graphs, fuse = options.graphs, options.fuse
    trainers = [
        Trainer(network(work), settings(work), images, work.device, graphs=graphs, fuse=fuse)
        for _ in range(options.slots)
    ]
    for seed, trainer in enumerate(trainers):
        trainer.initialise(seed, 0)
        trainer.set_masks(masks_of(trainer.parameters))
    schedule = constant(RATE, 1 << 40)

    def epochs(trainer: Trainer, seed: int) -> Iterator[bool]:
        for _ in range(work.epochs):
            yield from trainer.train(schedule, Seeds.of(seed), 0, trainer.step + work.steps)
            while not trainer.idle():
                yield False
            trainer.metrics()
            trainer.evaluate("test")

    def go() -> None:
        # A step of each in turn from one thread, as a worker does with the stages that share its device.
        going = [epochs(trainer, seed) for seed, trainer in enumerate(trainers)]
        while going:
            going = [steps for steps in going if next(steps, None) is not None]
        for trainer in trainers:
            for note in trainer.notes():
                raise RuntimeError(note)

    return go


def bare(work: Work, options: Options) -> Round:
    """Return rounds of the shortest possible loop, over floats in the memory of the device."""
    images = images_of(work)
    mean, std = (torch.tensor(value)[:, None, None] for value in work.mean_std)

    def floats(pixels: Tensor) -> Tensor:
        return ((pixels.float() / 255 - mean) / std).to(work.device)

    data, labels = floats(images.train_images), images.train_targets.to(work.device)
    tests, answers = floats(images.test_images), images.test_targets.to(work.device)

    def batches(train: bool) -> Iterator[tuple[Tensor, Tensor]]:
        if train:
            order = torch.randperm(work.train, device=work.device)
            for chosen in torch.split(order, work.batch):
                yield data[chosen], labels[chosen]
        else:
            yield from zip(torch.split(tests, 250), torch.split(answers, 250), strict=True)

    return _loop(work, batches)


class _PILImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: through PIL and a chain of transforms."""

    def __init__(self, pixels: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self.pixels = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        image = self.pixels[index]
        opened = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        return self.transform(opened), self.labels[index]


def loader(work: Work, options: Options) -> Round:
    """Return rounds with a DataLoader and torchvision's transforms, one batch after another."""
    return _loop(work, pil_batches(work, options.workers))


def pil_batches(work: Work, workers: int) -> Batches:
    """Return what yields batches from a DataLoader with `workers` persistent processes."""
    from torchvision import transforms

    images = images_of(work)
    plain = [transforms.ToTensor(), transforms.Normalize(*work.mean_std)]
    random = [transforms.RandomCrop(work.shape[1], work.pad), transforms.RandomHorizontalFlip()]
    common: dict[str, Any] = {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": work.device != "cpu",
    }
    training = DataLoader(
        _PILImages(
            images.train_images,
            images.train_targets,
            transforms.Compose(random * bool(work.pad) + plain),
        ),
        batch_size=work.batch,
        shuffle=True,
        **common,
    )
    tests = DataLoader(
        _PILImages(images.test_images, images.test_targets, transforms.Compose(plain)),
        batch_size=250,
        **common,
    )

    def batches(train: bool) -> Iterator[tuple[Tensor, Tensor]]:
        for pixels, labels in training if train else tests:
            yield (
                pixels.to(work.device, non_blocking=True),
                labels.to(work.device, non_blocking=True),
            )

    return batches


def _loop(work: Work, batches: Batches) -> Round:
    """Return rounds of a plain training loop: torch's own optimizer, masks applied after each step, accuracy once an
    epoch."""
    torch.backends.cudnn.allow_tf32 = work.precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = work.precision != "fp32"
    module = build(network(work), torch.Generator().manual_seed(0)).to(work.device)
    masks = masks_of(dict(module.named_parameters()))
    optimizer = torch.optim.SGD(
        module.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=2e-4
    )

    def go() -> None:
        for _ in range(work.epochs):
            train_epoch(work, module, optimizer, masks, batches)
            accuracy(work, module, batches)

    return go


def train_epoch(
    work: Work,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    masks: dict[str, Tensor],
    batches: Batches,
) -> None:
    """Train one epoch."""
    module.train()
    parameters = dict(module.named_parameters())
    kept = {name: mask.to(work.device) for name, mask in masks.items()}
    for pixels, labels in batches(True):
        optimizer.zero_grad()
        with _autocast(work):
            loss = cross_entropy(module(pixels), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for name, mask in kept.items():
                parameters[name].mul_(mask)


@torch.no_grad()
def accuracy(work: Work, module: nn.Module, batches: Batches) -> float:
    """Return the accuracy on the test images, in percent."""
    module.eval()
    right = torch.zeros((), device=work.device)
    for pixels, labels in batches(False):
        with _autocast(work):
            outputs = module(pixels)
        right += (outputs.argmax(1) == labels).sum()
    return 100 * right.item() / work.test


def _autocast(work: Work) -> torch.autocast:
    kind = torch.device(work.device).type
    return torch.autocast(kind, torch.bfloat16, enabled=work.precision == "bf16")


def masks_of(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return random masks that keep a fifth of every kernel."""
    source = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(value.shape, generator=source) < 0.2
        for name, value in parameters.items()
        if value.ndim > 1
    }


CONTENDERS: dict[Kind, Callable[[Work, Options], Round]] = {
    "stage": stage,
    "trainer": trainers_alone,
    "bare": bare,
    "loader": loader,
}

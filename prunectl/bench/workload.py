"""The work that is measured: a network, images, steps; the same for every contender. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

from msgspec.structs import replace

from prunectl.bench.records import Work
from prunectl.ml.datasets.registry import describe
from prunectl.spec.key import stage_key
from prunectl.spec.lr_schedule import constant
from prunectl.spec.settings import (
    AugmentSettings,
    DataSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    PruneSettings,
    TrainSettings,
)
from prunectl.spec.stage import Mask, Stage, Weights

DENSITY = "0.2"
"""Density of the pruned networks that are trained."""
RATE = 0.01


LENET = Work("lenet-300-100", (1, 28, 28), train=12_800, test=2_133, epochs=3)
RESNET = Work("resnet-20", (3, 32, 32), train=1_280, test=256, epochs=3, pad=4)
"""Epochs of a fifth of Fashion-MNIST and a fortieth of CIFAR-10, with as many test images to a step as there; several
to a round, because a stage also evaluates twice before its first step."""
CIFAR = {
    name: Work(name, (3, 32, 32), train=50_000, test=10_000, epochs=1, pad=4)
    for name in ("resnet-20", "resnet-56", "resnet-110", "wrn-16-8")
}


PLAN = """\
name  = "bench"
seeds = {seeds}

[grid]
network  = ["{work.network}"]
dataset  = ["images"]
strategy = {strategies}

[datasets.images]
kind = "synthetic"
channels = {work.shape[0]}
height = {work.shape[1]}
width = {work.shape[2]}
classes = {work.classes}
train = {work.train}
test = {work.test}

[recipe]
length = "{work.epochs}ep"
batch = {work.batch}
evaluate = "1ep"
optimizer = {{ name = "sgd", momentum = 0.9, nesterov = true, weight_decay = 2e-4 }}
schedule = {schedule}
retrain = {{ fine-tune = "full", weight-rewind = "full", lr-rewind = "full" }}

[pruning]
schedule = {{ kind = "iterative", rate = 0.3, iterations = {iterations} }}
"""


def plan_text(
    work: Work,
    seeds: int,
    iterations: int,
    strategies: Sequence[str] = ("fine-tune",),
    schedule: str = f'{{ kind = "constant", lr = {RATE} }}',
) -> str:
    """Return a plan: for each seed a dense network, which is pruned in so many iterations with each strategy."""
    return PLAN.format(
        work=work,
        seeds=list(range(seeds)),
        iterations=iterations,
        strategies=json.dumps(strategies),
        schedule=schedule,
    )


def quick(work: Work) -> Work:
    """Return the same work at a size that takes a fraction of a second: it tries everything and measures nothing."""
    return replace(work, batch=16, train=40, test=20, epochs=1)


def network(work: Work) -> NetworkSettings:
    """Return the network as a stage has it."""
    return NetworkSettings(work.network, work.shape, work.classes)


def settings(work: Work) -> TrainSettings:
    """Return the training as a stage has it."""
    mean, std = work.mean_std
    return TrainSettings(
        batch=work.batch,
        evaluate_every=work.steps,
        optimizer=OptimizerSettings(nesterov=True, weight_decay=2e-4),
        augment=AugmentSettings(work.pad, "zero", flip=bool(work.pad)),
        normalize=NormalizeSettings("channel", mean, std),
        precision=work.precision,
        deterministic=work.deterministic,
    )


def dense_stage(work: Work) -> Stage:
    """Return the stage that trains the dense network for one epoch, which `pruned_stage` starts from."""
    channels, height, width = work.shape
    shape = {"channels": channels, "height": height, "width": width, "classes": work.classes}
    options = tuple(sorted({**shape, "train": work.train, "test": work.test}.items()))
    data = DataSettings("synthetic", describe("synthetic", options).fingerprint, options)
    return Stage(network(work), data, settings(work), constant(RATE, work.steps), seed=0)


def pruned_stage(work: Work, number: int) -> Stage:
    """Return the stage of the `number`-th round: pruned, then trained for `work.epochs`."""
    dense = dense_stage(work)
    parent = stage_key(dense)
    return replace(
        dense,
        lr=constant(RATE, work.steps * work.epochs),
        seed=number,
        iteration=1,
        weights=Weights(parent),
        mask=Mask(parent, PruneSettings(density=DENSITY)),
    )

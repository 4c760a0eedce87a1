"""Small made-up studies, and what each of their stages must come to."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from prunectl.scheduler.executors.simulated_behaviour import EPOCH_STEPS
from prunectl.scheduler.executors.simulated_chain import link, next_value
from prunectl.spec.key import NUMERICS, Spec, spec_key
from prunectl.spec.lr_schedule import constant
from prunectl.spec.settings import DataSettings, NetworkSettings, PruneSettings, TrainSettings
from prunectl.spec.stage import Mask, Stage, Weights
from prunectl.spec.study import PlannedStage, Study
from prunectl.spec.trial import Trial

NETWORK = NetworkSettings("lenet-300-100", (1, 28, 28), 10)
DATA = DataSettings("mnist", "0" * 16)


def dense(seed: int, epochs: int, precision: str) -> Stage:
    """Return the stage that trains a dense network."""
    train = replace(TrainSettings(), precision=precision)
    return Stage(NETWORK, DATA, train, constant(0.1, epochs * EPOCH_STEPS), seed)


def retrain(start: Stage, parent: str, source: Weights, iteration: int, epochs: int) -> Stage:
    """Return a stage that prunes what `parent` ended with, and trains from `source`."""
    return replace(
        start,
        lr=constant(0.1, epochs * EPOCH_STEPS),
        iteration=iteration,
        weights=source,
        mask=Mask(parent, PruneSettings(density=f"0.{9 - iteration}")),
    )


def study(name: str, seeds: Iterable[int], chance: random.Random) -> Study:
    """Make a study: for each seed a dense network, fine-tuned and rewound, in one or two iterations each."""
    epochs, iterations = chance.randint(2, 4), chance.randint(1, 3)
    rewind = EPOCH_STEPS * chance.randint(0, epochs - 1)
    precision = chance.choice(("fp32", "fp32", "bf16"))
    stages: dict[str, Stage] = {}
    trials: list[Trial] = []
    for seed in seeds:
        start = dense(seed, epochs, precision)
        first = _add(stages, start)
        for strategy in ("fine-tune", "weight-rewind"):
            path = [first]
            for iteration in range(1, iterations + 1):
                source = (
                    Weights(path[-1]) if strategy == "fine-tune" else Weights(first, step=rewind)
                )
                made = retrain(start, path[-1], source, iteration, chance.randint(1, epochs))
                path.append(_add(stages, made))
            sparsities = ("0", *(f"0.{number}" for number in range(1, iterations + 1)))
            trial = Trial(
                f"{len(trials):08x}{link(name, strategy)[:8]}", link(name, strategy)[:16], seed,
                tuple(path), sparsities, name, network="lenet-300-100", strategy=strategy,
            )  # fmt: skip
            trials.append(trial)
    planned = {
        key: PlannedStage(Spec(NUMERICS, stage), stage.steps, EPOCH_STEPS)
        for key, stage in stages.items()
    }
    digest = link(name, " ".join(stages))[:16]
    return Study(created=1.0, digest=digest, name=name, trials=tuple(trials), stages=planned)


def _add(stages: dict[str, Stage], stage: Stage) -> str:
    key = spec_key(Spec(NUMERICS, stage))
    stages[key] = stage
    return key


def values(stages: Mapping[str, Stage]) -> dict[str, str]:
    """Return what each stage must end with: its chain of links, computed from its parents alone."""
    return {key: _chain(stages, key)[-1] for key in stages}


def _chain(stages: Mapping[str, Stage], key: str) -> list[str]:
    stage = stages[key]
    value = key
    if stage.weights.stage is not None:
        source = _chain(stages, stage.weights.stage)
        step = stage.weights.step
        value = link(value, source[-1] if step is None else source[step // EPOCH_STEPS])
    if stage.mask is not None:
        value = link(value, _chain(stages, stage.mask.parent)[-1])
    found = [value]
    for step in range(EPOCH_STEPS, stage.steps + 1, EPOCH_STEPS):
        found.append(next_value(found[-1], step))
    return found

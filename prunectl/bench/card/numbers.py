"""Step `numbers`: the quickstart study on the card against the same on the CPU, in strict fp32.

Both compute the same sums in another order, so they agree at first and drift apart as training amplifies the last
bits; seeds differ far more than devices may.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunectl.bench.card.records import Check, Figure, Order, Outcome
from prunectl.bench.card.studies import finish
from prunectl.ml.datasets.images import load
from prunectl.ml.summarise import examine
from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.spec.stage import Stage
from prunectl.spec.trial import Trial
from prunectl.store.paths import StorePaths
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_result
from prunectl.store.tensors import read_checked

STEPS = 100
TOLERANCE = 1e-3
"""Relative, of losses and weights in the first 100 steps."""
DEVIATIONS = 3.0
"""Standard deviations between seeds that the means of both devices may lie apart: of means over three seeds that is
3.7 of their own."""

PLAN = """\
name  = "quickstart"
seeds = {seeds}

[grid]
network  = ["convnet"]
dataset  = ["digits"]
strategy = ["fine-tune", "weight-rewind", "lr-rewind"]

[recipe]
base = "quickstart"
precision = "fp32"
{shorter}
[pruning]
schedule = {{ kind = "iterative", rate = 0.3, until = {until} }}
"""
SHORTER = """\
length = "4ep"
retrain = { weight-rewind = "3ep" }
schedule = { milestones = ["2ep", "3ep"] }
"""


def plan_text(order: Order) -> str:
    """Return the study's plan: plans/quickstart.toml in strict fp32."""
    if order.quick:
        return PLAN.format(seeds=[0, 1], shorter=SHORTER, until=0.5)
    return PLAN.format(seeds=[0, 1, 2], shorter="", until=0.95)


def run(order: Order) -> Outcome:
    """Do one part."""
    if order.part == "steps":
        return first_steps(order)
    if order.part == "compared":
        return compared(order)
    device = "cpu" if order.part == "cpu" else order.device
    store = study(order, device)
    seconds = sum(result.seconds or 0.0 for result in results(store).values())
    return Outcome(figures=(Figure(f"training on {device}", seconds, "s"),))


def study(order: Order, device: str) -> StorePaths:
    """Return the store of the study on a device; run to its end where it has not been."""
    order.work.mkdir(parents=True, exist_ok=True)
    plan = order.work / "quickstart.toml"
    plan.write_text(plan_text(order), encoding="utf-8")
    return finish(plan, order.work / f"quickstart-{torch.device(device).type}", device)


def results(store: StorePaths) -> dict[str, Result]:
    """Return the results of a store's stages, by key."""
    folders = (store.stage(folder.name) for folder in sorted(store.stages.iterdir()))
    return {each.key: read_result(each) for each in folders}


# --- the first steps ------------------------------------------------------------------------------


def expansion(order: Order) -> Expansion:
    """Return the study's trials and stages."""
    return expand(loads(plan_text(order)), examine)


def first_steps(order: Order) -> Outcome:
    """Train the dense network on both devices, and compare each step's loss and the weights after the last."""
    found = expansion(order)
    stage = found.stages[found.trials[0].path[0]]
    steps = min(STEPS, stage.steps)
    here, there = (trained(stage, device, steps) for device in ("cpu", order.device))
    losses = [relative(a, b) for a, b in zip(here[0], there[0], strict=True)]
    apart = {name: distance(here[1][name], there[1][name]) for name in here[1]}
    worst = max(apart, key=lambda name: apart[name])
    over = next((step for step, each in enumerate(losses) if not each <= TOLERANCE), None)
    said = f"at most {max(losses):.2g} apart, relative"
    said += "" if over is None else f"; over {TOLERANCE:g} from step {over + 1} on"
    return Outcome(
        (
            Check(f"losses of {steps} steps within {TOLERANCE:g}", over is None, said),
            Check(
                f"weights after {steps} steps within {TOLERANCE:g}",
                bool(apart[worst] <= TOLERANCE),
                f"{worst} {apart[worst]:.2g} apart, relative",
            ),
        ),
        tuple(
            Figure(f"loss at step {step}, apart", losses[step - 1], "relative")
            for step in (1, 10, 30, 100)
            if step <= steps
        ),
    )


def trained(stage: Stage, device: str, steps: int) -> tuple[list[float], dict[str, Tensor]]:
    """Train a stage's first steps. Returns the loss of each, and the weights after the last."""
    configure(device, stage.train)
    trainer = Trainer(stage.network, stage.train, load(stage.data), device)
    trainer.initialise(stage.seed, stage.iteration)
    losses = []
    for step in range(1, steps + 1):
        for _ in trainer.train(stage.lr, stage.seeds, stage.iteration, step):
            pass
        losses.append(trainer.metrics().loss)
    return losses, trainer.state().weights


def relative(one: float, other: float) -> float:
    """Return how far a number is from another, by the other's size; NaN counts as infinite."""
    value = abs(one - other) / max(abs(one), 1e-12)
    return value if value == value else float("inf")


def distance(one: Tensor, other: Tensor) -> float:
    """Return the norm of the difference of two tensors by the norm of the first."""
    return relative(
        1.0, 1.0 + float((one - other).double().norm() / one.double().norm().clamp_min(1e-12))
    )


# --- whole studies --------------------------------------------------------------------------------


def compared(order: Order) -> Outcome:
    """Compare what both studies came to; they are run first where they have not been."""
    found = expansion(order)
    here, there = study(order, "cpu"), study(order, order.device)
    return Outcome(
        tuple(scores_apart(found.trials, results(here), results(there))),
        tuple(overlaps(found, here, there)),
    )


def scores_apart(
    trials: tuple[Trial, ...], here: dict[str, Result], there: dict[str, Result]
) -> Iterator[Check]:
    """Compare mean scores of strategies and iterations, by the seeds' standard deviation at that iteration."""
    scores: dict[int, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        for iteration, key in enumerate(trial.path):
            for device, known in (("cpu", here), ("card", there)):
                score = known[key].score
                scores[iteration][trial.strategy, device].append(
                    float("nan") if score is None else score
                )
    for iteration, cells in scores.items():
        variances = [statistics.variance(values) for values in cells.values()]
        deviation = statistics.fmean(variances) ** 0.5
        gaps = {
            strategy: statistics.fmean(values) - statistics.fmean(cells[strategy, "cpu"])
            for (strategy, device), values in cells.items()
            if device == "card"
        }
        worst = max(gaps, key=lambda name: abs(gaps[name]))
        yield Check(
            f"scores at iteration {iteration} within {DEVIATIONS:g} deviations of seeds",
            all(abs(gap) <= DEVIATIONS * deviation for gap in gaps.values()),
            f"{worst} {gaps[worst]:+.2f} points, deviation {deviation:.2f}",
        )


def overlaps(found: Expansion, here: StorePaths, there: StorePaths) -> Iterator[Figure]:
    """Yield the share of kept weights that both devices keep, by iteration, and what chance would give."""
    shares, densities = defaultdict(list), {}
    for key, stage in found.stages.items():
        if stage.mask is not None:
            one, other = (kept(store.stage(key).mask) for store in (here, there))
            shares[stage.iteration].append(float((one & other).sum() / one.sum()))
            densities[stage.iteration] = float(one.mean())
    for iteration in sorted(shares):
        mean = statistics.fmean(shares[iteration])
        by_chance = f"by chance {100 * densities[iteration]:.0f}"
        label = f"weights that both keep, iteration {iteration} ({by_chance})"
        yield Figure(label, 100 * mean, "%")


def kept(path: Path) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Read a mask of all layers, flat."""
    masks = read_checked(path).masks()
    return np.concatenate([masks[name] for name in sorted(masks)])

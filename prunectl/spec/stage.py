"""What a stage is: one frozen value, complete, hashable, and the same on every machine.

    StageSpec = network + data + training + learning rates + seed + iteration
              + where the weights come from + where the mask comes from

Its canonical form and key are made in `spec.key`. Lengths are steps; nothing here names a device or a path.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from prunectl.spec.lr_schedule import Schedule, length, window
from prunectl.spec.settings import DataSettings, NetworkSettings, PruneSettings, TrainSettings


@dataclass(frozen=True)
class Weights:
    """Where a stage's weights (and BatchNorm statistics) come from."""

    stage: str | None = None
    """Key of the stage, None for a fresh initialisation drawn from (seed, iteration)."""
    step: int | None = None
    """Step of that stage's training; None for its end."""


@dataclass(frozen=True)
class Mask:
    """Where a stage's mask comes from: scored on the end weights of `parent`, under the parent's own mask."""

    parent: str
    settings: PruneSettings = field(default_factory=PruneSettings)


@dataclass(frozen=True)
class StageSpec:
    """The unit of work, caching and scheduling: train a dense network, or prune and retrain once."""

    network: NetworkSettings
    data: DataSettings
    train: TrainSettings
    lr: Schedule
    seed: int
    iteration: int = 0
    """0 trains the dense network; k ≥ 1 is the k-th prune-and-retrain. Randomness depends on it."""
    weights: Weights = field(default_factory=Weights)
    mask: Mask | None = None
    optimizer_state: Literal["fresh", "carried"] = "fresh"
    """Momentum zero, or from the checkpoint the weights come from."""
    batchnorm: Literal["source", "parent"] = "source"
    """BatchNorm's parameters and statistics with the weights, or kept from the parent."""
    replay: bool = False
    """Only make a checkpoint: train the dense stage `weights.stage` again from its nearest earlier checkpoint up
    to `weights.step`. Everything else is the dense stage's own."""

    @property
    def steps(self) -> int:
        """Optimizer steps the stage trains."""
        return length(self.lr)

    def needs(self) -> frozenset[str]:
        """Keys of the stages that must be done before this one can start."""
        keys = {self.weights.stage, self.mask.parent if self.mask else None}
        return frozenset(key for key in keys if key)


def replay_of(dense: StageSpec, key: str, step: int) -> StageSpec:
    """The stage that trains the dense stage `key` again up to step number `step`, to make a rewind checkpoint of it.

    Both sides build the same value from the dense stage, so both know its key: the scheduler, which queues it, and
    the stage that starts from `rewind-<step>`, which looks in the dense stage's folder first and in the replay's
    second.

    Raises ValueError where the stage is no dense stage (only those start from nothing but their seed), and where it
    has no such step.
    """
    if dense.weights.stage is not None or dense.mask is not None or dense.replay:
        raise ValueError("only a dense stage can be replayed")
    return replace(
        dense,
        lr=window(dense.lr, 0, step),
        weights=Weights(stage=key, step=step),
        replay=True,
    )

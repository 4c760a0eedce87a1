"""What a stage is: one frozen value, complete, hashable, and the same on every machine.

    Stage = network + data + task + training + learning rates + seeds + iteration
          + where the weights come from + where the mask comes from

The one type of a stage: a plan makes it, its record and spec.json hold it, the worker trains it. Its canonical form and
key are made in `spec.key`, which leaves out what has its default. Lengths are steps; nothing here names a device or a
path.

Some fields say more than this version can do (`Stage.beyond`): they are there so that what reads stages is ready for
all forms, and a store that holds them is read; the worker refuses to train them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from prunectl.spec.lr_schedule import MOST_SEGMENTS, Schedule, length, window
from prunectl.spec.ranges import Count, Real, Seed, Small, Whole
from prunectl.spec.seeds import Seeds, check_left_out
from prunectl.spec.settings import DataSettings, NetworkSettings, PruneSettings, TrainSettings
from prunectl.spec.task import DEFAULT_TASK


class Weights(msgspec.Struct, frozen=True):
    """Where a stage's weights (and BatchNorm statistics) come from."""

    stage: Annotated[
        str | None,
        Meta(
            description="key of the stage that weights come from; null for a fresh initialisation, drawn from seed and "
            "iteration"
        ),
    ] = None
    step: Annotated[
        Count | None,
        Meta(
            description="step of that stage's training that they are taken before; null for its end"
        ),
    ] = None


class MaskChange(msgspec.Struct, frozen=True):
    """A change of the mask inside the stage's own training."""

    step: Count
    """Before this optimizer step."""
    settings: PruneSettings


class Mask(msgspec.Struct, frozen=True):
    """Where a stage's mask comes from: scored on the end weights of `parent`, under the parent's own mask."""

    parent: Annotated[str, Meta(description="key of the stage that the mask is scored on")]
    settings: PruneSettings = PruneSettings()
    program: tuple[MaskChange, ...] = ()
    """How it changes while the stage trains."""


class RateRule(msgspec.Struct, frozen=True):
    """Learning rates that are known only once the mask is: computed from facts of the pruning."""

    rule: str
    """Its name."""
    steps: Count
    """Optimizer steps that it is for."""
    options: tuple[tuple[str, str | Whole | Real], ...] = ()
    """Sorted (name, value) pairs."""


class Stage(msgspec.Struct, frozen=True):
    """The unit of work, caching and scheduling: train a dense network, or prune and retrain once."""

    network: NetworkSettings
    data: DataSettings
    train: TrainSettings
    lr: Annotated[Schedule, Meta(max_length=MOST_SEGMENTS)]
    """Empty where `lr_rule` makes it."""
    seed: Seed
    """Of the initialisation and of random criteria; of the rest, too, where it has no seed of its own."""
    iteration: Small = 0
    """0 trains the dense network; k ≥ 1 is the k-th prune-and-retrain. Randomness depends on it."""
    weights: Weights = Weights()
    mask: Mask | None = None
    optimizer_state: Literal["fresh", "carried"] = "fresh"
    """Momentum zero, or from the checkpoint the weights come from."""
    batchnorm: Literal["source", "parent"] = "source"
    """BatchNorm's parameters and statistics with the weights, or kept from the parent."""
    replay: bool = False
    """Only make a checkpoint: train the dense stage `weights.stage` again from its nearest earlier checkpoint up
    to `weights.step`. Everything else is the dense stage's own."""
    task: str = DEFAULT_TASK
    """A name `ml.tasks.registry` knows: what is minimised and measured."""
    averaged_with: tuple[Weights, ...] = ()
    """Further sources; the weights are the mean of all."""
    lr_rule: RateRule | None = None
    order_seed: Seed | None = None
    """Of the order of training images; left out where it is `seed`."""
    augment_seed: Seed | None = None
    """Of the random changes of training images; left out where it is `seed`, and where nothing is drawn from it."""
    code: str | None = None
    """Hash of the user's own code that the names above refer to."""

    def __post_init__(self) -> None:
        """Raise ValueError for seeds that are to be left out: two keys must not mean the same numbers."""
        check_left_out(self.seed, self.order_seed, self.augment_seed)
        if self.augment_seed is not None and not self.train.augment.draws:
            raise ValueError("augment_seed: this training changes no images at random")

    @property
    def seeds(self) -> Seeds:
        """The seeds of all purposes."""
        return Seeds.of(self.seed, self.order_seed, self.augment_seed)

    @property
    def steps(self) -> int:
        """Optimizer steps the stage trains."""
        return length(self.lr) if self.lr_rule is None else self.lr_rule.steps

    @property
    def checkpoint(self) -> tuple[str, int] | None:
        """(stage, step) of the checkpoint inside another stage's training that it starts from; None without one."""
        stage, step = self.weights.stage, self.weights.step
        return None if stage is None or step is None else (stage, step)

    @property
    def needs(self) -> frozenset[str]:
        """Keys of the stages that must be done before this one can start."""
        keys = {source.stage for source in (self.weights, *self.averaged_with)}
        if self.mask is not None:
            keys.add(self.mask.parent)
        return frozenset(key for key in keys if key is not None)

    @property
    def dense(self) -> bool:
        """Whether it starts from nothing but its seed."""
        return not self.needs

    @property
    def beyond(self) -> str | None:
        """What of the stage this version cannot compute, in words; None where it can all of it."""
        found = (
            ("learning rates made by a rule", self.lr_rule is not None),
            ("weights from several stages", self.averaged_with),
            ("a mask that changes while it trains", self.mask is not None and self.mask.program),
            ("code of the user's own", self.code is not None),
        )
        return next((what for what, is_there in found if is_there), None)


def replay_of(dense: Stage, key: str, step: int) -> Stage:
    """The stage that trains the dense stage `key` again up to step number `step`, to make a rewind checkpoint of it.

    Both sides build the same value from the dense stage, so both know its key: the scheduler, which queues it, and
    the stage that starts from `rewind-<step>`, which looks in the dense stage's folder first and in the replay's
    second.

    Raises ValueError where the stage is no dense stage (only those start from nothing but their seed), and where it
    has no such step.
    """
    if not dense.dense or dense.replay:
        raise ValueError("only a dense stage can be replayed")
    return replace(
        dense,
        lr=window(dense.lr, 0, step),
        weights=Weights(stage=key, step=step),
        replay=True,
    )

"""The result of a stage, `stages/<key>/result.json`: written last, so that a stage that has one is done."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from prunectl.store.records.base import Amount, Count, Finite, Key, Measured, Steps

Versions = Annotated[
    dict[str, str | int | None], Meta(description="of packages, and `numerics`, by name")
]


class Counts(Measured):
    """What a mask leaves of a network. A stage that prunes nothing has no `dead_layers`; a replay counts nothing."""

    kept: Annotated[Count | None, Meta(description="prunable weights that the mask keeps")] = None
    prunable: Annotated[Count | None, Meta(description="prunable weights of the dense network")] = (
        None
    )
    parameters: Annotated[Count | None, Meta(description="parameters of the dense network")] = None
    kept_parameters: Annotated[Count | None, Meta(description="parameters that are kept")] = None
    macs: Annotated[
        Count | None, Meta(description="multiply-adds for one image with the kept weights")
    ] = None
    macs_dense: Annotated[Count | None, Meta(description="multiply-adds for one image, dense")] = (
        None
    )
    dead_layers: Annotated[
        tuple[str, ...] | None, Meta(description="layers that lost all their weights")
    ] = None

    def count_from(self, other: Counts) -> None:
        """Take the counts over from another record."""
        for name in COUNTS:
            setattr(self, name, getattr(other, name))


COUNTS = ("kept", "prunable", "parameters", "kept_parameters", "macs", "macs_dense", "dead_layers")


class Result(Counts, tag="done"):
    """The stage is done: its log's last record and, written after all else, its result.json.

    A replay, which trained a dense network again to leave a checkpoint, has no counts and no scores before the first
    step; without epochs, those of the last epoch are null. `attempt` counts the attempts it took.
    """

    key: Key = ""
    replay: Annotated[bool, Meta(description="it only made a checkpoint, and measured nothing")] = (
        False
    )
    seed: Annotated[int, Meta(description="the trial's seed")] = 0
    iteration: Annotated[Count, Meta(description="0 dense, 1, 2 … prunings")] = 0
    steps: Annotated[
        Steps, Meta(description="optimizer steps done: fewer than planned where it diverged")
    ] = 0
    flag: Annotated[
        str | None,
        Meta(
            description="diverged: a loss is not finite; collapsed: the score is within three standard errors of "
            "chance, or worse; else null"
        ),
    ] = None
    loss_start: Annotated[Finite, Meta(description="test loss before the first step")] = None
    score_start: Annotated[Finite, Meta(description="test score before the first step")] = None
    score_pruned: Annotated[
        Finite, Meta(description="test score right after pruning; null for dense networks")
    ] = None
    train_loss: Annotated[Finite, Meta(description="of the last epoch")] = None
    loss: Annotated[Finite, Meta(description="of the last epoch, test set")] = None
    validation_loss: Annotated[Finite, Meta(description="of the last epoch")] = None
    train_score: Annotated[Finite, Meta(description="of the last epoch")] = None
    score: Annotated[Finite, Meta(description="of the last epoch, test set")] = None
    validation_score: Annotated[Finite, Meta(description="of the last epoch")] = None
    best_score: Annotated[Finite, Meta(description="the best test score of its epochs")] = None
    epochs: Annotated[Count | None, Meta(description="evaluations")] = None
    retrain_epochs: Annotated[
        Amount | None, Meta(description="length of its training in epochs of the data set")
    ] = None
    seconds: Annotated[Amount | None, Meta(description="training time of its epochs, s")] = None
    peak_memory: Annotated[
        Count | None,
        Meta(
            description="most bytes that its worker used of the device, with the stages beside it"
        ),
    ] = None
    device: Annotated[str | None, Meta(description="id of the device it trained on")] = None
    device_name: Annotated[str | None, Meta(description="the device's model")] = None
    mode: Annotated[str | None, Meta(description="how steps were launched (`Trainer.mode`)")] = None
    versions: Versions = {}
    started: Annotated[Finite, Meta(description="of the last attempt, Unix seconds")] = None
    ended: Annotated[Finite, Meta(description="Unix seconds")] = None
    files: Annotated[
        dict[str, int], Meta(description="bytes of its checkpoints and mask, by name")
    ] = {}

"""The result of a stage, `stages/<key>/result.json`: written last, so that a stage that has one is done."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from prunectl.spec.ranges import Amount, Count, Percent, Seed, Small, Whole
from prunectl.store.records.base import (
    DigestBefore,
    Finite,
    Key,
    LinesBefore,
    Measured,
    Steps,
    Time,
)
from prunectl.store.records.texts import LAST, measured

Versions = Annotated[
    dict[str, str | Whole | None],
    Meta(description="versions of the packages that computed it, and `numerics`, by name"),
]


class Counts(Measured):
    """What a mask leaves of a network. A stage that prunes nothing has no `dead_layers`; a replay counts nothing.

    Raises ValueError where a part is more than the whole.
    """

    kept: Annotated[Count | None, Meta(description="prunable weights that the mask keeps")] = None
    prunable: Annotated[Count | None, Meta(description="prunable weights of the dense network")] = (
        None
    )
    parameters: Annotated[
        Count | None, Meta(description="trainable parameters of the dense network")
    ] = None
    kept_parameters: Annotated[
        Count | None,
        Meta(description="parameters left: kept weights and all that are not prunable"),
    ] = None
    macs: Annotated[
        Count | None,
        Meta(
            description="theoretical MACs: multiply-adds of the kept weights for one image (convolutions and dense "
            "layers); a device is faster by them only where it skips pruned weights"
        ),
    ] = None
    macs_dense: Annotated[
        Count | None,
        Meta(description="theoretical MACs of the dense network: its multiply-adds for one image"),
    ] = None
    dead_layers: Annotated[
        tuple[str, ...] | None,
        Meta(description="prunable layers without a weight left; null where nothing was pruned"),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for part, whole in PARTS_OF:
            some, total = getattr(self, part), getattr(self, whole)
            if some is not None and total is not None and some > total:
                raise ValueError(f"{part} is {some}, more than {whole}, {total}")

    def count_from(self, other: Counts) -> None:
        """Take the counts over from another record."""
        for name in COUNTS:
            setattr(self, name, getattr(other, name))


PARTS_OF = (
    ("kept", "prunable"), ("prunable", "parameters"), ("kept_parameters", "parameters"), ("macs", "macs_dense"),
)  # fmt: skip
"""Counts that are a part of others."""
COUNTS = ("kept", "prunable", "parameters", "kept_parameters", "macs", "macs_dense", "dead_layers")


class Result(Counts, tag="done"):
    """The stage is done: its log's last record and, written after all else, its result.json.

    A replay, which trained a dense network again to leave a checkpoint, has no counts and no scores before the first
    step; without epochs, those of the last epoch are null. `attempt` counts the attempts it took.
    """

    key: Key = ""
    replay: Annotated[
        bool, Meta(description="whether it only made a rewind checkpoint of a dense stage")
    ] = False
    seed: Annotated[
        Seed,
        Meta(
            description="seed of the initialisation; spec.json has those of order and augmentation"
        ),
    ] = 0
    iteration: Annotated[
        Small, Meta(description="0 is the dense network, k ≥ 1 the k-th prune-and-retrain")
    ] = 0
    steps: Annotated[
        Steps, Meta(description="optimizer steps done: fewer than planned where it diverged")
    ] = 0
    flag: Annotated[
        str | None,
        Meta(
            description="diverged: the training or test loss of the last evaluation is not finite; collapsed: its test "
            "score is within three standard errors of chance, or worse; null where neither is so, and for a replay"
        ),
    ] = None
    loss_start: Annotated[Finite, Meta(description=measured("loss_start"))] = None
    score_start: Annotated[Finite, Meta(description=measured("score_start"))] = None
    score_pruned: Annotated[Finite, Meta(description=measured("score_pruned"))] = None
    train_loss: Annotated[Finite, Meta(description=measured("train_loss", LAST))] = None
    loss: Annotated[Finite, Meta(description=measured("loss", LAST))] = None
    validation_loss: Annotated[Finite, Meta(description=measured("validation_loss", LAST))] = None
    train_score: Annotated[Finite, Meta(description=measured("train_score", LAST))] = None
    score: Annotated[Finite, Meta(description=measured("score", LAST))] = None
    validation_score: Annotated[Finite, Meta(description=measured("validation_score", LAST))] = None
    best_score: Annotated[Finite, Meta(description=measured("best_score"))] = None
    test_set: Annotated[
        str,
        Meta(
            description="what names the test set whose predictions are kept: sha256 of its data set's settings and its "
            "labels, 64 hex digits; empty where there are none: of a task that is no classification, of more than "
            "65,536 classes, of older versions"
        ),
    ] = ""
    agreement: Annotated[
        Percent | None,
        Meta(
            description="test items that the network takes for the same class as the dense network it was pruned from "
            "does, in %: 100 for the dense network itself; null where the predictions of either are not kept"
        ),
    ] = None
    agreement_with: Annotated[
        str,
        Meta(description="checksum of the dense network's predictions that agreement is with"),
    ] = ""
    ece: Annotated[
        Percent | None,
        Meta(
            description="expected calibration error on the test set, in %: how far the share of right classes and the "
            "mean top-1 probability are apart, in 15 bins of equal width (Guo et al. 2017), of classification alone; "
            "null where an output is not finite"
        ),
    ] = None
    epochs: Annotated[Small | None, Meta(description="how many evaluations it had")] = None
    test_items: Annotated[
        Count | None, Meta(description="items of the test set, which the scores are over")
    ] = None
    retrain_epochs: Annotated[
        Amount | None, Meta(description="length of the stage's training as done, epochs")
    ] = None
    seconds: Annotated[
        Amount | None,
        Meta(
            description="training time by the wall clock of all its epochs, evaluations left out, s"
        ),
    ] = None
    peak_memory: Annotated[
        Count | None,
        Meta(
            description="the most its worker used since it last was without a stage, bytes: what torch reserved on a "
            "CUDA device, else resident; stages beside it included"
        ),
    ] = None
    device: Annotated[str | None, Meta(description="id of the device it trained on")] = None
    device_name: Annotated[str | None, Meta(description="the device's model")] = None
    device_names: Annotated[
        tuple[str, ...],
        Meta(
            description="models of all devices that did steps of it, in order, where they are several: it was "
            "interrupted on one, and went on on another"
        ),
    ] = ()
    mode: Annotated[str | None, Meta(description="how steps were launched (`Trainer.mode`)")] = None
    versions: Versions = {}
    started: Annotated[Time, Meta(description="when the last attempt began, Unix seconds")] = None
    ended: Annotated[Time, Meta(description="when it was done, Unix seconds")] = None
    files: Annotated[
        dict[str, Count],
        Meta(
            description="sizes of its rewind checkpoints, mask, final weights and predictions, bytes, by name"
        ),
    ] = {}
    digests: Annotated[
        dict[str, str],
        Meta(description="checksums of these files' content, sha256 in 64 hex digits, by name"),
    ] = {}
    lines_before: LinesBefore = None
    digest_before: DigestBefore = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs and not self.replay and self.loss is None and self.flag != "diverged":
            raise ValueError("loss is not finite, but it is not flagged as diverged")
        is_checked = self.lines_before is not None  # older versions let the clock be set back
        if is_checked and (self.ended or 0) < (self.started or 0):
            raise ValueError(f"it ended at {self.ended}, before it started at {self.started}")

"""What a stage keeps of each test item: which class its network at the end predicts, and what that says of it."""

from __future__ import annotations

import torch
from torch import Tensor

from prunectl.errors import StoreError
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.ranges import MOST_CLASSES, MOST_ITEMS
from prunectl.spec.stage import Stage
from prunectl.store.paths import StorePaths
from prunectl.store.predictions import agreement, dense_key, read_predictions
from prunectl.store.records.labels import keep_labels, labels_record
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_result
from prunectl.store.tensors import stored_checksum
from prunectl.worker.checkpoint import save_predictions


class KeptPredictions:
    """The predictions of one stage, from its beginning to its end."""

    def __init__(self, paths: StorePaths, key: str, spec: Stage, trainer: Trainer) -> None:
        """Hold the data set's labels to those that the store has of it, or write them there.

        Raises DataError where they are others, StoreError where they cannot be read or written.
        """
        self._paths, self._stage, self._spec, self._trainer = paths, paths.stage(key), spec, trainer
        self._test_set = ""
        self.notes: list[str] = []
        """What the log should say of them."""
        if spec.replay or trainer.labels is None:
            return
        if spec.network.classes > MOST_CLASSES or len(trainer.labels) > MOST_ITEMS:
            self.notes.append(
                f"no predictions are kept of {spec.network.classes:,} classes and {len(trainer.labels):,} test items: "
                f"they may be {MOST_CLASSES:,} and {MOST_ITEMS:,}"
            )
            return
        found = labels_record(spec.data, trainer.labels.tolist())
        keep_labels(paths, found)
        self._test_set = found.test_set

    def finish(self, result: Result) -> None:
        """Write what the last evaluation predicted, and fill in what it says of the network; nothing for a replay.

        Raises StoreError where it cannot be written.
        """
        labels = None if self._spec.replay else self._trainer.labels
        found = self._trainer.predictions()
        if labels is None or found is None:
            return
        result.ece = found.calibration_error(labels)
        if self._test_set:
            save_predictions(self._stage.predictions, found.classes, self._stage.key)
            result.test_set = self._test_set
            self._agree(result, found.classes)

    def _agree(self, result: Result, classes: Tensor) -> None:
        """Fill in the agreement with the dense network that the weights were pruned from, where it kept predictions.

        With the one that is here now: it is the one that the masks were scored on.
        """
        if self._spec.mask is None:
            result.agreement = 100.0
            result.agreement_with = stored_checksum(self._stage.predictions)
            return
        try:
            dense = self._paths.stage(dense_key(self._paths, self._stage.key, self._spec))
            theirs = read_result(dense)
            others = read_predictions(dense, theirs)
        except (FileNotFoundError, StoreError) as error:
            self.notes.append(f"its agreement with the dense network is not known: {error}")
            return
        if others is not None and theirs.test_set == self._test_set:
            result.agreement = agreement(classes.to(torch.uint16).numpy(), others)
            result.agreement_with = theirs.digests[dense.predictions.name]

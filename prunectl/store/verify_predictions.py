"""Check what a stage predicts of its test set against everything else that is said of it, for `store verify`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from prunectl.errors import StoreError
from prunectl.spec.stage import Stage
from prunectl.spec.task import KNOWN, Metric
from prunectl.store.paths import StorePaths
from prunectl.store.predictions import agreement, dense_key, predicted, read_predictions
from prunectl.store.records.base import BadRecord
from prunectl.store.records.labels import Labels, read_labels
from prunectl.store.records.result import Result
from prunectl.store.records.stage import read_result
from prunectl.store.tensors import CheckedFile

if TYPE_CHECKING:
    from prunectl.store.predictions import Classes


def problems(
    paths: StorePaths, stage: Stage, result: Result, checked: CheckedFile | None
) -> Iterator[str]:
    """Yield what is wrong with the predictions of a done stage, a sentence each.

    `checked` is their file, sound by itself; None where there is none, or it has been named already.
    """
    name = paths.stage(result.key).predictions.name
    if name not in result.digests:
        # Results of older versions have no predictions, and claim nothing that rests on them.
        if result.test_set or result.agreement is not None:
            yield f"result.json tells of predictions, and names no {name}"
        return
    if checked is None:
        return
    classes = predicted(checked)
    if classes is None:
        yield f"{name} holds something else than predictions"
        return
    if len(classes) and int(classes.max()) >= stage.network.classes:
        yield f"{name} has class {int(classes.max())} of {stage.network.classes}"
    labels = _labels(paths, stage)
    if isinstance(labels, str):
        yield labels
    elif labels.test_set != result.test_set:
        yield f"{name} is of other test items than {_place(stage, paths)}"
    elif len(labels.labels) != len(classes):
        yield f"{name} is of {len(classes)} test items, of which there are {len(labels.labels)}"
    else:
        yield from _counted(name, stage, result, classes, labels)
    yield from _agreement(paths, stage, result, classes)


def _place(stage: Stage, paths: StorePaths) -> str:
    path = paths.labels_of(stage.data)
    return path.relative_to(paths.root).as_posix()


def _labels(paths: StorePaths, stage: Stage) -> Labels | str:
    """Read the labels of a stage's test set. Returns what is wrong where they are not there."""
    try:
        return read_labels(paths.labels_of(stage.data))
    except FileNotFoundError:
        return f"the labels of its test set, {_place(stage, paths)}, are missing"
    except BadRecord:
        return f"the labels of its test set, {_place(stage, paths)}, are damaged"


def _counted(
    name: str, stage: Stage, result: Result, classes: Classes, labels: Labels
) -> Iterator[str]:
    """Count what is right, and compare it with the metric that says so: one guess for each item."""
    metric = _one_guess(stage.task)
    told = None if metric is None else result.metrics.get(metric.name)
    if metric is None or told is None:
        return
    right = int((classes == np.array(labels.labels, dtype=np.uint16)).sum())
    counted = metric.per_item * right / len(classes)
    if not _same(told, counted):
        yield f"result.json says {metric.name} {told:g}, and by {name} it is {counted:g}"


def _one_guess(task: str) -> Metric | None:
    """Return the metric of a task that is the share of items whose predicted class is right."""
    known = KNOWN.get(task)
    metrics = () if known is None else known.metrics
    return next((each for each in metrics if each.guesses == 1 and each.per_item), None)


def _agreement(paths: StorePaths, stage: Stage, result: Result, classes: Classes) -> Iterator[str]:
    """Compare the agreement that is told with that of the dense network's predictions, where these are here."""
    if not result.agreement_with:
        if result.agreement is not None:
            yield "result.json tells of agreement, and not with what"
        return
    try:
        dense = paths.stage(dense_key(paths, result.key, stage))
        theirs = read_result(dense)
        # That of a study that was imported may be with another run of the dense network than the one that was here.
        if theirs.digests.get(dense.predictions.name) != result.agreement_with:
            return
        others = read_predictions(dense, theirs)
    except (FileNotFoundError, StoreError):  # reported with that stage
        return
    counted = None if others is None else agreement(classes, others)
    if counted is not None and not _same(result.agreement, counted):
        yield f"result.json says agreement {result.agreement}, and by the predictions it is {counted:g}"


def _same(told: float | None, counted: float) -> bool:
    return told is not None and math.isclose(told, counted, rel_tol=1e-9, abs_tol=1e-9)

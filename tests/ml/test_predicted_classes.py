"""What is predicted of each test item: the network's own, in the items' order, however the evaluation is done."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from prunectl.ml.tasks.base import Classifier
from prunectl.ml.training.predictions import Predictions, calibration_error
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.seeds import Seeds
from tests.ml import test_task_seam
from tests.ml.test_train_capture import LR, captured, trainer
from tests.support import tape
from tests.support.additions import registered

__all__ = ["registered"]


def trained(**values: Any) -> Trainer:
    """A network after a few steps; 50 test items, not a multiple of the batches here."""
    made = trainer(**values)
    for _ in made.train(LR, Seeds.of(0), 0, 5):
        pass
    return made


def predicted(made: Trainer) -> Predictions:
    assert made.evaluate("test") is not None
    found = made.predictions()
    assert found is not None
    return found


def by_hand(made: Trainer) -> Tensor:
    """The probabilities of all test items, computed at once by the module itself in float64, [items, classes]."""
    module = made._build(None).eval().double()
    module.load_state_dict({n: t.double() for n, t in made.state().weights.items()})
    pixels = made.images.test_images
    assert isinstance(pixels, Tensor)
    with torch.no_grad():
        outputs: Tensor = module((pixels.double() / 255 - 0.5) / 0.25)
    return outputs.softmax(1)


@pytest.mark.parametrize("batch", [16, 50, 7])
@pytest.mark.parametrize("how", ["called", "recorded"])
def test_they_are_the_networks_own_in_the_items_order(batch: int, how: str) -> None:
    made = trained() if how == "called" else captured(trained(), tape.record)
    made.evaluator.batch = batch
    found, wanted = predicted(made), by_hand(made)
    assert torch.equal(found.classes, wanted.argmax(1))
    assert torch.allclose(found.confidences.double(), wanted.amax(1), atol=1e-5)
    assert found.confidences.dtype == torch.float32
    assert len(found.classes.unique()) > 1


def test_what_is_right_is_what_accuracy_counts() -> None:
    made = trained()
    measured = made.evaluate("test")
    found = made.predictions()
    assert measured is not None
    assert found is not None
    assert made.labels is not None
    assert measured.metrics["accuracy"] == 100 * int((found.classes == made.labels).sum()) / 50
    assert torch.equal(made.labels, made.images.test_targets)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_probabilities_are_float32_in_half_precision(precision: str) -> None:
    """A bfloat16 near 1 has steps of 0.4 %: probabilities must have finer ones."""
    made = trained(precision=precision)
    confidences = predicted(made).confidences
    low = torch.bfloat16 if precision == "bf16" else torch.float16
    assert not torch.equal(confidences, confidences.to(low).float())
    assert torch.allclose(confidences.double(), by_hand(made).amax(1), atol=0.05)


def test_they_are_of_the_last_evaluation_of_the_test_set() -> None:
    made = trained()
    early = predicted(made)
    for _ in made.train(LR, Seeds.of(0), 0, 12):
        pass
    made.evaluate("validation")
    assert made.predictions() is not None
    late = predicted(made)
    assert not torch.equal(late.confidences, early.confidences)
    again = predicted(made)
    assert torch.equal(again.confidences, late.confidences)
    assert torch.equal(again.classes, late.classes)


def test_outputs_that_are_no_numbers_are_the_first_class_and_have_no_calibration() -> None:
    made = trained()
    state = made.state()
    for value in state.weights.values():
        value.fill_(math.nan) if value.is_floating_point() else None
    made.load(state)
    measured, found = made.evaluate("test"), made.predictions()
    assert measured is not None
    assert found is not None
    assert made.labels is not None
    assert not found.classes.any()
    assert measured.metrics["accuracy"] == 100 * int((made.labels == 0).sum()) / 50
    assert found.calibration_error(made.labels) is None


@pytest.mark.usefixtures("registered")
def test_a_task_that_does_not_classify_has_none() -> None:
    made = test_task_seam.trainer(test_task_seam.images())
    made.evaluate("test")
    assert not isinstance(made.task, Classifier)
    assert made.predictions() is None
    assert made.labels is None


def by_definition(confidences: list[float], right: list[bool]) -> float:
    """The expected calibration error as it stands in the paper: bin by bin."""
    total = 0.0
    for m in range(1, 16):
        low, high = (m - 1) / 15, m / 15
        inside = [n for n, c in enumerate(confidences) if low < c <= high or (m == 1 and c == 0)]
        if inside:
            accuracy = sum(right[n] for n in inside) / len(inside)
            confidence = sum(confidences[n] for n in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(accuracy - confidence)
    return 100 * total


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_the_calibration_error_is_that_of_the_paper(items: list[tuple[float, bool]]) -> None:
    confidences, right = [c for c, _ in items], [r for _, r in items]
    # An item within rounding of a bin's edge may be counted on either side of it.
    edges = min(abs(c * 15 - round(c * 15)) for c in confidences if 0 < c < 1) if any(
        0 < c < 1 for c in confidences
    ) else 1.0  # fmt: skip
    found = calibration_error(torch.tensor(confidences), torch.tensor(right))
    assert found is not None
    assert 0 <= found <= 100
    if edges > 1e-9:
        assert found == pytest.approx(by_definition(confidences, right), abs=1e-9)


def test_calibration_errors_that_are_known() -> None:
    def of(confidences: list[float], right: list[bool]) -> float | None:
        return calibration_error(torch.tensor(confidences), torch.tensor(right))

    assert of([1.0, 1.0], [True, True]) == 0
    assert of([1.0, 1.0], [False, False]) == 100
    assert of([0.9] * 4, [True, True, True, False]) == pytest.approx(15, abs=1e-5)
    assert of([0.5, math.nan], [True, True]) is None
    assert of([0.5, math.inf], [True, True]) is None

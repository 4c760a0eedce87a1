"""What a training asks of CUDA, counted: a number that grows fails, and says what came."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.cuda.counting import BATCH, IMAGES, NETWORKS, Training, count
from tests.support.fakecuda import Counts

pytestmark = [pytest.mark.gpu, pytest.mark.fake]

PINNED = torch.__version__.startswith("2.14.")
"""The version of torch that the numbers are of."""
STEP = {
    "resnet-20": {"fp32": 182, "bf16": 278, "fp16": 196},
    "wrn-16-8": {"fp32": 133, "bf16": 195, "fp16": 147},
    "vgg-16": {"fp32": 127, "bf16": 179, "fp16": 141},
    "resnet-50": {"fp32": 420, "bf16": 608, "fp16": 434},
}
"""Kernels of a step without masks; a call of cuDNN or cuBLAS counts as one, and tf32 has those of fp32. In bf16 torch
does not give BatchNorm to cuDNN, and its own takes five kernels or six instead of two."""

counted = cache(count)
everywhere = pytest.mark.parametrize("network", NETWORKS)
precisions = pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])


def kernels(counts: Counts, how: int) -> str:
    """Return the kernels launched, for a test that fails."""
    rows = sorted(((n[how], name) for name, n in counts.kernels.items() if n[how]), reverse=True)
    return "\n".join(f"{n:5} {name[:150]}" for n, name in rows)


def training(network: str, precision: str, masks: bool) -> Training:
    return counted(network, precision, masks=masks)


@everywhere
@precisions
@pytest.mark.parametrize("masks", [False, True], ids=["dense", "masks"])
def test_a_step_is_one_launch_of_so_many_kernels(network: str, precision: str, masks: bool) -> None:
    """And two copies, of its images and targets: no wait, nothing from the host."""
    step = training(network, precision, masks).step
    expected = STEP[network]["fp32" if precision == "tf32" else precision] + masks
    if PINNED:
        assert step.launched(2) <= expected, kernels(step, 2)
        assert step.launched(2) == expected, "fewer: the numbers here can be lowered"
    else:  # lists of tensors are cut into other pieces
        assert step.launched(2) <= 1.02 * expected, kernels(step, 2)
    assert step.launched(0) == 0
    assert step.calls["cudaGraphLaunch"] == 1
    assert step.waits == 0
    outside = {between: n for between, (n, _) in step.copies.items() if "replayed" not in between}
    assert outside == {"eager device->device": 2}


@everywhere
def test_masks_are_one_kernel_for_many_tensors_and_the_optimizer_another(network: str) -> None:
    step = training(network, "fp32", True).step
    dense = training(network, "fp32", False).step
    names = {name: n[2] for name, n in step.kernels.items()}
    came = {name: n - dense.kernels.get(name, (0, 0, 0))[2] for name, n in names.items()}
    assert [n for n in came.values() if n] in ([1], [1] if PINNED else [2]), came
    (masking,) = (name for name, n in came.items() if n)
    assert "multi_tensor_apply" in masking
    tensors = sum("FusedSgd" in name and n for name, n in names.items())
    assert 1 <= tensors <= 2 + 2 * (not PINNED), names  # one for each 30 to 64 tensors


@everywhere
@precisions
def test_an_epoch_waits_twice_and_uploads_its_order(network: str, precision: str) -> None:
    """For its metrics and for the rates it used; what is drawn on the host goes over without a wait."""
    epoch = training(network, precision, False).epoch
    assert epoch.waits == 2
    assert epoch.calls["cudaGraphLaunch"] == 25
    uploads, size = epoch.copied("pinned->device")
    # Indices, two offsets and a flip for each block of images.
    assert uploads % 4 == 0
    assert uploads <= 12
    assert size <= 3 * IMAGES * (8 + 8 + 8 + 1) + 1024
    assert not [name for name in epoch.copies if "pageable->device" in name], epoch.copies
    assert epoch.launched(0) <= 40, kernels(epoch, 0)


@everywhere
@precisions
def test_an_evaluation_waits_once(network: str, precision: str) -> None:
    evaluation = training(network, precision, False).evaluation
    assert evaluation.waits == 1
    batches = evaluation.calls["cudaGraphLaunch"]
    assert 1 <= batches <= 2
    # The totals are zeroed and read.
    assert evaluation.launched(0) <= 6, kernels(evaluation, 0)
    assert evaluation.copied("device->pageable")[1] <= 64


@everywhere
def test_predictions_are_one_copy_and_one_wait(network: str) -> None:
    """Those of the batches are collected on the device."""
    predictions = training(network, "fp32", False).predictions
    assert predictions.waits == 1
    assert {between: n for between, (n, _) in predictions.copies.items()} == {
        "eager device->pinned": 1
    }


@everywhere
def test_a_checkpoint_is_one_copy_and_one_wait(network: str) -> None:
    checkpoint = training(network, "fp32", False).checkpoint
    assert checkpoint.waits == 1
    assert {between: n for between, (n, _) in checkpoint.copies.items()} == {
        "eager device->pinned": 1
    }
    assert checkpoint.launched(0) <= 12, kernels(checkpoint, 0)


@everywhere
@pytest.mark.parametrize("masks", [False, True], ids=["dense", "masks"])
def test_loading_a_state_is_one_copy_and_no_wait(network: str, masks: bool) -> None:
    start = training(network, "fp32", masks).start
    assert start.waits == 0
    copies = {between: n for between, (n, _) in start.copies.items()}
    assert copies == {"eager pinned->device": 1 + masks}


@everywhere
@precisions
def test_no_rule_is_broken(network: str, precision: str) -> None:
    for masks in (False, True):
        for name, counts in vars(training(network, precision, masks)).items():
            assert not counts.notes, name
            assert not any("cudaErrorStreamCapture" in note for note in counts.notes)


def test_counts_do_not_depend_on_the_size_of_batch() -> None:
    small, large = (counted("resnet-20", "fp32", masks=True, batch=n) for n in (8, 2 * BATCH))
    assert small.step.kernels == large.step.kernels

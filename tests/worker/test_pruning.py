"""Pruning through whole stages: every option of it does something, and structured pruning leaves nothing behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

Make = Callable[..., Any]


def first_masks(lab: Any) -> dict[str, torch.Tensor]:
    dense, first, *_ = lab.path("fine-tune")
    lab.run(dense)
    lab.run(first)
    found: dict[str, torch.Tensor] = lab.masks(first)
    return found


@pytest.mark.parametrize(
    "option",
    [
        "pruning.criterion=random",
        "pruning.scope=layerwise",
        "pruning.scope=uniform",
        "pruning.granularity=channel",
        'pruning.exclude=["first"]',
        'pruning.exclude=["last"]',
        "pruning.schedule.rate=0.4",
    ],
)
def test_every_option_of_pruning_changes_the_mask(laboratory: Make, option: str) -> None:
    base, other = first_masks(laboratory()), first_masks(laboratory(option))
    assert base.keys() != other.keys() or any(
        not torch.equal(mask, other[name]) for name, mask in base.items()
    )


def test_dead_channels_leave_no_constant_behind(laboratory: Make) -> None:
    """Whole filters go, and with them their BatchNorm's γ and β, which training cannot bring back."""
    lab = laboratory("pruning.granularity=channel", "pruning.schedule.rate=0.6")
    keys = lab.path("fine-tune")
    for key in keys[:3]:
        lab.run(key)
    state, masks = lab.final(keys[2]), lab.masks(keys[2])
    norms = {name: mask for name, mask in masks.items() if mask.dim() == 1}
    assert norms
    for name, mask in norms.items():
        assert not mask.all()
        assert not state.weights[name][~mask].any()
    for name, mask in masks.items():
        if mask.dim() == 4:
            whole = mask.flatten(1).any(dim=1)
            assert not state.weights[name][~whole].any()
    result = lab.result(keys[2])
    assert result["kept"] <= round(result["prunable"] * Fraction(4, 10) ** 2)
    assert result["kept_parameters"] < result["parameters"] - (result["prunable"] - result["kept"])


def test_pruned_to_almost_nothing_is_a_result_with_its_dead_layers(laboratory: Make) -> None:
    lab = laboratory('pruning.schedule={kind="one-shot",sparsities=[0.997]}')
    dense, last = lab.path("fine-tune")
    lab.run(dense)
    result = lab.run(last)
    masks = lab.masks(last)
    dead = {name.removesuffix(".weight") for name, mask in masks.items() if not mask.any()}
    assert set(result["dead_layers"]) == dead
    assert dead
    assert result["kept"] == round(result["prunable"] * Fraction(3, 1000))


def test_a_pruned_network_is_an_ordinary_module(laboratory: Make) -> None:
    """Masks live outside of it: it can be copied after a forward pass, and has no parameters of theirs."""
    lab = laboratory()
    dense, first, *_ = lab.path("lr-rewind")
    lab.run(dense)
    lab.run(first)
    trainer = lab.trainers.borrow(lab.spec(first))
    trainer.set_masks(lab.masks(first))
    trainer.load(lab.final(first))
    trainer.evaluate("test")
    twin = copy.deepcopy(trainer.module)
    assert [name for name, _ in twin.named_parameters()] == [
        name for name, _ in trainer.module.named_parameters()
    ]
    assert not any("mask" in name for name in twin.state_dict())

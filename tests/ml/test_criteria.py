"""Criteria: float32 scores of the same shapes, drawn from the given generator only."""

from __future__ import annotations

import pytest
import torch

from prunectl.errors import UnknownName
from prunectl.ml.criteria.registry import REFERENCES, find
from prunectl.ml.resolve import resolve


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(4, 3, 2, 2, generator=generator),
        "b.weight": torch.randn(5, 4, generator=generator),
    }


@pytest.mark.parametrize("name", REFERENCES)
def test_contract(name, weights):
    copies = {key: value.clone() for key, value in weights.items()}
    before = torch.random.get_rng_state()
    score = resolve(find(name))
    first = score(weights, torch.Generator().manual_seed(1))
    again = score(weights, torch.Generator().manual_seed(1))
    assert list(first) == list(weights)
    for key, value in first.items():
        assert value.shape == weights[key].shape
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert torch.equal(value, again[key])
        assert torch.equal(weights[key], copies[key])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_magnitude_is_the_absolute_value(weights):
    scores = resolve(find("magnitude"))(weights, None)
    assert torch.equal(scores["a.weight"], weights["a.weight"].abs())


def test_random_depends_on_the_generator_and_not_on_the_weights(weights):
    score = resolve(find("random"))
    zeros = {key: torch.zeros_like(value) for key, value in weights.items()}
    one, same, other = (
        score(given, torch.Generator().manual_seed(seed))["b.weight"]
        for given, seed in ((weights, 1), (zeros, 1), (weights, 2))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="needs a generator"):
        score(weights, None)


def test_unknown_criteria():
    with pytest.raises(UnknownName, match="did you mean 'magnitude'"):
        find("magnitudes")

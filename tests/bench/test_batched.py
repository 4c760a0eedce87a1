"""The ways of `tests.bench.batched` compute the same, and it would be noticed if one did not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from tests.bench import batched


def test_all_ways_come_to_the_same_losses() -> None:
    batched.check(batched.SIZES[0], 3, "cpu")


@pytest.mark.parametrize("name", ["vmap", "grouped"])
def test_networks_that_are_mixed_up_are_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    way: Callable[..., list[batched.Step]] = batched.WAYS[name]

    def wrong(weights: batched.Weights, images: Tensor, labels: Tensor) -> list[batched.Step]:
        return way(weights, images.flip(0), labels)

    monkeypatch.setitem(batched.WAYS, name, wrong)
    with pytest.raises(AssertionError):
        batched.check(batched.SIZES[0], 2, "cpu")

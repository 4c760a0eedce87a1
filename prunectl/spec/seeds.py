"""What is random in a training, by purpose: three seeds, which are one unless a plan gives them apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Seeds(NamedTuple):
    """The seeds of a trial, and of each of its stages."""

    init: int
    """Of fresh weights, and of criteria that score at random: what is called the `seed` where there is but one."""
    order: int
    """Of the order in which training images are drawn."""
    augment: int
    """Of their random changes: crops and flips."""

    @classmethod
    def of(cls, seed: int, order: int | None = None, augment: int | None = None) -> Seeds:
        """Make the seeds of these purposes; one that is left out is that of the initialisation."""
        return cls(seed, seed if order is None else order, seed if augment is None else augment)

    @property
    def own_order(self) -> int | None:
        """The seed of the order; None where it is that of the initialisation, as records leave it out."""
        return None if self.order == self.init else self.order

    @property
    def own_augment(self) -> int | None:
        """The seed of random changes; None where it is that of the initialisation, as records leave it out."""
        return None if self.augment == self.init else self.augment

    @property
    def apart(self) -> bool:
        """Whether they are not all the same."""
        return not self.init == self.order == self.augment

    def without_augment(self) -> Seeds:
        """Return those of a training that changes no image: nothing is drawn from the third one."""
        return self if self.augment == self.init else self._replace(augment=self.init)

    def __str__(self) -> str:
        """Such as ``0``, and ``0/1/0`` (initialisation, order, augmentation) where they are apart."""
        return f"{self.init}/{self.order}/{self.augment}" if self.apart else str(self.init)


def check_left_out(seed: int, order: int | None, augment: int | None) -> None:
    """Raise ValueError where a seed is given that is to be left out: each meaning is written in one way."""
    if seed in (order, augment):
        raise ValueError("order_seed and augment_seed are left out where they are the seed")


def numbers_text(every: Iterable[Seeds]) -> str:
    """Say how many there are: ``3 seeds``, and where they are apart how many of each purpose."""
    found = set(every)
    if not any(seeds.apart for seeds in found):
        return f"{len(found):,} seeds"
    init, order, augment = (len(set(levels)) for levels in zip(*found, strict=True))
    return f"{len(found):,} triples of seeds: {init:,} of init, {order:,} of order, {augment:,} of augment"

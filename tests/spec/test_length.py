"""Lengths: what can be written, and how many steps it comes to."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prunectl.spec.batch_layout import Layout, passes
from prunectl.spec.length import Length
from prunectl.spec.settings import TrainSettings


@pytest.mark.parametrize(
    ("text", "epochs", "steps"),
    [("182ep", 182, 0), ("71108it", 0, 71108), ("3ep200it", 3, 200), ("0.5ep", Fraction(1, 2), 0)],
)
def test_reads_epochs_and_steps(text: str, epochs: Fraction, steps: int) -> None:
    assert Length.parse(text) == Length(Fraction(epochs), steps)


@pytest.mark.parametrize("text", ["", "182", 182, "ep", "-3ep", "3 ep", "200it3ep", None, 1.5])
def test_bare_numbers_and_nonsense_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="182ep"):
        Length.parse(text)


@given(st.integers(0, 500), st.integers(0, 100_000))
def test_writing_and_reading_back_is_the_same(epochs: int, steps: int) -> None:
    length = Length(Fraction(epochs), steps)
    assert Length.parse(str(length)) == length


@pytest.mark.parametrize(
    ("straddle", "drop_last", "steps"),
    [(False, False, 391), (False, True, 390), (True, False, 391)],
)
def test_an_epoch_of_cifar(straddle: bool, drop_last: bool, steps: int) -> None:
    settings = TrainSettings(batch=128, straddle=straddle, drop_last=drop_last)
    assert Length.parse("1ep").to_steps(Layout(settings, 50_000)) == steps


def test_rewind_points_of_renda_et_al() -> None:
    """71,108 − t in steps gives the checkpoints of their released data for every t of their grid."""
    epoch = Layout(TrainSettings(batch=128, straddle=True), 50_000)
    points = {10: 67201, 30: 59389, 50: 51576, 70: 43764, 90: 35951, 110: 28139, 130: 20326}
    points |= {150: 12514, 170: 4701}
    for t, point in points.items():
        assert 71108 - Length.parse(f"{t}ep").to_steps(epoch) == point


@given(st.integers(1, 30), st.integers(1, 30), st.booleans(), st.booleans(), st.integers(0, 70))
def test_the_sizes_of_the_batches_that_occur(
    count: int, batch: int, straddle: bool, drop_last: bool, steps: int
) -> None:
    settings = TrainSettings(batch=batch, straddle=straddle, drop_last=drop_last)
    assume(not drop_last or straddle or count >= batch)
    layout = Layout(settings, count)
    assert set(layout.sizes(steps)) == {layout.stretch(step)[1] for step in range(steps)}


@given(st.integers(1, 50), st.integers(0, 60))
def test_passes_are_what_a_batch_is_cut_into(images: int, micro: int) -> None:
    cut = [
        len(range(images)[start : start + (micro or images)])
        for start in range(0, images, micro or images)
    ]
    assert sorted(passes(images, micro)) == sorted(set(cut))

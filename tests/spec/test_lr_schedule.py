"""Learning-rate segments: cutting, joining and reading back never changes a rate."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunectl.spec import lr_schedule as lr
from prunectl.spec.lr_schedule import Segment
from tests.support.lr_runs import runs

segments = st.one_of(
    st.builds(Segment, st.sampled_from([0.1, 0.01, 0.001]), st.integers(0, 20)),
    st.integers(1, 20).map(lambda n: Segment(0.0, n, "linear", 0.1, n, 1)),
    st.integers(1, 20).map(lambda n: Segment(0.1, n, "cosine", 0.0, n)),
)
schedules = st.lists(segments, min_size=1, max_size=5)


def test_steps_of_renda_et_al() -> None:
    schedule = lr.stepwise(0.1, 71108, [35547, 53125], 0.1)
    assert runs(schedule) == [(0, 0.1), (35547, 0.01), (53125, 0.001)]
    assert lr.length(schedule) == 71108


def test_rates_are_round() -> None:
    assert [segment.lr for segment in lr.stepwise(0.1, 5, [1, 2, 3, 4], 0.2)] == [
        0.1,
        0.02,
        0.004,
        0.0008,
        0.00016,
    ]


@given(schedules, st.data())
def test_a_window_has_the_rates_of_the_whole(parts: list[Segment], data: st.DataObject) -> None:
    whole = list(lr.rates(parts))
    first = data.draw(st.integers(0, len(whole)))
    steps = data.draw(st.integers(0, len(whole) - first))
    assert list(lr.rates(lr.window(parts, first, steps))) == whole[first : first + steps]


@given(schedules)
def test_joining_keeps_every_rate(parts: list[Segment]) -> None:
    assert list(lr.rates(lr.joined(parts))) == list(lr.rates(parts))


@given(schedules, st.data())
def test_reading_from_the_middle(parts: list[Segment], data: st.DataObject) -> None:
    whole = list(lr.rates(parts))
    first = data.draw(st.integers(0, len(whole)))
    assert list(lr.rates(parts, first)) == whole[first:]
    assert [lr.at(parts, step) for step in range(len(whole))] == whole


def test_a_window_in_the_last_phase_is_a_constant() -> None:
    schedule = lr.stepwise(0.1, 100, [50, 75], 0.1)
    assert lr.window(schedule, 80, 20) == lr.constant(0.001, 20)


def test_windows_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="of a schedule with 10 steps"):
        lr.window(lr.constant(0.1, 10), 5, 6)


def test_warm_up_rises_to_the_rate_it_meets() -> None:
    warmed = lr.warmed_up(lr.stepwise(0.4, 20, [10], 0.1), 4)
    assert list(lr.rates(warmed))[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert lr.length(warmed) == 20


def test_cosine_is_the_formula() -> None:
    rates = list(lr.rates(lr.decaying("cosine", 0.2, 0.0, 10)))
    assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * i / 10)) for i in range(10)])
    assert lr.last_value(lr.decaying("cosine", 0.2, 0.0, 10)) == 0.0

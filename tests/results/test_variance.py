"""Variance components against arithmetic by hand and simulations whose truth is known, and the table of a board."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2, f

from prunectl.results import variance
from prunectl.results.formats import render
from prunectl.results.leaderboard import leaderboard
from prunectl.results.variance import complete_grid, factors, of_scores
from prunectl.results.variance_components import components
from prunectl.spec.seeds import Seeds
from prunectl.store.db.ingest import ingest
from tests.full import full
from tests.support.fake_store import FakeStore

STUDIES = 5000 if full() else 300
SURE = 1 - 1e-4


def crossed(init, order, augment=(None,)):
    """All combinations; an augmentation's seed of None follows."""
    return [Seeds.of(*each) for each in itertools.product(init, order, augment)]


# One table


def test_two_factors_by_hand():
    """Mean squares 6 (df 2), 1.5 (1) and 2 (2)."""
    (rows, columns), joint = components(np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 4.0]]))
    assert rows.std == pytest.approx(math.sqrt((6 - 2) / 2))
    assert not rows.negative
    assert rows.low == 0  # F is 3
    assert (columns.std, columns.negative) == (0.0, True)
    assert joint.std == pytest.approx(math.sqrt(2))
    assert joint.low == pytest.approx(math.sqrt(4 / chi2.ppf(0.975, 2)))
    assert joint.high == pytest.approx(math.sqrt(4 / chi2.ppf(0.025, 2)))


def test_factors_that_add_up_have_no_interaction():
    effects = [np.array(each) for each in ([0.0, 1.0, 5.0], [2.0, -2.0], [0.0, 0.5, 0.25, 8.0])]
    single, joint = components(sum(np.ix_(*effects)))
    for effect, part in zip(effects, single, strict=True):
        assert part.std == pytest.approx(effect.std(ddof=1))
        assert 0 < part.low < part.std < part.high
    assert joint.std == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 10**6), st.floats(-4, 4), st.floats(0.01, 100))
def test_an_interval_leaves_out_nothing_where_the_f_test_says_so(seed, shift, scale):
    """And neither a shift of all numbers nor their unit decides it."""
    table = np.random.default_rng(seed).normal(0, 1, (4, 3))
    table += np.linspace(0, shift, 4)[:, None]
    (rows, _), joint = components(table)
    mean_square = 3 * table.mean(1).var(ddof=1)
    ratio = mean_square / joint.std**2
    limit = f.ppf(0.975, 3, 6)
    if abs(ratio / limit - 1) > 1e-6:
        assert (rows.low > 0) == (ratio > limit)
    (again, _), _ = components(table * scale + 5 * shift)
    assert again.std == pytest.approx(rows.std * scale, abs=1e-6 * scale)
    assert again.high == pytest.approx(rows.high * scale, rel=1e-6, abs=1e-6 * scale)


@pytest.mark.parametrize(
    ("shape", "spreads", "joint", "pairs"),
    [
        ((3, 3), (1.0, 1.0), 1.0, 0.0),
        ((3, 3), (0.0, 1.0), 0.3, 0.0),
        ((5, 4), (1.0, 0.2), 1.0, 0.0),
        ((3, 3, 3), (1.0, 0.5, 0.0), 0.3, 0.5),
    ],
)
def test_intervals_hold_the_truth_in_95_percent(shape, spreads, joint, pairs):
    """And a factor that moves nothing is said to in 2.5 % at most."""
    draw = np.random.default_rng((*shape, int(10 * sum(spreads))))
    truth = [*spreads, math.sqrt(joint**2 + (3 * pairs**2 if pairs else 0))]
    held, moved = np.zeros(len(truth)), np.zeros(len(truth))
    for _ in range(STUDIES):
        table = draw.normal(0, joint, shape)
        for axis, spread in enumerate(spreads):
            own = [1] * len(shape)
            own[axis] = shape[axis]
            other = [*shape]
            other[axis] = 1
            table = table + draw.normal(0, spread, own) + draw.normal(0, pairs, other)
        single, interaction = components(table)
        every = [*single, interaction]
        held += [part.low <= true <= part.high for part, true in zip(every, truth, strict=True)]
        moved += [part.low > 0 for part in every]
    # Those of a sum of several mean squares are near 95 %, not exactly there.
    assert (held >= binom.ppf(1 - SURE, STUDIES, 0.94)).all(), held / STUDIES
    still = [count for count, true in zip(moved, truth, strict=True) if true == 0]
    assert all(count <= binom.ppf(SURE, STUDIES, 0.025) for count in still)


# Seeds


def test_purposes_that_go_together_are_one_factor():
    assert factors([Seeds.of(0), Seeds.of(1)]) == ((0, 1, 2),)
    assert factors(crossed([0, 1], [0, 1])) == ((0, 2), (1,))
    assert factors(crossed([0, 1], [5, 6], [7, 8])) == ((0,), (1,), (2,))
    assert factors(crossed([0], [5, 6], [7, 8])) == ((1,), (2,))
    assert factors(crossed([0], [5, 6], [7])) == ((1,),)
    assert factors([Seeds(0, 3, 9), Seeds(1, 3, 8)]) == ((0, 2),)
    assert factors([Seeds.of(0)]) == ()
    assert variance.name_of((0, 2)) == "init + augment"


@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_the_grid_that_is_used_is_complete(done):
    levels = complete_grid(done)
    assert set(itertools.product(*levels)) <= done
    if len(done) == math.prod(len(set(each)) for each in zip(*done, strict=True)):
        assert set(itertools.product(*levels)) == done


def test_a_level_with_gaps_is_left_out():
    draw = np.random.default_rng(1)
    scores = {seeds: float(draw.normal()) for seeds in crossed([0, 1, 2], [0, 1, 2, 3])}
    whole, _ = of_scores(scores, factors(scores))
    assert whole == {"init + augment": 3, "order": 4}
    part = scores | {Seeds.of(1, 2): None, Seeds.of(2, 2): None}
    levels, parts = of_scores(part, factors(part))
    assert levels == {"init + augment": 3, "order": 3}
    left = {seeds: score for seeds, score in scores.items() if seeds.order != 2}
    assert parts == of_scores(left, factors(left))[1]
    alone = {seeds: score if seeds.init == 0 else None for seeds, score in scores.items()}
    assert of_scores(alone, factors(alone)) == ({}, {})


# A board


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two methods of 3 × 3 seeds, all done, and a study whose seeds are not apart."""
    made = FakeStore(tmp_path_factory.mktemp("store"))
    digests = [made.plan("demo", seeds=crossed(range(3), range(3)), sparsities=("0.2",))]
    digests += [made.plan("together", sparsities=("0.2",), recipe="other")]
    made.run(digests=tuple(digests))
    made.finish_all()
    ingest(made.paths)
    return made


def test_a_board_says_which_seeds_move_its_numbers(store):
    (board,) = leaderboard(store.paths, "demo")
    found = variance.board_variance(store.paths, board)
    assert next(each.method for each in found) == "dense"
    assert {each.method for each in found} == {"dense", "fine-tune", "lr-rewind"}
    for each in found:
        assert (each.measured, each.planned, each.used) == (9, 9, 9)
        assert list(each.parts) == ["init + augment", "order", "interaction"]
        assert set(each.moved_by) <= {"init + augment", "order"}
    text = render(variance.table(found, 2), "md")
    assert (
        "| method | sparsity | mean | grid | init + augment | order | interaction | moved by |"
        in text
    )
    assert text.count("3 × 3") == 3
    rows = variance.long_form([(board, found)]).dicts()
    assert len(rows) == 9
    assert all(row["std_low"] <= row["std"] <= row["std_high"] for row in rows)
    assert "points" in variance.note(found, "points")


def test_where_seeds_are_not_apart_it_is_said_how_they_would_be(store):
    (board,) = leaderboard(store.paths, "together")
    found = variance.board_variance(store.paths, board)
    assert not any(each.parts for each in found)
    said = variance.why_none(found)
    assert "seeds are not apart" in said
    assert "seeds = { init = [0, 1, 2], order = [0, 1, 2] }" in said


@pytest.mark.parametrize(
    ("seeds", "done", "says"),
    [
        (crossed([0], [0, 1], [0]), 2, "only order varies"),
        (crossed([0, 1], [0, 1]), 1, "up to 3 trials of a method are missing"),
        (
            [Seeds.of(0, 1), Seeds.of(0, 2), Seeds.of(1, 3), Seeds.of(1, 4)],
            4,
            "seeds are not crossed, so",
        ),
        ([Seeds.of(0, 1)], 1, "seeds are not crossed: nothing varies"),
    ],
)
def test_what_is_missing_is_said(seeds, done, says):
    scores = {each: 1.0 if place < done else None for place, each in enumerate(seeds)}
    apart = factors(scores)
    each = variance.CellVariance(
        "m", 0.5, "c", 1, done, len(seeds), 1.0, apart, *of_scores(scores, apart)
    )
    assert says in variance.why_none([each])

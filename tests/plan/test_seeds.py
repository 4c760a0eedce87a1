"""Seeds in plans: what a table crosses, what follows what, which keys and ids stay, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prunectl.cli.support.plan_record import check_plan_record
from prunectl.errors import PlanError, StoreError
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.plan.seeds import as_toml, count, in_order
from prunectl.spec.key import stage_key
from prunectl.spec.seeds import Seeds, numbers_text
from prunectl.spec.study import Study
from tests.support.tiny_plans import tiny_plan

AUGMENTED = "augment = { flip = true }"


def expanded(seeds: str, recipe: str = AUGMENTED, **values: Any) -> Expansion:
    """The tiny plan with these seeds, which an override gives."""
    return expand(loads(tiny_plan(recipe=recipe, **values), "plan.toml", [f"seeds={seeds}"]), None)


def said(expansion: Expansion) -> list[str]:
    """The seeds of the trials of one cell, in order."""
    first = expansion.trials[0].cell
    return [str(trial.seeds) for trial in expansion.trials if trial.cell == first]


@pytest.mark.parametrize(
    ("seeds", "trials"),
    [
        ("[0, 5]", "0 5"),
        ("{ init = [0, 5] }", "0 5"),
        ("{ init = [0, 1], order = [0, 1] }", "0 0/1/0 1/0/1 1"),
        ("{ init = [0, 1], order = [0, 1], augment = 0 }", "0 0/1/0 1/0/0 1/1/0"),
        ("{ init = 3, augment = [3, 4] }", "3 3/3/4"),
        ("[0, { init = 0, order = 1 }, { init = 2, order = [3, 4], augment = 5 }]", "0 0/1/0 2/3/5 2/4/5"),
    ],
)  # fmt: skip
def test_a_table_crosses_what_it_gives_and_the_rest_follows_init(seeds: str, trials: str) -> None:
    expansion = expanded(seeds)
    assert said(expansion) == trials.split()
    for trial in expansion.trials:
        assert [expansion.stages[key].seeds for key in trial.path] == [trial.seeds] * 3
        assert [stage_key(expansion.stages[key]) for key in trial.path] == list(trial.path)


def test_a_table_may_have_a_heading() -> None:
    text = tiny_plan(recipe=AUGMENTED).replace("seeds = [0, 1]\n", "")
    one = expand(loads(text + "\n[seeds]\ninit = [0, 1]\norder = [2, 3]\n"), None)
    assert said(one) == ["0/2/0", "0/3/0", "1/2/1", "1/3/1"]
    two = expand(loads(text + "\n[[seeds]]\ninit = 0\n[[seeds]]\ninit = 1\norder = 2\n"), None)
    assert said(two) == ["0", "1/2/1"]
    changed = loads(text + "\n[seeds]\ninit = [0, 1]\n", overrides=["seeds.order = [7]"])
    assert said(expand(changed, None)) == ["0/7/0", "1/7/1"]


levels = st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True)


@settings(max_examples=25, deadline=None)
@given(levels, st.none() | levels, st.none() | levels)
def test_trials_are_those_of_a_list_where_seeds_are_the_same(
    init: list[int], order: list[int] | None, augment: list[int] | None
) -> None:
    given_apart = {"init": init, "order": order, "augment": augment}
    table = ", ".join(f"{name} = {own}" for name, own in given_apart.items() if own is not None)
    apart = expanded(f"{{ {table} }}")
    assert count(apart.plan.content.seeds) == len(said(apart)) == len(set(said(apart)))
    assert len({trial.id for trial in apart.trials}) == len(apart.trials)
    assert len({trial.path for trial in apart.trials}) == len(apart.trials)
    together = {trial.id: trial for trial in expanded("[0, 1, 2, 3, 4]").trials}
    assert {trial.cell for trial in apart.trials} == {trial.cell for trial in together.values()}
    for trial in apart.trials:
        if trial.seeds.apart:
            assert trial.id not in together
            assert not {*trial.path} & {key for each in together.values() for key in each.path}
        else:
            assert together[trial.id] == trial


def test_a_listed_trial_is_the_crossed_one() -> None:
    crossed = expanded("{ init = [0, 1], order = [0, 1], augment = [0, 1] }")
    for trial in crossed.trials:
        (alone,) = (
            each for each in expanded(as_toml(trial.seeds)[6:]).trials if each.cell == trial.cell
        )
        assert alone == trial


def test_seeds_from_which_nothing_is_drawn_make_no_trials() -> None:
    """Half of the grid augments; the other half has a trial for each seed of init alone."""
    text = tiny_plan(strategies=("fine-tune",)).replace(
        "[grid]", "[grid]\nrecipe.augment = [{ flip = true }, {}]"
    )
    expansion = expand(loads(text, overrides=["seeds={ init = [0, 1], augment = [0, 1] }"]), None)
    by_cell = itertools.groupby(expansion.trials, key=lambda trial: trial.cell)
    assert [[str(trial.seeds) for trial in trials] for _, trials in by_cell] == [
        ["0", "0/0/1", "1/1/0", "1"],
        ["0", "1"],
    ]


@pytest.mark.parametrize(
    ("seeds", "recipe", "says"),
    [
        ("[0, { init = 0, order = 0 }]", AUGMENTED, ["seeds: seeds must be distinct: 0 is there twice"]),
        ("{ init = [0, 0] }", AUGMENTED, ["seeds.init: seeds must be distinct", "found:   [0, 0]"]),
        ("{ order = [0, 1] }", AUGMENTED, ["seeds.init: this key is missing"]),
        ("{ init = 0, ordr = 1 }", AUGMENTED, ["seeds.ordr: unknown key", "did you mean: order"]),
        ("[0, { init = 0, order = 'x' }]", AUGMENTED, ["seeds[1].order: should be a valid list", 'found:   "x"']),
        ("{ init = 0, order = [] }", AUGMENTED, ["seeds.order: List should have at least 1 item"]),
        ("{ init = 0, order = -1 }", AUGMENTED, ["seeds.order", "at least 0"]),
        ("[true]", AUGMENTED, ["seeds[0]: should be a valid integer"]),
        (
            "{ init = 0, augment = [0, 1] }",
            "",
            ["plan.toml:3: seeds.augment: seeds of augmentation change nothing", "0/0/1 (init/order/augment)"],
        ),
        (f"{{ init = {list(range(900))}, order = {list(range(900))} }}", "", ["810,000 seeds ×", "at most 400,000"]),
    ],
)  # fmt: skip
def test_what_is_refused(seeds: str, recipe: str, says: list[str]) -> None:
    with pytest.raises(PlanError) as error:
        expanded(seeds, recipe)
    for text in says:
        assert text in str(error.value)


def test_a_record_with_other_seeds_than_its_text_is_refused() -> None:
    study = expanded("{ init = [0, 1], order = [0, 1] }").study()
    study = msgspec.convert(msgspec.to_builtins(study), Study)
    check_plan_record(study, lambda text: None)
    at, trial = next((n, each) for n, each in enumerate(study.trials) if each.order_seed == 1)
    for changed in (replace(trial, order_seed=7), replace(trial, order_seed=None)):
        trials = (*study.trials[:at], changed, *study.trials[at + 1 :])
        with pytest.raises(StoreError, match="order_seed"):
            check_plan_record(replace(study, trials=trials), lambda text: None)


def test_records_leave_out_seeds_that_are_the_same() -> None:
    plain, crossed = (expanded(seeds).trials[-1] for seeds in ("[1]", "{ init = 1, order = 2 }"))
    assert not {"order_seed", "augment_seed"} & msgspec.to_builtins(plain).keys()
    assert msgspec.to_builtins(crossed)["order_seed"] == 2
    assert plain.as_dict()["order_seed"] == plain.as_dict()["augment_seed"] == 1
    assert [crossed.label(name) for name in ("seed", "order_seed", "augment_seed")] == [
        "1",
        "2",
        "1",
    ]
    with pytest.raises(ValueError, match="left out"):
        replace(crossed, order_seed=1)


def test_seeds_in_words() -> None:
    assert [str(Seeds.of(*each)) for each in ((0,), (0, 0, 0), (0, 1))] == ["0", "0", "0/1/0"]
    assert as_toml(Seeds.of(4)) == "seeds=[4]"
    assert as_toml(Seeds(0, 1, 2)) == "seeds=[{init=0,order=1,augment=2}]"
    crossed = list(in_order(expanded("{ init = [0, 1], order = [0, 1] }").plan.content.seeds))
    assert numbers_text(crossed) == "4 triples of seeds: 2 of init, 2 of order, 2 of augment"
    assert numbers_text(map(Seeds.of, (0, 1))) == "2 seeds"

"""`[[select]]` of a plan: what is chosen among what, and the mistakes that are made in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunectl.errors import PlanError
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.spec.selection import Selection
from prunectl.spec.study import Study
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import read_plan, write_study
from tests.support.records import read_json
from tests.support.tiny_plans import tiny_plan

VALIDATION = '[recipe.validation]\nfrom = "train"\ncount = 64\n'
OWN = """
[strategies.hot]
weights_from = "parent"
lr_window = { constant = 0.05 }
retrain = "full"

[strategies.short]
weights_from = "parent"
lr_window = { constant = 0.05 }
retrain = "2ep"

[strategies.late]
weights_from = { dense = 0.5 }
lr_window = { constant = 0.05 }
retrain = "full"
"""
SELECT = """
[[select]]
over = "lr_window"
by = "validation"
"""


def plan(*strategies: str, recipe: str = VALIDATION, **more: object) -> str:
    return tiny_plan(strategies=strategies, recipe=recipe, **more) + OWN  # type: ignore[arg-type]


def study(text: str) -> Study:
    return expand(loads(text), None).study()


def options(found: Study) -> dict[str, list[list[tuple[str, str]]]]:
    """Strategy and length of the options, by the name of what is made of them."""
    cells = {trial.cell: trial for trial in found.trials}
    return {
        each.strategy.split("@")[0]: [
            [(cells[name].strategy.split("@")[0], cells[name].retrain) for name in made.options]
            for made in each.cells
        ]
        for each in found.selections
    }


def test_the_options_are_the_strategies_that_differ_in_lr_window_alone() -> None:
    text = plan("weight-rewind", "hot", "fine-tune", "late")
    assert options(study(text + SELECT)) == {
        "hot, lr_window by validation": [[("hot", "full"), ("fine-tune", "full")]]
    }


def test_among_says_which_and_the_grid_says_in_which_order() -> None:
    text = plan("fine-tune", "lr-rewind", "hot") + SELECT
    named = text + 'name = "tuned"\namong = ["hot", "fine-tune"]\n'
    assert options(study(named)) == {"tuned": [[("fine-tune", "full"), ("hot", "full")]]}
    assert len(options(study(text))["fine-tune, lr_window by validation"][0]) == 3


def test_each_cell_of_the_grid_has_its_own_options() -> None:
    """Networks, schedules, and the lengths that are not swept."""
    text = plan("fine-tune", "hot").replace("iterative", "one-shot") + SELECT
    found = study(text)
    assert [len(made) for made in options(found).values()] == [2]  # a cell per sparsity
    axis = plan("fine-tune", "lr-rewind").replace(
        "[datasets", 'retrain = ["2ep", "4ep"]\n[datasets'
    )
    assert options(study(axis + SELECT)) == {
        "fine-tune, lr_window by validation": [
            [("fine-tune", length), ("lr-rewind", length)] for length in ("2ep", "4ep")
        ]
    }


def test_the_length_of_retraining_is_swept() -> None:
    text = plan("fine-tune", "reinit").replace("[datasets", 'retrain = ["2ep", "4ep"]\n[datasets')
    found = study(text + SELECT.replace("lr_window", "retrain"))
    assert options(found) == {
        "fine-tune, retrain by validation": [[("fine-tune", "2ep"), ("fine-tune", "4ep")]]
    }


def test_what_is_the_same_stages_is_one_option() -> None:
    """Under a constant rate fine-tuning is learning-rate rewinding."""
    text = plan("fine-tune", "lr-rewind", "hot")
    constant = text.replace('kind = "step"', 'kind = "constant"').replace(
        ', milestones = ["2ep", "3ep"]', ""
    )
    with pytest.raises(PlanError, match="these are the same stages"):
        study(constant + SELECT)
    cooler = constant.replace("constant = 0.05", "constant = 0.04", 1)
    assert options(study(cooler + SELECT)) == {
        "fine-tune, lr_window by validation": [[("fine-tune", "full"), ("hot", "full")]]
    }


def test_a_selection_makes_another_version_of_the_same_stages() -> None:
    text = plan("fine-tune", "hot")
    without, chosen = study(text), study(text + SELECT)
    assert without.digest != chosen.digest
    assert (without.trials, without.stages) == (chosen.trials, chosen.stages)
    cells = {trial.cell for trial in chosen.trials}
    assert not cells & {made.cell for each in chosen.selections for made in each.cells}
    assert chosen.selections == study(text + SELECT).selections


def test_records_of_plans_without_a_selection_are_what_they_were(tmp_path: Path) -> None:
    paths = StorePaths(tmp_path)
    for text, there in (
        (plan("fine-tune", "hot"), False),
        (plan("fine-tune", "hot") + SELECT, True),
    ):
        found = study(text)
        write_study(paths, found)
        assert ("selections" in read_json(paths.plan(found.digest))) is there
        assert read_plan(paths.plan(found.digest)).selections == found.selections


def test_its_name_has_digits_of_what_it_is_chosen_among() -> None:
    def label(text: str) -> str:
        [found] = study(text + SELECT + 'name = "tuned"\n').selections
        assert isinstance(found, Selection)
        return found.strategy

    text = plan("fine-tune", "hot")
    assert label(text) == label(text)
    assert label(text) != label(plan("fine-tune", "hot", "lr-rewind"))
    assert label(text) != label(text.replace("constant = 0.05", "constant = 0.04"))


def test_a_claim_may_be_of_what_is_chosen() -> None:
    claim = '[[claims]]\na = "lr-rewind"\nb = "tuned"\nrelation = "better"\n'
    text = plan("fine-tune", "hot", "lr-rewind") + SELECT
    named = text + 'name = "tuned"\namong = ["hot", "fine-tune"]\n'
    assert study(named + claim).claims[0].b == "tuned"
    with pytest.raises(PlanError, match="unknown method"):
        study(text + claim)


PLAN = plan("fine-tune", "hot", "short", "late", "lr-rewind")
LINE = len(PLAN.splitlines()) + 2
"""The line of [[select]]."""
AMONG = SELECT + 'among = ["fine-tune", "hot"]\n'


@pytest.mark.parametrize(
    ("select", "line", "said"),
    [
        (SELECT.replace("[[select]]", "[select]"), LINE, r"write \[\[select\]\]"),
        (SELECT.replace('"validation"', '"test"'), LINE + 2, "flattered"),
        (SELECT.replace("validation", "valdation"), LINE + 2, "did you mean: validation"),
        (SELECT.replace('by = "validation"\n', ""), LINE, "this key is missing"),
        (SELECT.replace("lr_window", "lr"), LINE + 1, "over lr_window or retrain"),
        (SELECT.replace("lr_window", "recipe.schedule.lr"), LINE + 1, "other dense networks"),
        (SELECT.replace("lr_window", "lr_windw"), LINE + 1, "did you mean: lr_window"),
        (AMONG.replace("hot", "hott"), LINE + 3, "did you mean: hot"),
        (AMONG.replace("hot", "reinit"), LINE + 3, "not a strategy of the grid"),
        (AMONG.replace("hot", "fine-tune"), LINE + 3, "twice"),
        (AMONG.replace(', "hot"', ""), LINE + 3, "at least two strategies"),
        (AMONG.replace("hot", "late"), LINE + 3, "differ in weights_from, not in lr_window alone"),
        (AMONG.replace("hot", "short"), LINE, "that retrain for the same length"),
        (AMONG + "among = []\n", LINE + 4, "valid TOML"),
        (AMONG + "size = 1\n", LINE + 4, "unknown key"),
        (AMONG + 'name = "hot"\n', LINE + 4, "a strategy has this name"),
        (AMONG + 'name = "weight-rewind"\n', LINE + 4, "a strategy has this name"),
        (AMONG + 'name = "dense"\n', LINE + 4, "a strategy has this name"),
        (AMONG + 'name = "a@b"\n', LINE + 4, "letters, digits, spaces"),
        (AMONG + f'name = "{"a" * 65}"\n', LINE + 4, "at most 64"),
        (AMONG + AMONG, LINE + 5, "chooses among the same"),
        (
            AMONG + 'name = "x"\n' + AMONG.replace("hot", "lr-rewind") + 'name = "x"\n',
            LINE + 10,
            "another selection has this name",
        ),
        (SELECT.replace("lr_window", "retrain"), LINE + 1, "no grid.retrain"),
    ],
)
def test_a_mistake_is_named_with_its_line(select: str, line: int, said: str) -> None:
    with pytest.raises(PlanError, match=said) as caught:
        study(PLAN + select)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("", r"part of the training set that is held out: \[recipe.validation\] .* count = 25"),
        (VALIDATION.replace("train", "test"), "choosing on what is reported"),
    ],
)
def test_validation_has_to_be_carved_from_the_training_set(recipe: str, said: str) -> None:
    text = plan("fine-tune", "hot", recipe=recipe)
    study(text)
    with pytest.raises(PlanError, match=said) as caught:
        study(text + SELECT)
    assert caught.value.key == "select[0].by"


def test_several_sets_or_strategies_have_to_be_told_apart() -> None:
    two = plan("fine-tune", "hot", "weight-rewind", "weight-rewind-low-lr") + SELECT
    with pytest.raises(PlanError, match="say which by `among`") as caught:
        study(two)
    assert caught.value.found == "fine-tune, hot; weight-rewind, weight-rewind-low-lr"
    axis = plan("fine-tune", "lr-rewind").replace(
        "[datasets", 'retrain = ["2ep", "4ep"]\n[datasets'
    )
    with pytest.raises(PlanError, match="lengths of one strategy") as caught:
        study(axis + SELECT.replace("lr_window", "retrain"))
    assert caught.value.allowed == ('["fine-tune"]', '["lr-rewind"]')
    one = axis.replace('["2ep", "4ep"]', '["2ep"]')
    with pytest.raises(PlanError, match="at least two lengths"):
        study(one + SELECT.replace("lr_window", "retrain"))

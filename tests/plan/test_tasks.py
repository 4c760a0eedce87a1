"""A recipe's task: its name, the data it needs, the settings it does not use, and what the plan's record says of it."""

from __future__ import annotations

import msgspec
import pytest

from prunectl.errors import PlanError
from prunectl.ml.tasks import registry as tasks
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.plan.schema import Recipe
from prunectl.spec.key import canonical
from prunectl.spec.task import DEFAULT_TASK
from tests.support.additions import REGRESSION_ENTRY, registered
from tests.support.checking import check
from tests.support.tiny_plans import tiny_plan

__all__ = ["registered"]
pytestmark = pytest.mark.usefixtures("registered")

PLAN = """\
# Is it good?
name = "functions"
seeds = [0, 1]

[grid]
network = ["lenet-300-100"]
dataset = ["waves"]
strategy = ["fine-tune"]

[recipe]
base = "quickstart"
task = "regression"

[pruning]
schedule = { kind = "iterative", rate = 0.5, iterations = 2 }
"""


def expanded(old: str = "", new: str = "") -> Expansion:
    assert old in PLAN
    return expand(loads(PLAN.replace(old, new) if old else PLAN, "plan.toml"), check)


def test_stages_and_trials_have_the_task_and_the_record_says_what_it_measures() -> None:
    expansion = expanded()
    assert {stage.task for stage in expansion.stages.values()} == {"regression"}
    assert all(canonical(stage)["task"] == "regression" for stage in expansion.stages.values())
    assert {trial.task for trial in expansion.trials} == {"regression"}
    study = expansion.study()
    assert study.tasks == {"regression": REGRESSION_ENTRY.measures}
    assert study.score_of("regression").name == "rmse"
    assert {stage.network.classes for stage in expansion.stages.values()} == {2}


def test_the_default_task_is_nowhere_written() -> None:
    """So that what was made before there were tasks keeps its keys and its records."""
    named, unnamed = (
        expand(loads(tiny_plan(recipe=recipe)), check)
        for recipe in (f'task = "{DEFAULT_TASK}"', "")
    )
    assert named.stages == unnamed.stages
    assert unnamed.study().tasks == {}
    assert not any("task" in canonical(stage) for stage in unnamed.stages.values())
    assert "task" not in msgspec.to_builtins(unnamed.trials[0])


def test_a_task_may_be_an_axis() -> None:
    expansion = expanded(
        '[recipe]\nbase = "quickstart"\ntask = "regression"\n',
        '[grid.recipe]\ntask = ["regression"]\n\n[recipe]\nbase = "quickstart"\n',
    )
    assert {trial.task for trial in expansion.trials} == {"regression"}
    assert {trial.recipe for trial in expansion.trials} == {"quickstart task=regression"}


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ('"regression"', '"regresion"', 12, "recipe.task", "did you mean: regression"),
        ('"regression"', "3", 12, "recipe.task", "string"),
        ('"regression"', '"classification"', 12, "recipe.task", "waves is data for regression"),
        ('task = "regression"\n', "", 7, "grid.dataset", "waves is data for regression"),
        ('"waves"', '"digits"', 12, "recipe.task", "digits is data for classification"),
        (
            'base = "quickstart"\n',
            'base = "quickstart"\nlabel_smoothing = 0.1\n',
            12,
            "recipe.label_smoothing",
            "regression does not use it",
        ),
        (
            'base = "quickstart"\ntask = "regression"\n',
            'base = "quickstart"\n[grid.recipe]\ntask = ["regression", "classification"]\n',
            13,
            "recipe.task",
            "waves is data for regression",
        ),
    ],
)
def test_mistakes(old: str, new: str, line: int, key: str, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        expanded(old, new)
    assert (caught.value.file, caught.value.line, caught.value.key) == ("plan.toml", line, key)
    assert says in str(caught.value)


def test_a_setting_at_its_default_is_none() -> None:
    plain = expanded()
    said = expanded('base = "quickstart"\n', 'base = "quickstart"\nlabel_smoothing = 0.0\n')
    assert said.stages == plain.stages


def test_settings_of_tasks_are_keys_of_a_recipe() -> None:
    for name in tasks.names():
        assert set(tasks.find(name).settings) <= Recipe.model_fields.keys()

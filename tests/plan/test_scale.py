"""Large plans: a stage is encoded once for all seeds, and trials are counted before any of them is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunectl.errors import PlanError
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import MOST_BYTES, LoadedPlan, load, loads
from prunectl.plan.size import MOST_STAGES, Size, check_size, count_of_a_seed
from prunectl.spec import key
from prunectl.spec.key import stage_key
from tests.support.tiny_plans import tiny_plan

PLANS = sorted((Path(__file__).parents[2] / "plans").glob("*.toml"))
STRATEGIES = ("fine-tune", "weight-rewind", "lr-rewind", "reinit", "partial-rewind-50")


def of_seeds(*seeds: int) -> Expansion:
    return expand(loads(tiny_plan(seeds=seeds, strategies=STRATEGIES)), None)


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_the_keys_of_shipped_plans_are_those_of_their_stages(file: Path) -> None:
    expansion = expand(load(file, ["seeds=[0, 7, 12345678901]"]), None)
    for name, stage in expansion.stages.items():
        assert stage_key(stage) == name
    for trial in expansion.trials:
        assert {expansion.stages[name].seed for name in trial.path} == {trial.seed}


def test_further_seeds_encode_no_further_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []
    to_json = key.to_json
    monkeypatch.setattr(key, "to_json", lambda value: encoded.append(value) or to_json(value))
    one = of_seeds(3)
    for_one = len(encoded)
    encoded.clear()
    many = of_seeds(*range(100))
    assert len(encoded) == for_one
    assert len(many.stages) == 100 * len(one.stages)
    by_seed = [trial for trial in many.trials if trial.seed == 3]
    assert by_seed == list(one.trials)


# counted before


def whole(plan: LoadedPlan) -> Size:
    """What is counted of one seed, for all."""
    of_a_seed, seeds = count_of_a_seed(plan), len(plan.content.seeds)
    return Size(seeds * of_a_seed.trials, seeds * of_a_seed.stages)


def counted(expansion: Expansion) -> Size:
    return Size(len(expansion.trials), sum(len(trial.path) for trial in expansion.trials))


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_shipped_plans_have_as_many_trials_as_are_counted(file: Path) -> None:
    plan = load(file)
    assert whole(plan) == counted(expand(plan, None))


GRID = """
[grid.recipe]
batch = [32, 64]
optimizer.momentum = [0.8, 0.9, 0.95]

[grid.pruning]
criterion = ["magnitude", "random"]
schedule = [
    { kind = "one-shot", rate = 0.5, until = 0.99 },
    { kind = "iterative", sparsities = [0.5, 0.75] },
    { kind = "one-shot", rate = 0.2, iterations = 4 },
]

[datasets.toy]"""


@pytest.mark.parametrize("skip", ["", 'schedule = "iterative"', 'strategy = "reinit"'])
@pytest.mark.parametrize("other", ["dense", "reinit"])
def test_what_an_axis_changes_nothing_of_is_counted_once(skip: str, other: str) -> None:
    text = tiny_plan(strategies=["fine-tune", "reinit", other][: 2 + (other == "dense")])
    text = text.replace("[datasets.toy]", GRID).replace(
        "[grid]", '[grid]\nretrain = ["1ep", "2ep"]'
    )
    if skip:
        text = text.replace("[grid]", f"[grid]\nskip = [{{ {skip} }}]")
    plan = loads(text)
    assert whole(plan) == counted(expand(plan, None))


@pytest.mark.parametrize(("iterations", "twice"), [([7], 0), ([1, 7], 2)])
def test_axes_inside_the_schedule_multiply_by_their_levels(
    iterations: list[int], twice: int
) -> None:
    """Two ways to say the same levels, 1 and the first of 7 at each rate, count twice."""
    text = tiny_plan().replace('kind = "iterative", ', 'kind = "one-shot", ')
    axes = f"[grid.pruning.schedule]\nrate = [0.5, 0.2]\niterations = {iterations}\n\n"
    plan = loads(text.replace("[datasets.toy]", f"{axes}[datasets.toy]"))
    trials = 2 * 2 * 2 * sum(iterations)
    assert whole(plan) == Size(trials, 2 * trials)
    assert len(expand(plan, None).trials) == trials - 2 * 2 * twice


def many(values: int, seeds: int = 2) -> str:
    """A plan with two axes of so many values each."""
    axes = "".join(
        f"{name} = {[(n + 1) / 1e6 for n in range(values)]}\n"
        for name in ("optimizer.weight_decay", "optimizer.eps")
    )
    text = tiny_plan(seeds=range(seeds), iterations=9)
    return text.replace("[datasets.toy]", f"[grid.recipe]\n{axes}\n[datasets.toy]")


AT_MOST = "at most 400,000 stages, each trial and stage of one seed counted as 15 and 4 more"


@pytest.mark.parametrize(
    ("text", "found", "allowed"),
    [
        (
            many(100, seeds=1000),
            "20,000,000 trials: 1,000 seeds × 20,000 of the grid (strategy 2 × recipe.optimizer.weight_decay 100 × "
            "recipe.optimizer.eps 100), with 200,000,000 stages: 201,100,000",
            AT_MOST,
        ),
        (
            many(60, seeds=1),
            "7,200 trials: 1 seed × 7,200 of the grid (strategy 2 × recipe.optimizer.weight_decay 60 × "
            "recipe.optimizer.eps 60), with 72,000 stages: 468,000",
            AT_MOST,
        ),
        (
            many(10_000),
            "200,000,000 combinations: strategy 2 × recipe.optimizer.weight_decay 10,000 × "
            "recipe.optimizer.eps 10,000",
            "at most 100,000 combinations",
        ),
        (
            tiny_plan(seeds=range(19_995), iterations=9),
            "39,990 trials: 19,995 seeds × 2 of the grid (strategy 2), with 399,900 stages: 400,010",
            AT_MOST,
        ),
    ],
)
def test_a_plan_that_is_too_large_is_refused_before_anything_is_made(
    text: str, found: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunectl.plan.expand.grid_points", lambda plan: pytest.fail("resolved"))
    with pytest.raises(PlanError) as caught:
        expand(loads(text, "plan.toml"), None)
    assert str(caught.value).splitlines() == [
        "plan.toml:5: grid: too many trials for one plan: take fewer seeds or values, or split it",
        f"  found:   {found}",
        f"  allowed: {allowed}",
    ]


def test_as_many_as_are_allowed_are_not_refused() -> None:
    plan = loads(tiny_plan(seeds=range(19_994), iterations=9))
    assert whole(plan).stages == MOST_STAGES - 120
    check_size(plan)


def test_a_rate_that_would_never_end_is_refused() -> None:
    text = tiny_plan().replace("rate = 0.5, iterations = 2", "rate = 1e-9, until = 0.9")
    with pytest.raises(PlanError, match="`until` takes 2,302,585,092 iterations of this rate"):
        expand(loads(text), None)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    with file.open("wb") as out:
        out.truncate(MOST_BYTES + 1)
    with pytest.raises(PlanError, match=r"too large for a plan.*\n.*8,000,001 bytes"):
        load(file)

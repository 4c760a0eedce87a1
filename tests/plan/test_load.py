"""Mistakes in plans: each says where it stands, what was found, what is allowed, and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunectl.core.inspect import check
from prunectl.errors import PlanError
from prunectl.plan.expand import expand
from prunectl.plan.load import load, loads

GOOD = """\
# Is it good?
name = "good"
seeds = [0, 1]

[grid]
network = ["lenet-300-100"]
dataset = ["digits"]
strategy = ["fine-tune"]

[recipe]
base = "quickstart"

[pruning]
schedule = { kind = "iterative", rate = 0.5, iterations = 2 }
"""


def mistake(old: str, new: str) -> PlanError:
    assert old in GOOD
    with pytest.raises(PlanError) as caught:
        expand(loads(GOOD.replace(old, new), "plan.toml"), check)
    return caught.value


def test_the_good_plan_is_good() -> None:
    plan = loads(GOOD, "plan.toml")
    assert plan.question == "Is it good?"
    assert len(expand(plan, check).trials) == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "found", "suggestion"),
    [
        ('name = "good"', 'nam = "good"', 2, "nam", "nam", "name"),
        ("[pruning]", "[prunning]", 13, "prunning", "prunning", "pruning"),
        ("strategy =", "strategies =", 8, "grid.strategies", "strategies", "strategy"),
        ("lenet-300-100", "lenet-300", 6, "grid.network", "lenet-300", "lenet-300-100"),
        ('"digits"', '"digit"', 7, "grid.dataset", "digit", "digits"),
        ('"fine-tune"', '"finetune"', 8, "grid.strategy", "finetune", "fine-tune"),
        ('"quickstart"', '"quick"', 11, "recipe.base", "quick", "quickstart"),
        ("[recipe]\n", "[recipe]\nbatc = 3\n", 11, "recipe.batc", "batc", "batch"),
        (
            "[recipe]\n",
            "[recipe]\noptimizer.momentun = 0.5\n",
            11,
            "recipe.optimizer.momentun",
            "momentun",
            "momentum",
        ),
        (
            "[pruning]\n",
            '[pruning]\nscope = "globl"\n',
            14,
            "pruning.scope",
            "globl",
            "global",
        ),
        (
            "[pruning]\n",
            '[pruning]\ncriterion = "magnitud"\n',
            14,
            "pruning.criterion",
            "magnitud",
            "magnitude",
        ),
        (
            "[pruning]\n",
            '[pruning]\nexclude = ["frst"]\n',
            14,
            "pruning.exclude",
            "frst",
            "first",
        ),
    ],
)
def test_wrong_names(old: str, new: str, line: int, key: str, found: str, suggestion: str) -> None:
    error = mistake(old, new)
    assert (error.file, error.line, error.key) == ("plan.toml", line, key)
    assert error.found == found
    assert suggestion in error.allowed
    assert error.suggestion == suggestion


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ("seeds = [0, 1]", 'seeds = "0"', 3, "seeds", "list"),
        ("seeds = [0, 1]", 'seeds = [0, "1"]', 3, "seeds[1]", "integer"),
        ("seeds = [0, 1]", "seeds = [0, 0]", 3, "seeds", "distinct"),
        ("seeds = [0, 1]", "seeds = []", 3, "seeds", "at least 1 item"),
        ("seeds = [0, 1]", "seeds = [-1]", 3, "seeds[0]", "greater than or equal to 0"),
        ("seeds = [0, 1]\n", "", None, "seeds", "missing"),
        ('network = ["lenet-300-100"]', "network = []", 6, "grid.network", "at least 1 item"),
        ('["fine-tune"]', '["fine-tune", "fine-tune"]', 8, "grid.strategy", "duplicate"),
        ('name = "good"', 'name = "Not good"', 2, "name", "pattern"),
        ("rate = 0.5", "rate = 1.2", 14, "pruning.schedule.rate", "less than 1"),
        ("iterations = 2", "until = 1.2", 14, "pruning.schedule.until", "less than 1"),
        ("rate = 0.5, iterations = 2", "sparsities = [1.2]", 14, "pruning.schedule.sparsities[0]", "less than 1"),
        ("rate = 0.5, iterations = 2", "sparsities = [0.5, 0.4]", 14, "pruning.schedule", "increase"),
        ("rate = 0.5, iterations = 2", "rate = 0.5", 14, "pruning.schedule", "until"),
        ("rate = 0.5, iterations = 2", "sparsities = []", 14, "pruning.schedule", "sparsities"),
        ('base = "quickstart"', 'base = "quickstart"\nlength = 30', 12, "recipe.length", "182ep"),
        ('base = "quickstart"', 'base = "quickstart"\nlength = "0ep"', 12, "recipe.length", "one step"),
        ('base = "quickstart"', 'base = "quickstart"\nlength = "9ep"', 10, "recipe.schedule.milestones", "incr"),
        ('base = "quickstart"', 'base = "quickstart"\nretrain.fine-tune = "0it"', 12, "recipe.retrain.fine-tune", "one step"),
        ("[recipe]\n", "[recipe]\naugment.flip = 1\n", 11, "recipe.augment.flip", "boolean"),
        ("[recipe]\n", '[recipe]\noptimizer.momentum = "0.9"\n', 11, "recipe.optimizer.momentum", "number"),
        ("[recipe]\n", '[recipe]\nnormalize = { mean = [0.5, 0.5], std = [1.0, 1.0] }\n', 11, "recipe.normalize", "each of the 1 channels"),
        ("[recipe]\n", '[recipe]\nvalidation = { from = "train", count = 5000 }\n', 11, "recipe.validation.count", "1437"),
        ("rate = 0.5, iterations = 2", "rate = 0.5, iterations = 40", 14, "pruning.schedule", "keeps 0 of"),
        ("rate = 0.5, iterations = 2", "sparsities = [0.5, 0.500001]", 14, "pruning.schedule", "no fewer"),
        ('network = ["lenet-300-100"]', 'network = ["vgg-16"]', 6, "grid.network", "8"),
    ],
)  # fmt: skip
def test_wrong_values(old: str, new: str, line: int | None, key: str, says: str) -> None:
    error = mistake(old, new)
    assert (error.file, error.line, error.key) == ("plan.toml", line, key)
    assert says in str(error)


@pytest.mark.parametrize(
    ("strategy", "key", "says"),
    [
        ('weights_from = { dense = "21ep" }\nlr_window = "from-start"\nretrain = "full"', "weights_from", "past"),
        ('weights_from = "rewound"\nlr_window = "rewound"\nretrain = "21ep"', "retrain", "cannot exceed"),
        ('weights_from = "parent"\nlr_window = { from = "10ep" }\nretrain = "11ep"', "", "window"),
        ('weights_from = "parent"\nlr_window = "rewond"\nretrain = "11ep"', "lr_window", "rewound"),
        ('weights_from = { dens = "1ep" }\nlr_window = "rewound"', "weights_from.dens", "dense"),
        ('weights_from = "parent"\nlr_window = "rewound"', "", "length of retraining"),
    ],
)  # fmt: skip
def test_impossible_strategies(strategy: str, key: str, says: str) -> None:
    error = mistake('"fine-tune"]', f'"mine"]\n[strategies.mine]\n{strategy}')
    assert error.key in (f"strategies.mine.{key}".rstrip("."), "strategies.mine")
    assert error.line is not None
    assert error.line >= 9
    assert says in str(error)


def test_fine_tuning_at_a_rate_of_zero_is_refused() -> None:
    error = mistake(
        'base = "quickstart"',
        'base = "quickstart"\nschedule = { kind = "cosine", lr = 0.1 }',
    )
    assert "constant" in str(error)


def test_a_syntax_error_has_its_line() -> None:
    error = mistake("[recipe]", "[recipe")
    assert error.line == 10
    assert "not valid TOML" in str(error)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such plan file"):
        load(tmp_path / "nothing.toml")


def test_overrides_are_checked_like_the_plan() -> None:
    plan = loads(GOOD, overrides=["seeds=[7]", "recipe.batch=32", "name=other"])
    assert plan.content.seeds == (7,)
    assert plan.content.name == "other"
    with pytest.raises(PlanError, match="unknown key"):
        loads(GOOD, overrides=["gird.network=[1]"])
    with pytest.raises(PlanError, match="key=value"):
        loads(GOOD, overrides=["seeds"])

"""Mistakes in plans: each says where it stands, what was found, what is allowed, and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunectl.errors import PlanError
from prunectl.plan.expand import expand
from prunectl.plan.load import load, loads
from tests.support.checking import check

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


def test_a_byte_order_mark_is_no_part_of_a_plan(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    plans = []
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(GOOD, encoding=encoding)
        plans.append(expand(load(file), check))
    assert plans[0].plan.text == plans[1].plan.text == GOOD
    assert plans[0].digest == plans[1].digest


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
        ("seeds = [0, 1]", "seeds = [-1]", 3, "seeds[0]", "at least 0"),
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


DATA = 'dataset = ["digits"]\nstrategy = ["fine-tune"]\n'
SYNTHETIC = """strategy = ["fine-tune"]
dataset = ["toy"]
[datasets.toy]
kind = "synthetic"
channels = 1
height = 8
width = 8
"""


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("[recipe]\n", "[run]\nslots_per_device = 0\n[recipe]\n", "run.slots_per_device", "at least 1"),
        ("[recipe]\n", '[run]\nslots_per_device = "all"\n[recipe]\n', "run.slots_per_device", "auto"),
        ("[recipe]\n", "[run]\ndevices = 1\n[recipe]\n", "run.devices", "string"),
        ("[recipe]\n", '[run]\ndevice = "cpu"\n[recipe]\n', "run.device", "devices"),
        ("[recipe]\n", "[grid.recipe]\nbatch = 32\n[recipe]\n", "grid.recipe.batch", "an axis is a list"),
        ("[recipe]\n", "[grid.recipe]\nbatch = []\n[recipe]\n", "grid.recipe.batch", "an axis is a list"),
        ("[recipe]\n", "[grid.recipe]\nbatch = [32, 64, 32]\n[recipe]\n", "grid.recipe.batch", "duplicate"),
        ("[recipe]\n", "[grid.recipe.optimizer]\nmomentum = [0.5, 0.5]\n[recipe]\n", "grid.recipe.optimizer.momentum", "duplicate"),
        ("[recipe]\n", '[grid.pruning]\nscope = ["global", "global"]\n[recipe]\n', "grid.pruning.scope", "duplicate"),
        ("[recipe]\n", "[grid.recipe]\nbatch = [32, 0]\n[recipe]\n", "recipe.batch", "at least 1"),
        ('"fine-tune"]', '"fine-tune"]\nnetworks = ["convnet"]', "grid.networks", "network"),
        ('"fine-tune"]', '"fine-tune"]\nretrain = ["1ep", "1ep"]', "grid.retrain", "duplicate"),
        ('"fine-tune"]', '"fine-tune"]\nretrain = [3]', "grid.retrain[0]", "182ep"),
        ('"fine-tune"]', '"reinit", "partial-rewind-50"]\nretrain = ["1ep"]', "grid.retrain", "fixes its length"),
        ('"fine-tune"]', '"lr-rewind"]\nretrain = ["21ep"]', "grid.retrain", "cannot exceed"),
        ('"fine-tune"]', '"weight-rewind"]\nretrain = ["21ep"]', "grid.retrain", "cannot exceed"),
        ('"fine-tune"]', '"partial-rewind-101"]', "grid.strategy", "partial-rewind-50"),
        ('"fine-tune"]', '"fine-tune"]\nskip = [{ strategy = "reinit" }]', "grid.skip", "no combination"),
        ('"fine-tune"]', '"fine-tune"]\nskip = [{}]', "grid.skip[0]", "skip everything"),
        ('"fine-tune"]', '"fine-tune"]\nskip = [{ seed = 1 }]', "grid.skip[0].seed", "strategy"),
        ('"fine-tune"]', '"fine-tune"]\nskip = [{ schedule = "once" }]', "grid.skip[0].schedule", "one-shot"),
        ('base = "quickstart"', 'base = { lenet-5 = "quickstart" }', "recipe.base", "no recipe for it"),
        ('base = "quickstart"', "base = 3", "recipe.base", "by network"),
        ('base = "quickstart"', 'base = "quickstart"\nretrain.fine-tun = "full"', "recipe.retrain.fine-tun", "fine-tune"),
        ('base = "quickstart"', 'base = "quickstart"\nretrain.reinit = "1ep"', "recipe.retrain.reinit", "fixes its length"),
        ('base = "quickstart"', 'base = "quickstart"\nschedule.lr = inf', "recipe.schedule.lr", "finite"),
        ('base = "quickstart"', 'base = "quickstart"\nschedule.lr = nan', "recipe.schedule.lr", "finite"),
        ('base = "quickstart"', 'base = "quickstart"\noptimizer.weight_decay = -1.0', "recipe.optimizer.weight_decay", "at least 0"),
        ('base = "quickstart"', 'base = "quickstart"\nschedule.warmup = "21ep"', "recipe.schedule.warmup", "longer than training"),
        ('base = "quickstart"', 'base = "quickstart"\nbatch = 2000\nlast_batch = "drop"', "recipe.batch", "make no batch"),
        (DATA, SYNTHETIC + "hight = 8\n", "datasets.toy.hight", "height"),
        (DATA, SYNTHETIC + 'classes = "10"\n', "datasets.toy", "not of type int"),
        (DATA, SYNTHETIC + "classes = 1\n", "datasets.toy", "at least 2 outputs"),
        (DATA, 'strategy = ["fine-tune"]\ndataset = ["toy"]\n[datasets.toy]\n', "datasets.toy", "needs `kind`"),
        (DATA, 'strategy = ["fine-tune"]\ndataset = ["toy"]\n[datasets.toy]\nkind = "digit"\n', "datasets.toy.kind", "digits"),
        (DATA, 'strategy = ["fine-tune"]\ndataset = ["digits"]\n[datasets.digits]\nkind = "synthetic"\n', "datasets.digits", "has this name"),
        ("[pruning]\n", '[pruning]\nexclude = ["first", "hidden2", "last"]\n', "pruning.exclude", "every layer of lenet-300-100"),
        ("[pruning]\n", '[pruning]\nexclude = ["hidden9"]\n', "pruning.exclude", "hidden2"),
        ("iterations = 2", "iterations = 2, untl = 0.5", "pruning.schedule.untl", "until"),
    ],
)  # fmt: skip
def test_more_mistakes(old: str, new: str, key: str, says: str) -> None:
    error = mistake(old, new)
    assert error.key == key
    assert error.line is not None
    assert says in str(error)


@pytest.mark.parametrize("name", ["fine-tune", "reinit", "partial-rewind-50", "dense"])
def test_own_strategies_must_not_hide_built_in_ones(name: str) -> None:
    own = f'[strategies.{name}]\nweights_from = "parent"\nlr_window = "last-value"\n[recipe]\n'
    error = mistake("[recipe]\n", own)
    assert (error.key, error.line) == (f"strategies.{name}", 10)
    assert "built-in" in str(error)


def test_a_strategy_may_be_defined_and_not_used() -> None:
    own = '[strategies.mine]\nweights_from = "parent"\nlr_window = "last-value"\n[recipe]\n'
    assert expand(loads(GOOD.replace("[recipe]\n", own)), check)


def test_what_is_skipped_is_not_there() -> None:
    axis = '[grid.pruning]\nschedule = [{ kind = "one-shot", sparsities = [0.5] }, { kind = "iterative", rate = 0.5, iterations = 2 }]\n'
    both = GOOD.replace("[recipe]\n", axis + "[recipe]\n").replace(
        '["fine-tune"]', '["fine-tune", "reinit"]'
    )
    less = both.replace(
        '"reinit"]', '"reinit"]\nskip = [{ strategy = "reinit", schedule = "iterative" }]'
    )
    whole, part = expand(loads(both), check), expand(loads(less), check)
    assert {t.id for t in whole.trials} - {t.id for t in part.trials} == {
        t.id for t in whole.trials if (t.strategy, t.schedule) == ("reinit", "iterative 0.5")
    }


def test_the_dense_network_alone_needs_no_pruning() -> None:
    text = GOOD.split("[pruning]")[0].replace('"fine-tune"', '"dense"')
    found = expand(loads(text), check)
    assert [(t.strategy, t.schedule, t.sparsities) for t in found.trials] == [
        ("dense", "dense", ("0",))
    ] * 2
    both = expand(loads(GOOD.replace('"fine-tune"', '"fine-tune", "dense"')), check)
    assert found.stages.keys() < both.stages.keys()


def test_an_axis_of_lengths_leaves_full_trainings_alone() -> None:
    text = GOOD.replace(
        '["fine-tune"]', '["lr-rewind", "reinit"]\nretrain = ["5ep", "10ep", "full"]'
    )
    found = expand(loads(text), check)
    lengths = sorted((t.strategy, t.retrain) for t in found.trials if t.seed == 0)
    assert lengths == [
        ("lr-rewind", "10ep"),
        ("lr-rewind", "5ep"),
        ("lr-rewind", "full"),
        ("reinit", "full"),
    ]

"""What a network cannot do with a plan's images and batches is found before anything runs, and only that."""

from __future__ import annotations

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from prunectl.errors import PlanError
from prunectl.ml.datasets.images import Images, load
from prunectl.ml.networks import registry
from prunectl.ml.training.trainer import Trainer
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import LoadedPlan, loads
from prunectl.spec.seeds import Seeds
from prunectl.spec.stage import Stage
from tests.support.checking import check

PLAN = """\
name = "shapes"
seeds = [0]
[grid]
network = ["resnet-34"]
dataset = ["tiny"]
strategy = ["dense"]
[datasets.tiny]
kind = "synthetic"
height = 32
width = 32
train = 9
test = 3
[recipe]
length = "1ep"
batch = 8
schedule = { kind = "constant", lr = 0.01 }
[pruning]
schedule = { kind = "one-shot", sparsities = [0.5] }
"""


def expanded(*changes: str) -> Expansion:
    return expand(loads(PLAN, "plan.toml", changes), check)


VGG = 'grid.network=["vgg-16"]'
FINE_TUNED = ('grid.strategy=["fine-tune"]', 'recipe.retrain.fine-tune="1ep"')


@pytest.mark.parametrize(
    ("changes", "place", "says", "mended"),
    [
        (
            (),
            "13: recipe.last_batch",
            "9 images in batches of 8 leave 1",
            'recipe.last_batch="drop"',
        ),
        ((), "13: recipe.last_batch", "layer4.0.bn1, at 512×1×1", 'recipe.batches="straddle"'),
        ((), "13: recipe.last_batch", "than 2 images of 3×32×32", "recipe.batch=7"),
        ((), "13: recipe.last_batch", "found:   keep", "datasets.tiny.height=33"),
        (
            ("datasets.tiny.train=17", 'recipe.length="2it"', *FINE_TUNED),
            "13: recipe.last_batch",
            "17 images in batches of 8 leave 1",
            'recipe.retrain.fine-tune="2it"',
        ),
        (("recipe.batch=1",), "15: recipe.batch", "allowed: at least 2", "recipe.batch=3"),
        (
            ("datasets.tiny.train=10", "recipe.batch=5", "recipe.micro_batch=4"),
            "13: recipe.micro_batch",
            "of a batch of 5 passes have 4 and 1\n  found:   4\n  allowed: 3, none",
            "recipe.micro_batch=3",
        ),
        (
            ("datasets.tiny.train=12", "recipe.micro_batch=1"),
            "13: recipe.micro_batch",
            "a pass has 1\n  found:   1\n  allowed: 2, none",
            "recipe.micro_batch=2",
        ),
        (
            ("datasets.tiny.train=1",),
            "7: datasets.tiny",
            "there is 1 to train on\n  found:   1 training image\n  allowed: at least 2",
            "datasets.tiny.train=2",
        ),
        (
            ('recipe.validation={from="train", count=8}',),
            "13: recipe.validation.count",
            "there is 1 to train on",
            "recipe.validation.count=7",
        ),
        (
            (VGG, "datasets.tiny.width=20", "datasets.tiny.height=40"),
            "10: datasets.tiny.width",
            "found:   20\n  allowed: vgg-16 on images of 3×40×32, another network",
            "datasets.tiny.width=32",
        ),
        (
            ("datasets.tiny.channels=1",),
            "7: datasets.tiny.channels",
            "allowed: resnet-34 on images of 3×32×32, another network",
            'grid.network=["resnet-20"]',
        ),
        (
            (VGG, 'grid.dataset=["digits"]'),
            "4: grid.network",
            "found:   vgg-16\n  allowed: vgg-16 on images of 1×32×32, another network",
            'grid.network=["convnet"]',
        ),
        (
            ('recipe.augment={pad=32, padding="reflect"}', "recipe.batch=9"),
            "13: recipe.augment.pad",
            "found:   32\n  allowed: 0 to 31",
            "recipe.augment.pad=31",
        ),
    ],
)
def test_the_error_names_the_key_that_mends_it(
    changes: tuple[str, ...], place: str, says: str, mended: str
) -> None:
    with pytest.raises(PlanError) as error:
        expanded(*changes)
    assert str(error.value).startswith(f"plan.toml:{place}: ")
    assert says in str(error.value)
    assert expanded(*changes, mended).trials


def test_a_batch_that_is_never_reached_is_no_mistake() -> None:
    assert expanded('recipe.length="1it"').trials


def refusal(plan: LoadedPlan) -> PlanError | None:
    try:
        expand(plan, check)
    except PlanError as error:
        return error
    return None


def trains(stage: Stage) -> bool:
    """Whether the stage can be trained and evaluated, by doing it."""
    images = load(stage.data)
    assert isinstance(images, Images)
    try:
        trainer = Trainer(stage.network, stage.train, images)
        trainer.initialise(0, 0)
        for _ in trainer.train(stage.lr, Seeds.of(0), 0, stage.steps):
            pass
        assert trainer.evaluate("test") is not None
    except (RuntimeError, ValueError):
        return False
    return True


LARGEST = {
    "wrn-28-10": 6,
    "wrn-16-8": 10,
    "resnet-44": 12,
    "resnet-56": 8,
    "resnet-110": 6,
    "vgg-16": 33,
}
"""Sides of images, in pixels, that these networks are tried on: a step on more takes them seconds."""
DEEP = ("resnet-32", "resnet-44", "resnet-50", "resnet-56", "resnet-110", "wrn-28-10")
"""Tried less often, because a network of fewer layers is made alike."""


@pytest.mark.parametrize("network", registry.names())
def test_the_verdict_is_what_training_does(network: str) -> None:
    largest = LARGEST.get(network, 40)
    sides = st.sampled_from([1, 4, 5, largest]) | st.integers(1, largest)

    @settings(
        max_examples=2 if network in DEEP else 8,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
    )
    @given(
        shape=st.tuples(st.sampled_from((3, 3, 1)), sides, sides),
        train=st.integers(1, 7),
        test=st.integers(1, 2),
        batch=st.integers(1, 4),
        micro=st.none() | st.integers(1, 3),
        last=st.sampled_from(('last_batch="keep"', 'last_batch="drop"', 'batches="straddle"')),
        steps=st.integers(1, 4),
    )
    def compare(
        shape: tuple[int, int, int],
        train: int,
        test: int,
        batch: int,
        micro: int | None,
        last: str,
        steps: int,
    ) -> None:
        sizes = zip(
            ("channels", "height", "width", "train", "test"), (*shape, train, test), strict=True
        )
        changes = [
            f'grid.network=["{network}"]',
            *(f"datasets.tiny.{name}={value}" for name, value in sizes),
            f"recipe.batch={batch}",
            f"recipe.{last}",
            f'recipe.length="{steps}it"',
            *([f"recipe.micro_batch={micro}"] if micro else []),
        ]
        assume("drop" not in last or train >= batch)
        plan = loads(PLAN, "plan.toml", changes)
        (stage,) = expand(plan, None).stages.values()
        assert trains(stage) == (refusal(plan) is None)

    compare()

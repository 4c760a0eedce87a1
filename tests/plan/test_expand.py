"""From plans to trials and stages: the strategies' definitions, what is shared, what the keys depend on."""

from __future__ import annotations

from fractions import Fraction

import pytest

from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.spec.key import Spec, stage_key
from prunectl.spec.lr_schedule import constant, window
from prunectl.spec.stage import Stage
from prunectl.store.records.base import decode
from tests.support.tiny_plans import tiny_plan

TINY = tiny_plan(
    strategies=["fine-tune", "weight-rewind", "lr-rewind"],
    train=640,
    epochs=10,
    milestones=(5, 8),
    rewound=9,
    iterations=3,
).replace("lr = 0.05", "lr = 0.1")


def tiny(old: str = "", new: str = "", *, overrides: tuple[str, ...] = ()) -> Expansion:
    assert not old or old in TINY
    return expand(loads(TINY.replace(old, new) if old else TINY, overrides=overrides), None)


def path(expansion: Expansion, strategy: str, seed: int = 0) -> list[Stage]:
    trial = next(
        t for t in expansion.trials if t.strategy.split("@")[0] == strategy and t.seed == seed
    )
    return [expansion.stages[key] for key in trial.path]


def test_the_dense_stage_is_shared_by_all_strategies() -> None:
    expansion = tiny()
    assert len(expansion.trials) == 6
    unshared = [key for trial in expansion.trials for key in trial.path]
    assert len(unshared) == 6 * 4
    assert len(expansion.stages) == 2 * (1 + 3 * 3)
    steps = {key: spec.steps for key, spec in expansion.stages.items()}
    assert sum(steps[key] for key in unshared) - sum(steps.values()) == 2 * 2 * 100


def test_definitions_of_the_strategies() -> None:
    """DESIGN: fine-tune, weight-rewind and lr-rewind by where weights and learning rates come from."""
    expansion = tiny()
    dense, first, second, _ = path(expansion, "fine-tune")
    assert first.weights.stage == stage_key(dense)
    assert first.weights.step is None
    assert first.lr == constant(0.001, 100)
    assert second.weights.stage == second.mask.parent == stage_key(first)  # type: ignore[union-attr]

    dense, first, second, _ = path(expansion, "weight-rewind")
    for stage in (first, second):
        assert (stage.weights.stage, stage.weights.step) == (stage_key(dense), 10)
        assert stage.lr == window(dense.lr, 10, 90)
    assert second.mask is not None
    assert second.mask.parent == stage_key(first)

    dense, first, second, _ = path(expansion, "lr-rewind")
    assert first.weights.stage == stage_key(dense)
    assert first.weights.step is None
    assert second.weights.stage == stage_key(first)
    assert first.lr == second.lr == dense.lr


@pytest.mark.parametrize(
    ("strategy", "source", "step", "rates"),
    [
        ("weight-rewind-low-lr", "dense", 10, {0.001}),
        ("reinit", None, None, {0.1, 0.01, 0.001}),
        ("partial-rewind-75", "dense", 25, {0.1, 0.01, 0.001}),
        ("partial-rewind-0", "dense", None, {0.1, 0.01, 0.001}),
        ("partial-rewind-100", "dense", 0, {0.1, 0.01, 0.001}),
    ],
)
def test_the_other_strategies(
    strategy: str, source: str | None, step: int | None, rates: set[float]
) -> None:
    expansion = tiny(
        'strategy = ["fine-tune", "weight-rewind", "lr-rewind"]',
        f'strategy = ["{strategy}"]',
        overrides=('recipe.retrain.weight-rewind-low-lr="9ep"',),
    )
    dense, first, *_ = path(expansion, strategy)
    assert first.weights.stage == (stage_key(dense) if source else None)
    assert first.weights.step == step
    assert {segment.lr for segment in first.lr} == rates


def test_a_strategy_of_ones_own_restarts_the_schedule() -> None:
    """Mikler's released weight rewinding: weights from a step, the schedule from 0, shorter than training."""
    expansion = tiny(
        'strategy = ["fine-tune", "weight-rewind", "lr-rewind"]',
        """strategy = ["released"]
[strategies.released]
weights_from = { dense = "20it" }
lr_window = { from = "0it" }
retrain = "80it"
optimizer_state = "fresh"
""",
    )
    dense, first, *_ = path(expansion, "released")
    assert first.weights.step == 20
    assert first.lr == window(dense.lr, 0, 80)


def test_rewinding_inside_the_last_phase_is_fine_tuning() -> None:
    """Both come to the same stage, so it is trained once."""
    expansion = tiny(overrides=('recipe.retrain.lr-rewind="2ep"', 'recipe.retrain.fine-tune="2ep"'))
    assert path(expansion, "fine-tune") == path(expansion, "lr-rewind")
    trials = {trial.strategy: trial.id for trial in expansion.trials if trial.seed == 0}
    assert trials["fine-tune"] != trials["lr-rewind"]


def test_the_ladder_is_exact() -> None:
    expansion = tiny("rate = 0.5, iterations = 3", "rate = 0.2, iterations = 25")
    trial = expansion.trials[0]
    densities = [
        Fraction(spec.mask.settings.density) for spec in path(expansion, "fine-tune") if spec.mask
    ]
    assert densities == [Fraction(4, 5) ** k for k in range(1, 26)]
    assert trial.sparsities[:4] == ("0", "0.2", "0.36", "0.488")


def test_one_shot_is_a_trial_per_sparsity() -> None:
    expansion = tiny(
        '{ kind = "iterative", rate = 0.5, iterations = 3 }',
        '{ kind = "one-shot", sparsities = [0.5, 0.893] }',
    )
    assert len(expansion.trials) == 3 * 2 * 2
    assert all(len(trial.path) == 2 for trial in expansion.trials)
    assert {trial.sparsities[1] for trial in expansion.trials} == {"0.5", "0.893"}
    assert len(expansion.stages) == 2 + 12


def test_the_first_cut_of_a_ladder_is_a_one_shot_cut() -> None:
    both = tiny(
        'schedule = { kind = "iterative", rate = 0.5, iterations = 3 }',
        "",
        overrides=(
            'grid.pruning.schedule=[{kind="iterative",rate=0.5,iterations=3},'
            '{kind="one-shot",sparsities=[0.5,0.9]}]',
        ),
    )
    assert len(both.stages) == 2 * (1 + 3 * (3 + 1))


def test_any_key_may_be_an_axis() -> None:
    expansion = tiny(
        "[datasets.toy]",
        """[grid.recipe.optimizer]
weight_decay = [0.0, 1e-4]
[grid.pruning]
scope = ["global", "layerwise"]
[datasets.toy]""",
    )
    assert len(expansion.trials) == 6 * 4
    assert len({trial.cell for trial in expansion.trials}) == 3 * 4
    assert list(expansion.study().axes) == [
        "strategy",
        "recipe.optimizer.weight_decay",
        "pruning.scope",
    ]
    assert {trial.recipe.split()[-1] for trial in expansion.trials} == {
        "optimizer.weight_decay=0.0",
        "optimizer.weight_decay=0.0001",
    }


def test_cells_differ_in_everything_but_the_seed() -> None:
    expansion = tiny()
    for trial in expansion.trials:
        alike = [other for other in expansion.trials if other.cell == trial.cell]
        assert {other.strategy for other in alike} == {trial.strategy}
        assert sorted(other.seed for other in alike) == [0, 1]


def test_adding_a_strategy_keeps_every_key() -> None:
    before = tiny()
    after = tiny('"lr-rewind"]', '"lr-rewind", "reinit"]')
    assert before.stages.keys() < after.stages.keys()
    assert {t.id for t in before.trials} < {t.id for t in after.trials}
    assert len(after.stages) - len(before.stages) == 2 * 3


def test_how_it_runs_never_enters_a_key() -> None:
    plain = tiny()
    machine = tiny("[recipe]\n", '[run]\nslots_per_device = 4\ndevices = "cuda:0"\n[recipe]\n')
    assert plain.stages.keys() == machine.stages.keys()


def test_specs_survive_json() -> None:
    for key, spec in tiny().stages.items():
        again = decode(Spec(1, spec).to_json(), Spec, "a test").stage
        assert again == spec
        assert stage_key(again) == key

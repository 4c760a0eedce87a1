"""Labels are complete: whatever a plan varies, rows of `iterations` that differ in it differ in a label."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from prunectl.errors import ControlError, PlanError
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import loads
from prunectl.plan.pruning import Pruning
from prunectl.plan.schema import Recipe, Strategy
from prunectl.spec.trial import LABELS, Trial
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import write_plans
from prunectl.store.select import find_trials
from tests.support.checking import check

RECIPE: dict[str, Any] = {
    "source": "here",
    "length": "4ep",
    "batch": 32,
    "schedule": {"kind": "step", "lr": 0.1, "milestones": ["2ep", "3ep"]},
    "retrain": {"fine-tune": "2ep", "lr-rewind": "2ep"},
}
"""A recipe of the plan's own; as changes of a shipped one it is complete, too."""
RECIPE_AXES: dict[str, list[Any]] = {
    "source": ["here", "there"],
    "unverified": [[], ["batch"]],
    "length": ["4ep", "5ep", "4ep1it"],
    "batch": [16, 32],
    "batches": ["epoch", "straddle"],
    "last_batch": ["keep", "drop"],
    "micro_batch": [4, 8],
    "evaluate": ["end", "1ep", "2ep"],
    "optimizer": [{}, {"name": "adam", "beta1": 0.8}, {"beta2": 0.99}, {"eps": 1e-7}],
    "optimizer.name": ["sgd", "adam"],
    "optimizer.momentum": [0.9, 0.8],
    "optimizer.nesterov": [True, False],
    "optimizer.weight_decay": [0.0, 1e-4],
    "optimizer.decay": ["all", "weights"],
    "schedule": [
        {"kind": "constant", "lr": 0.1},
        {"kind": "step", "lr": 0.1, "milestones": ["2ep"]},
        {"kind": "step", "lr": 0.1, "milestones": ["1ep", "2ep"], "gamma": 0.2},
        {"kind": "cosine", "lr": 0.1, "end": 0.01},
        {"kind": "linear", "lr": 0.1, "end": 0.01, "warmup": "1ep"},
    ],
    "schedule.lr": [0.1, 0.01, 0.0100001],
    "schedule.milestones": [["1ep"], ["1ep", "2ep"], ["5it"]],
    "label_smoothing": [0.0, 0.1],
    "augment": [
        {},
        {"pad": 1},
        {"pad": 1, "padding": "reflect", "flip": True},
        {"crop": "random-resized"},
        {"crop": "random-resized", "scale": [0.5, 1.0], "ratio": [0.9, 1.1]},
    ],
    "normalize": [{}, {"kind": "image"}, {"mean": [0.5], "std": [0.5]}],
    "network.bn_momentum": [0.1, 0.2],
    "network.bn_eps": [1e-5, 1e-4],
    "network.initializer": ["pytorch", "he-uniform"],
    "network.shortcut": ["projection", "padding"],
    "validation": [{}, {"from": "train", "count": 8}, {"from": "test", "count": 8}],
    "precision": ["fp32", "bf16"],
    "deterministic": [True, False],
    "optimizer_state": ["fresh", "carried"],
    "retrain.fine-tune": ["2ep", "3ep"],
}  # fmt: skip
PRUNING_AXES: dict[str, list[Any]] = {
    "criterion": ["magnitude", "random"],
    "scope": ["global", "layerwise", "uniform"],
    "granularity": ["weight", "channel"],
    "exclude": [[], ["first"], ["last", "first"], ["first", "last", "hidden"]],
    "schedule": [
        {"kind": "one-shot", "sparsities": [0.5, 0.75]},
        {"kind": "one-shot", "rate": 0.5, "until": 0.75},
        {"kind": "iterative", "sparsities": [0.5, 0.75]},
        {"kind": "iterative", "sparsities": [0.5, 0.75, 0.8]},
        {"kind": "iterative", "rate": 0.5, "until": 0.5},
        {"kind": "iterative", "rate": 0.5, "until": 0.75},
        {"kind": "iterative", "rate": 0.5, "iterations": 3},
    ],
    "schedule.rate": [0.3, 0.2, 0.2000001],
    "schedule.iterations": [1, 2, 3],
}
RATIOS: list[Any] = [{"conv1": 0.5}, {"conv1": 0.5, "conv2": 0.5}, {"conv2": 0.25}]
RATIO_AXES: dict[str, list[Any]] = {
    "ratios": RATIOS,
    "ratios.conv1": [0.5, 0.25],
    "exclude": [[], ["hidden"]],
    "schedule.iterations": [1, 2],
    "schedule.kind": ["one-shot", "iterative"],
}
LATE: list[dict[str, Any]] = [
    {"weights_from": "parent", "lr_window": "from-start"},
    {"weights_from": "init", "lr_window": "last-value", "retrain": "3ep"},
    {"weights_from": {"dense": 0.5}, "lr_window": {"from": "1ep"}, "batchnorm": "parent"},
    {"weights_from": {"dense": "1ep"}, "lr_window": {"constant": 0.1}},
    {"weights_from": "rewound", "lr_window": "rewound", "optimizer_state": "carried"},
]
"""Strategies of the plan's own."""
LABELLED = {"task", "retrain"}
"""Keys of a recipe whose value is a column of its own."""


def inline(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    return json.dumps(value)


def nested(axes: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key as tables in tables; a strategy's name has no dot."""
    out: dict[str, Any] = {}
    for key, value in axes.items():
        *parents, last = key.split(".")
        inside = out
        for part in parents:
            inside = inside.setdefault(part, {})
        inside[last] = value
    return out


def plan_text(
    recipe: Mapping[str, Any], pruning: Mapping[str, Any], own: Mapping[str, Any],
    recipe_axes: Mapping[str, Any], pruning_axes: Mapping[str, Any], retrain: Sequence[str],
) -> str:  # fmt: skip
    """A plan of these tables, on two data sets and with every kind of strategy."""
    lengths = {name: "1ep" for name, each in own.items() if "retrain" not in each}
    recipe = {**recipe, "retrain": recipe["retrain"] | lengths}
    strategies = ["fine-tune", "lr-rewind", "reinit", "partial-rewind-50", "dense", *own]
    grid: dict[str, Any] = {
        "network": ["lenet-5"], "dataset": ["a", "b"], "strategy": strategies,
        "recipe": nested(recipe_axes), "pruning": nested(pruning_axes),
    }  # fmt: skip
    data = {
        "kind": "synthetic",
        "channels": 1,
        "height": 16,
        "width": 16,
        "classes": 4,
        "train": 64,
    }
    tables = {
        "name": "p", "seeds": [0, 1], "grid": grid | ({"retrain": list(retrain)} if retrain else {}),
        "recipe": recipe, "pruning": pruning, "strategies": own,
        "datasets": {"a": data | {"test": 32}, "b": data | {"test": 48}},
    }  # fmt: skip
    return "\n".join(f"{name} = {inline(value)}" for name, value in tables.items())


@st.composite
def plans(draw: st.DrawFn) -> str:
    """Plans that vary up to two keys of the recipe and two of pruning: no key is inside another."""

    def axes(of: dict[str, list[Any]], most: int) -> dict[str, list[Any]]:
        chosen: dict[str, list[Any]] = {}
        for key in draw(st.permutations(sorted(of)))[: draw(st.integers(0, most))]:
            if not any(key.startswith(k + ".") or k.startswith(key + ".") for k in chosen):
                values = st.lists(
                    st.sampled_from(range(len(of[key]))), min_size=1, max_size=3, unique=True
                )
                chosen[key] = [of[key][n] for n in draw(values)]
        return chosen

    recipe = dict(RECIPE)
    if draw(st.booleans()):
        recipe["base"] = draw(st.sampled_from(["quickstart", "lenet-fashion"]))
    pruning: dict[str, Any] = {"schedule": {"kind": "iterative", "rate": 0.5, "iterations": 2}}
    of = PRUNING_AXES
    if draw(st.integers(0, 3)) == 0:
        pruning = {"schedule": {"kind": "one-shot", "iterations": 2}, "ratios": RATIOS[1]}
        of = RATIO_AXES
    own = draw(st.lists(st.sampled_from(LATE), max_size=2))
    named = {f"late-{n}" if n else "late": each for n, each in enumerate(own)}
    retrain = draw(st.sampled_from([[], ["2ep"], ["1ep", "2ep", "8it"]]))
    return plan_text(recipe, pruning, named, axes(RECIPE_AXES, 2), axes(of, 2), retrain)


def labels(trial: Trial) -> tuple[str, ...]:
    return (*(getattr(trial, name) for name in LABELS), trial.task)


def rows(found: Expansion) -> Iterator[tuple[tuple[Any, ...], Trial, str]]:
    """Rows of `iterations`: labels with iteration, sparsity and seed; the trial; the stage."""
    for trial in found.trials:
        steps = zip(trial.path, trial.sparsities, strict=True)
        for iteration, (stage, sparsity) in enumerate(steps):
            yield (*labels(trial), iteration, float(sparsity), trial.seed), trial, stage


def assert_complete(found: Expansion) -> None:
    stages: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    trials: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    paths: dict[tuple[Any, ...], set[tuple[str, ...]]] = defaultdict(set)
    for row, trial, stage in rows(found):
        stages[row].add(stage)
        trials[row].add(trial.id)
        if not trial.schedule.startswith("one-shot"):
            paths[*labels(trial), trial.seed].add(trial.path)
    assert {row: keys for row, keys in stages.items() if len(keys) > 1} == {}
    # A number stands once beside its labels: a mean over a group counts no seed twice. The dense network of a trial
    # pruned in one shot is that of its other sparsities.
    twice = {row: ids for row, ids in trials.items() if len(ids) > 1 and row[-3]}
    assert twice == {}
    # One-shot trials of one label are one for each sparsity; all others with the same labels are one.
    assert {row: each for row, each in paths.items() if len(each) > 1} == {}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans())
def test_trials_with_the_same_labels_have_the_same_stages_but_for_the_seed(text: str) -> None:
    try:
        found = expand(loads(text), check)
    except PlanError:  # what is drawn may not go together, such as milestones beyond the end
        reject()
    assert_complete(found)


def leaves(model: type[BaseModel], *path: str) -> Iterator[str]:
    """Dotted keys of a table and of those in it."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        key = (*path, field.alias or name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, *key)
        else:
            yield ".".join(key)


def touched(axes: Mapping[str, list[Any]]) -> set[str]:
    """Keys that the axes give values, those in tables too."""
    found: set[str] = set()
    for key, values in axes.items():
        for value in values:
            tables = value if isinstance(value, Mapping) else {}
            found |= {f"{key}.{inner}" for inner in tables} or {key}
    return found


@pytest.mark.parametrize(
    ("model", "axes"),
    [
        (Recipe, RECIPE_AXES),
        (Pruning, PRUNING_AXES | RATIO_AXES),
        (Strategy, {name: [each.get(name) for each in LATE] for name in Strategy.model_fields}),
    ],
)
def test_every_key_of_the_schema_is_varied(
    model: type[BaseModel], axes: Mapping[str, list[Any]]
) -> None:
    """A key that is added here or there needs a label."""
    varied = {key.partition(".")[0] if key.split(".")[0] in ("retrain", "ratios") else key
              for key in touched(axes)}  # fmt: skip
    nothing = set(leaves(model)) - varied - LABELLED
    if model is Strategy:
        nothing = {name for name in Strategy.model_fields if len(set(map(str, axes[name]))) < 2}
    assert nothing == set()


@pytest.mark.parametrize(("key", "values"), [*RECIPE_AXES.items(), *PRUNING_AXES.items()])
def test_each_key_alone_is_labelled(key: str, values: list[Any]) -> None:
    """Of the same plan, so that no draw has to find it."""
    recipe_axes = {key: values} if key in RECIPE_AXES and values is RECIPE_AXES[key] else {}
    pruning_axes = {} if recipe_axes else {key: values}
    pruning = {"schedule": {"kind": "iterative", "rate": 0.5, "iterations": 2}}
    found = expand(loads(plan_text(RECIPE, pruning, {}, recipe_axes, pruning_axes, [])), check)
    assert_complete(found)
    assert len({labels(trial) for trial in found.trials}) > 2


@pytest.mark.parametrize(("key", "values"), RATIO_AXES.items())
def test_filter_ratios_are_labelled(key: str, values: list[Any]) -> None:
    pruning = {"schedule": {"kind": "one-shot", "iterations": 2}, "ratios": RATIOS[1]}
    found = expand(loads(plan_text(RECIPE, pruning, {}, {}, {key: values}, [])), check)
    assert_complete(found)
    sets = {trial.granularity for trial in found.trials if trial.granularity}
    assert len(sets) == (len(values) if key.startswith("ratios") else 1)


def small(**changes: Any) -> Expansion:
    """A plan with a recipe and a strategy of its own, and these values in the place of its tables'."""
    recipe = RECIPE | changes.get("recipe", {})
    pruning = changes.get("pruning", {"schedule": {"kind": "iterative", "rate": 0.5, "until": 0.8}})
    own = {"late": LATE[0] | changes.get("late", {})}
    return expand(loads(plan_text(recipe, pruning, own, {}, {}, [])), check)


def test_a_name_of_ones_own_has_digits_of_what_it_is() -> None:
    strategies = {trial.strategy for trial in small().trials}
    (late,) = (name for name in strategies if name.startswith("late"))
    assert re.fullmatch("late@[0-9a-f]{6}", late)
    assert {"fine-tune", "dense", "partial-rewind-50"} < strategies
    (recipe,) = {trial.recipe for trial in small().trials}
    assert re.fullmatch("own@[0-9a-f]{6}", recipe)
    assert {trial.strategy for trial in small().trials} == strategies
    others = {trial.strategy for trial in small(late={"retrain": "2ep"}).trials}
    assert others ^ strategies == {late, *(name for name in others if name.startswith("late"))}
    assert {trial.recipe for trial in small(recipe={"batch": 16}).trials} != {recipe}
    # What decides nothing of the dense training, and has a label of its own or none.
    for same in ({"source": "there"}, {"retrain": RECIPE["retrain"] | {"fine-tune": "3ep"}}):
        assert {trial.recipe for trial in small(recipe=same).trials} == {recipe}


def test_a_ladder_is_named_with_its_end_only_where_there_are_several() -> None:
    def schedules(*tables: dict[str, Any]) -> set[str]:
        text = plan_text(RECIPE, {}, {}, {}, {"schedule": list(tables)}, [])
        return {t.schedule for t in expand(loads(text), check).trials} - {"dense"}

    one, more = {"kind": "iterative", "rate": 0.5}, {"kind": "iterative", "rate": 0.25}
    assert schedules(one | {"until": 0.8}, more | {"until": 0.5}) == {
        "iterative 0.5",
        "iterative 0.25",
    }
    assert schedules(one | {"until": 0.8}, one | {"iterations": 2}, more | {"until": 0.5}) == {
        "iterative 0.5 until=0.8", "iterative 0.5 iterations=2", "iterative 0.25"
    }  # fmt: skip


def test_trials_are_chosen_by_the_name_alone_too(tmp_path: Path) -> None:
    paths = StorePaths(tmp_path)
    study = small().study()
    write_plans(paths, [study])
    for wanted in ("late", "fine-tune"):
        mine = [trial for trial in study.trials if trial.strategy.split("@")[0] == wanted]
        label = mine[0].strategy
        for words in (f"strategy={wanted}", f"strategy={label}", f"recipe=own,strategy={wanted}"):
            assert find_trials(paths, [words]) == mine
    with pytest.raises(ControlError, match="no trial matches"):
        find_trials(paths, ["strategy=late@000000"])


def test_labels_are_no_part_of_ids() -> None:
    """Those of plans with recipes, strategies, ratios and exclusions of their own are what they were before these had
    digits, or were said at all: requests to a store name them."""
    schedule = {"kind": "one-shot", "iterations": 1}
    ratios = {"schedule": schedule, "ratios": RATIOS[0], "exclude": ["hidden"]}
    found = {
        (trial.strategy.split("@")[0], trial.granularity.split("@")[0]): trial.id
        for trial in (*small().trials, *small(pruning=ratios).trials)
        if trial.dataset == "a" and trial.seed == 0
    }
    assert found == {
        ("dense", ""): "4561db8ec9f6704b",
        ("fine-tune", "weight"): "50fd663d7b226db8",
        ("lr-rewind", "weight"): "56868d13c0bd61cb",
        ("reinit", "weight"): "1d82354b5a78e4a4",
        ("partial-rewind-50", "weight"): "c0ae4f99789e0ec5",
        ("late", "weight"): "59a2bc4c3dcfe29a",
        ("fine-tune", "filters own"): "bbe2d946f5b03bd4",
        ("lr-rewind", "filters own"): "469b63a74cd7ba5e",
        ("reinit", "filters own"): "11051a541666334c",
        ("partial-rewind-50", "filters own"): "cdb0f2db078d7423",
        ("late", "filters own"): "a97d31bb663b32c6",
    }

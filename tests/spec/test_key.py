"""Stage keys: pinned for ever, moved by every field, blind to defaults, to order and to how a plan is written."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from msgspec.structs import fields, replace

from prunectl.spec.key import (
    NUMERICS,
    Spec,
    canonical,
    stage_key,
    to_json,
)
from prunectl.spec.lr_schedule import Segment, decaying, stepwise, window
from prunectl.spec.settings import (
    AugmentSettings,
    DataSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    PruneSettings,
    TrainSettings,
)
from prunectl.spec.stage import Mask, MaskChange, RateRule, Stage, Weights, replay_of

CIFAR = DataSettings("cifar10", "md5-c58f30108f718f92721af3b95e74349a", (), "test", 2000)
DENSE = Stage(
    network=NetworkSettings(
        "resnet-20", (3, 32, 32), 10, "projection-everywhere", 0.003, 1e-5, "renda2020"
    ),
    data=CIFAR,
    train=TrainSettings(
        straddle=True,
        evaluate_every=391,
        optimizer=OptimizerSettings(weight_decay=2e-4),
        augment=AugmentSettings(4, "zero", True),
        normalize=NormalizeSettings("image"),
    ),
    lr=stepwise(0.1, 71108, [35547, 53125], 0.1),
    seed=0,
)
KEY = stage_key(DENSE)


def retrained(
    prune: PruneSettings, *, parent: str = KEY, iteration: int = 1, **changes: Any
) -> Stage:
    fields: dict[str, Any] = {
        "iteration": iteration,
        "weights": Weights(parent),
        "mask": Mask(parent, prune),
        "optimizer_state": "carried",
    }
    return replace(DENSE, **(fields | changes))


PRUNED = retrained(
    PruneSettings(density="0.8"), lr=window(DENSE.lr, 12514, 58594), weights=Weights(KEY, 12514)
)
PINNED = {
    "dense": (
        DENSE,
        "fd6b0530aefc31029a98ac0168f80e7740cf91ec9dba4d99957b748e6fafcc16",
    ),
    "small": (
        Stage(
            NetworkSettings("lenet-5", (1, 28, 28), 10),
            DataSettings("mnist", "f", (("a", 1), ("b", "x"))),
            TrainSettings(),
            decaying("cosine", 0.1, 0.0, 100),
            3,
        ),
        "40c388ce64708bdd35b2ae37e2116d1016296ccaf06d11eab7577f60fa41cb33",
    ),
    "pruned": (
        PRUNED,
        "f5845c081eb15e075a6cee3a27b0051d6d3b80d9d5123a628f886cee63da3771",
    ),
    "carried": (
        retrained(
            PruneSettings(density="0.64"),
            parent=stage_key(PRUNED),
            iteration=2,
            batchnorm="parent",
        ),
        "35bd58a50ad107df2f973c9f45951d69beb0bcccb18477d965866743af3c3f5d",
    ),
    "filter ratios": (
        retrained(PruneSettings(ratios=(("stages.0.0.conv1", "0.125"),))),
        "64a2d1d9bf4ab95b6beb05da2c10a1f50a07d29c5af5f0c8678cb25b2c28e125",
    ),
    "channels": (
        retrained(
            PruneSettings("random", "uniform", "channel", "0.5", ("first",)),
            weights=Weights(),
            optimizer_state="fresh",
        ),
        "426ae89a229cf6f140bba2f92f145bb304b3b458f0f8e04cc6474beb983174e8",
    ),
    "replay": (
        replay_of(DENSE, KEY, 12514),
        "6349e2a30bd581290eacda744ceac3ba0576dabdf8094d253beedab8e7f1a736",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_keys_are_pinned_for_ever(name: str) -> None:
    """A change here orphans every result there is: raise NUMERICS if it is meant, else undo it."""
    spec, key = PINNED[name]
    assert stage_key(spec) == key


def test_what_is_hashed() -> None:
    assert json.loads(to_json(PRUNED)) == {
        "data": {
            "fingerprint": "md5-c58f30108f718f92721af3b95e74349a",
            "name": "cifar10",
            "validation_count": 2000,
            "validation_from": "test",
        },
        "iteration": 1,
        "lr": [
            {"lr": 0.1, "steps": 23033},
            {"lr": 0.01, "steps": 17578},
            {"lr": 0.001, "steps": 17983},
        ],
        "mask": {"parent": KEY, "settings": {"density": "0.8"}},
        "network": {
            "bn_momentum": 0.003,
            "classes": 10,
            "initializer": "renda2020",
            "name": "resnet-20",
            "shape": [3, 32, 32],
            "shortcut": "projection-everywhere",
        },
        "optimizer_state": "carried",
        "seed": 0,
        "train": {
            "augment": {"flip": True, "pad": 4},
            "evaluate_every": 391,
            "normalize": {"kind": "image"},
            "optimizer": {"weight_decay": 0.0002},
            "straddle": True,
        },
        "weights": {"stage": KEY, "step": 12514},
    }


ADDED = {
    "tuple[str, ...]": ("x",),
    "tuple[float, ...]": (0.5,),
    "tuple[tuple[str, str], ...]": (("x", "0.5"),),
    "tuple[tuple[str, str | int | float | tuple[float, ...]], ...]": (("x", 1),),
    str(tuple[Weights, ...]): (Weights("x", 1),),
    str(tuple[MaskChange, ...]): (MaskChange(1, PruneSettings()),),
}


def _written(kind: Any) -> str:
    """A type as it is declared, also where what annotates it has been taken out."""
    unions = {
        "typing.Union[str, int, float]": "str | int | float",
        "typing.Union[str, int, float, tuple[float, ...]]": "str | int | float | tuple[float, ...]",
        "typing.Optional[int]": "int | None",
    }
    text = str(kind)
    for union, plain in unions.items():
        text = text.replace(union, plain)
    return text


def _variants(value: Any, kind: Any) -> Iterator[tuple[str, Any]]:
    """The value with one thing in it changed, for each thing there is, and where that is."""
    if isinstance(value, msgspec.Struct):
        hints = get_type_hints(type(value))
        for item in fields(value):
            for place, other in _variants(getattr(value, item.name), hints[item.name]):
                changed = replace(value, **{item.name: other})
                yield f"{type(value).__name__}.{item.name} {place}", changed
    elif get_origin(kind) is Literal:
        yield from ((str(other), other) for other in get_args(kind) if other != value)
    elif isinstance(value, bool):
        yield "flipped", not value
    elif isinstance(value, int):
        yield "plus one", value + 1
    elif isinstance(value, float):
        yield "plus an ulp", value * (1 + 2**-52) + 5e-324
    elif isinstance(value, str):
        yield "longer", f"0.{value}1" if value in ("0", "1") else f"{value}1"
    elif isinstance(value, tuple):
        if Ellipsis in get_args(kind):
            yield "doubled", (*value, *(value or ADDED[_written(kind)]))
            if len(value) > 1:
                yield "reversed", value[::-1]
        for index, inner in enumerate(value):
            for place, other in _variants(inner, None):
                yield f"[{index}] {place}", (*value[:index], other, *value[index + 1 :])
    elif value is None:
        given = {
            "str | None": "x", "int | None": 7, str(Mask | None): Mask("x"),
            str(RateRule | None): RateRule("norm-drop", 5),
        }  # fmt: skip
        yield "given", given[_written(kind)]
    else:
        raise AssertionError(f"no variant of {value!r}")


FULL = retrained(
    PruneSettings("random", "uniform", "channel", "0.5", ("first",), (("conv", "0.1"),)),
    data=replace(CIFAR, options=(("a", 1), ("b", "x"))),
    lr=(Segment(0.1, 5, "linear", 0.2, 10, 1), Segment(0.2, 5)),
    weights=Weights(KEY, 3),
)


@pytest.mark.parametrize("spec", [DENSE, FULL], ids=["dense", "pruned"])
def test_every_field_moves_the_key(spec: Stage) -> None:
    variants = dict(_variants(spec, Stage))
    keys = {place: stage_key(variant) for place, variant in variants.items()}
    assert len(keys) > 35
    assert len(set(keys.values())) == len(keys)
    assert stage_key(spec) not in keys.values()
    for variant in variants.values():
        assert msgspec.json.decode(Spec(NUMERICS, variant).to_json(), type=Spec).stage == variant


def test_defaults_are_left_out() -> None:
    assert canonical(PruneSettings()) == {}
    assert canonical(TrainSettings()) == {}
    assert canonical(TrainSettings(optimizer=OptimizerSettings(momentum=0.9))) == {}
    assert set(canonical(PINNED["small"][0])) == {"network", "data", "train", "lr", "seed"}


def test_a_new_option_with_a_default_keeps_every_key() -> None:
    wider = msgspec.defstruct(
        "TrainSettings", [("new_option", bool, False)], bases=(TrainSettings,), frozen=True
    )
    known = {item.name: getattr(DENSE.train, item.name) for item in fields(DENSE.train)}
    assert stage_key(replace(DENSE, train=wider(**known))) == KEY
    assert stage_key(replace(DENSE, train=wider(**known, new_option=True))) != KEY


def test_what_this_version_cannot_compute_is_absent_from_keys_and_refused() -> None:
    room = {
        "lr_rule": RateRule("norm-drop", 5), "averaged_with": (Weights("x"),),
        "code": "f" * 64, "mask": Mask(KEY, program=(MaskChange(5, PruneSettings()),)),
    }  # fmt: skip
    assert DENSE.beyond is None
    for name, value in room.items():
        stage = replace(DENSE, **{name: value})
        assert name not in canonical(DENSE)
        assert stage_key(stage) != KEY
        with pytest.raises(ValueError, match="cannot compute"):
            _ = Spec(NUMERICS, stage).computable
    assert "program" not in canonical(Mask(KEY))
    assert replace(DENSE, lr=(), lr_rule=RateRule("norm-drop", 5)).steps == 5
    assert replace(DENSE, averaged_with=(Weights("x"), Weights("y", 3))).needs == {"x", "y"}


def test_seeds_of_single_purposes_are_left_out_where_they_say_nothing() -> None:
    assert not {"order_seed", "augment_seed"} & canonical(DENSE).keys()
    apart = replace(DENSE, order_seed=1, augment_seed=2)
    assert apart.seeds == (0, 1, 2)
    assert apart.beyond is None
    assert stage_key(apart) not in (KEY, stage_key(replace(DENSE, seed=1)))
    unaugmented = replace(DENSE, train=TrainSettings())
    for stage, seeds in (
        (DENSE, {"order_seed": 0}),
        (DENSE, {"augment_seed": 0}),
        (unaugmented, {"augment_seed": 1}),
    ):
        with pytest.raises(ValueError, match="_seed"):
            replace(stage, **seeds)
        text = json.loads(Spec(NUMERICS, stage).to_json())
        text["stage"] |= seeds
        with pytest.raises(msgspec.ValidationError, match="_seed"):
            msgspec.convert(text, Spec)


def test_the_order_of_a_dictionary_does_not_matter() -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(name, shuffled(inner)) for name, inner in value.items()]
            random.Random(1).shuffle(items)
            return dict(items)
        return [shuffled(inner) for inner in value] if isinstance(value, list) else value

    for spec, key in PINNED.values():
        data = shuffled(json.loads(Spec(NUMERICS, spec).to_json()))
        assert stage_key(msgspec.convert(data, Spec).stage) == key


def test_other_numerics_are_refused() -> None:
    assert NUMERICS == 1
    with pytest.raises(ValueError, match="numerics 2, but this prunectl computes 1"):
        _ = Spec(NUMERICS + 1, DENSE).computable
    assert Spec(NUMERICS, DENSE).computable is DENSE


def test_rates_that_are_not_numbers_have_no_key() -> None:
    with pytest.raises(ValueError, match="JSON"):
        stage_key(replace(DENSE, lr=(Segment(float("nan"), 1),)))

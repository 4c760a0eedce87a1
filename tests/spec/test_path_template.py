"""Keys made from a template are those that an encoding of each stage gives, whatever the stages and the seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prunectl.spec.key import PathTemplate, stage_key, template_seeds
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    AugmentSettings,
    DataSettings,
    NetworkSettings,
    PruneSettings,
    TrainSettings,
)
from prunectl.spec.stage import Mask, MaskChange, Stage, Weights

seeds = st.integers(0, 2**64)
words = st.text(max_size=8) | st.sampled_from(["%s", "%(a)s", '"', "\\", "é", "0" * 64, "ab" * 64])
levels = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["parent", "dense", "init", "grandparent"]),
        "step": st.none() | st.integers(0, 99),
        "density": st.sampled_from(["0.5", "0.25", "1"]),
        "exclude": st.lists(words, max_size=2).map(tuple),
        "program": st.booleans(),
        "averaged": st.booleans(),
    }
)
stages = st.builds(
    Stage,
    network=st.builds(NetworkSettings, words, st.just((3, 8, 8)), st.integers(1, 99)),
    data=st.builds(DataSettings, words, words, st.lists(st.tuples(words, seeds)).map(tuple)),
    train=st.builds(
        TrainSettings, batch=st.integers(1, 99), augment=st.just(AugmentSettings(flip=True))
    ),
    lr=st.builds(constant, st.floats(1e-9, 9.0), st.integers(1, 99)),
    seed=st.just(0),
    code=st.none() | words,
)


def path(
    dense: Stage, ladder: Iterable[dict[str, Any]], chosen: Seeds, key_of: Callable[[Stage], str]
) -> list[tuple[str, Stage]]:
    """A dense stage and one for each level, under these seeds."""
    own = {"order_seed": chosen.own_order, "augment_seed": chosen.own_augment}
    made = [(key_of(first := replace(dense, seed=chosen.init, **own)), first)]
    for iteration, level in enumerate(ladder, start=1):
        parent = made[-1][0]
        at = {"parent": -1, "dense": 0, "grandparent": max(-2, -len(made))}.get(level["source"])
        settings = PruneSettings(density=level["density"], exclude=level["exclude"])
        stage = replace(
            first,
            iteration=iteration,
            weights=Weights(None if at is None else made[at][0], level["step"]),
            mask=Mask(parent, settings, (MaskChange(3, settings),) if level["program"] else ()),
            averaged_with=(Weights(parent), Weights(made[0][0], 1)) if level["averaged"] else (),
        )
        made.append((key_of(stage), stage))
    return made


triples = st.builds(Seeds.of, seeds, st.none() | seeds, st.none() | seeds)


@given(stages, st.lists(levels, max_size=4), st.lists(triples, min_size=1, max_size=3))
def test_a_template_gives_the_keys_of_an_encoding(
    dense: Stage, ladder: list[dict[str, Any]], chosen: list[Seeds]
) -> None:
    for each in (Seeds.of(0), *chosen):
        template = PathTemplate()
        path(dense, ladder, template_seeds(each), template.add)
        expected = tuple(key for key, _ in path(dense, ladder, each, stage_key))
        assert template.keys(each) == expected

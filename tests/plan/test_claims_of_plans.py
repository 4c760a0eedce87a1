"""`[[claims]]` of a plan: what they mean, and the mistakes that are made in them."""

from __future__ import annotations

import pytest

from prunectl.errors import PlanError
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.spec.claim import Claim, Scope
from prunectl.spec.study import Study
from prunectl.store.records.base import decode, encode
from tests.support.tiny_plans import tiny_plan

TINY = tiny_plan(strategies=["fine-tune", "lr-rewind"], iterations=2)
CLAIM = """
[[claims]]
a = "lr-rewind"
b = "fine-tune"
relation = "better"
"""
SECOND = """
[[claims]]
text = "what is rewound loses nothing"
a = "lr-rewind"
b = "dense"
relation = "as-good"
margin = 0.25
network = ["*"]
schedule = ["iterative"]
compression = [1, 2.5]
"""


def study(text: str) -> Study:
    return expand(loads(text), None).study()


def test_claims_are_in_the_record_as_they_stand_in_the_plan() -> None:
    found = study(TINY + CLAIM + SECOND)
    assert found.claims == (
        Claim("lr-rewind", "fine-tune", "better"),
        Claim(
            "lr-rewind",
            "dense",
            "as-good",
            0.25,
            Scope(network=("*",), schedule=("iterative",), compression=(1.0, 2.5)),
            "what is rewound loses nothing",
        ),
    )
    assert decode(encode(found), Study, "record").claims == found.claims
    assert [claim.title for claim in found.claims] == [
        "lr-rewind is better than fine-tune",
        "what is rewound loses nothing",
    ]


def test_a_claim_makes_another_version_of_the_same_stages() -> None:
    without, with_claim, other = (
        study(TINY + more) for more in ("", CLAIM, CLAIM + "margin = 0.1\n")
    )
    assert len({each.digest for each in (without, with_claim, other)}) == 3
    assert without.stages == with_claim.stages == other.stages
    assert without.trials == with_claim.trials


LINE = len(TINY.splitlines()) + 2
"""The line of the first [[claims]]."""


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (CLAIM.replace("lr-rewind", "lr-rewnd"), LINE + 1, "did you mean: lr-rewind"),
        (CLAIM.replace("fine-tune", "reinit"), LINE + 2, "unknown method"),
        (CLAIM.replace("fine-tune", "fine-*"), LINE + 2, "unknown method"),
        (CLAIM.replace("better", "beter"), LINE + 3, "did you mean: better"),
        (CLAIM.replace("better", "as-good"), LINE, "needs a margin above 0"),
        (CLAIM.replace("better", "equal"), LINE, "needs a margin above 0"),
        (CLAIM.replace("fine-tune", "lr-rewind"), LINE, "the same method"),
        (CLAIM + 'network = ["resnet-999"]\n', LINE + 4, "unknown network"),
        (CLAIM + "dataset = []\n", LINE + 4, "at least 1"),
        (CLAIM + "compression = [5, 2]\n", LINE, "the smaller first"),
        (CLAIM + "margin = -1.0\n", LINE + 4, "at least 0"),
        (CLAIM + "size = 1\n", LINE + 4, "unknown key"),
        (CLAIM + SECOND.replace('b = "dense"', 'b = "dens"'), LINE + 8, "did you mean: dense"),
        (
            CLAIM + SECOND.replace("margin = 0.25", "marg = 0.25"),
            LINE + 10,
            "did you mean: margin",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        study(TINY + text)
    assert caught.value.line == line
    assert said in str(caught.value)

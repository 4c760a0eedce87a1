"""Plans of many seeds: a stage is encoded once for all seeds, and keys are those of the stages themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import load, loads
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

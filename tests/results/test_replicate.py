"""Which stages are chosen, which plan that makes, and what is said of what comes out."""

from __future__ import annotations

import statistics
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunectl.errors import StoreError
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.results.replicate import choose, restricted
from prunectl.results.verdicts import SPREADS, judge
from prunectl.scheduler.graph import StageGraph
from prunectl.spec.study import Study
from prunectl.store.archive import HISTORY, export_study
from prunectl.store.bundle import Bundle
from prunectl.store.paths import StorePaths
from prunectl.store.records.archive import FileEntry, Manifest
from prunectl.store.records.journal import Journal
from prunectl.store.records.replication import Outcome
from prunectl.store.records.scheduler_log import (
    Blocked,
    Cancelled,
    Dispatched,
    Drained,
    Queued,
    RunEnded,
    RunStarted,
    StageFailed,
)
from tests.support.checking import check
from tests.support.fake_store import FakeStore
from tests.support.records import scheduler_log
from tests.support.tiny_plans import tiny_plan


@cache
def study() -> Study:
    """Chains of prunings, and two strategies that share dense networks."""
    return expand(loads(tiny_plan(seeds=(0, 1, 2), iterations=3)), check).study()


def bundle_of(study: Study, done: set[str]) -> Bundle:
    """A bundle with these stages done, of which nothing but its manifest is looked at."""
    entry = FileEntry(1, "0" * 64)
    files = {f"stages/{key}/result.json": entry for key in done}
    bundle = Bundle(Path("nowhere"), Manifest(format=2, digest=study.digest, files=files))
    cast(Any, bundle.__dict__)["study"] = study
    return bundle


KEYS = sorted(study().stages)
chosen_keys = st.sets(st.sampled_from(KEYS), min_size=1)


# Choice


@given(st.sets(st.sampled_from(KEYS)), st.integers(0, 2**63 - 1), st.integers(1, 30))
def test_a_choice_is_of_done_stages_and_the_same_for_the_same_seed(
    done: set[str], seed: int, count: int
) -> None:
    chosen = choose(bundle_of(study(), done), count, seed)
    assert set(chosen) <= done
    assert len(chosen) == len(set(chosen)) == min(count, len(done))
    assert chosen == choose(bundle_of(study(), done), count, seed)
    assert chosen == choose(bundle_of(study(), done), None, seed)[:count], "more takes in fewer"


def test_every_stage_is_as_likely_as_any_other() -> None:
    bundle = bundle_of(study(), set(KEYS))
    counts = dict.fromkeys(KEYS, 0)
    for seed in range(2000):
        for key in choose(bundle, 5, seed):
            counts[key] += 1
    expected = 2000 * 5 / len(KEYS)
    # Binomial: five standard deviations.
    spread = 5 * (expected * (1 - 5 / len(KEYS))) ** 0.5
    assert all(abs(count - expected) < spread for count in counts.values()), counts


@given(chosen_keys)
def test_a_restricted_plan_has_the_ancestors_and_nothing_else(chosen: set[str]) -> None:
    made = restricted(study(), chosen)
    needed = set(chosen)
    while more := {need for key in needed for need in made.stages[key].stage.needs} - needed:
        needed |= more
    assert set(made.stages) == needed
    assert {key for trial in made.trials for key in trial.path} == needed
    ids = [trial.id for trial in made.trials]
    assert len(set(ids)) == len(ids)
    whole = {trial.id for trial in study().trials}
    for trial in made.trials:
        assert len(trial.path) == len(trial.sparsities)
        assert trial.path[-1] in chosen
        assert trial.id not in whole, "an id stands for one path"
        for number, key in enumerate(trial.path):
            assert made.stages[key].stage.needs <= set(trial.path[:number])
    assert len(StageGraph(StorePaths(Path("nowhere"))).add(made)) == len(needed)
    assert made == restricted(study(), sorted(chosen))


def test_all_stages_are_the_whole_plan() -> None:
    made = restricted(study(), KEYS)
    assert sorted(trial.path for trial in made.trials) == sorted(t.path for t in study().trials)
    assert len({trial.cell for trial in made.trials}) == len({t.cell for t in study().trials})


@given(chosen_keys, chosen_keys)
def test_other_choices_are_other_plans_with_other_trials(one: set[str], other: set[str]) -> None:
    plans = [restricted(study(), chosen) for chosen in (one, other)]
    first, second = ({trial.id for trial in plan.trials} for plan in plans)
    assert (plans[0].digest == plans[1].digest) == (one == other)
    assert one == other or not first & second


def test_a_stage_that_the_plan_lacks_is_named() -> None:
    dense = study().trials[0].path[0]
    lacking = Study(
        digest="0" * 16,
        name="lacking",
        trials=study().trials,
        stages={key: stage for key, stage in study().stages.items() if key != dense},
    )
    with pytest.raises(StoreError, match=f"lacks stage {dense[:12]}"):
        restricted(lacking, [study().trials[0].path[1]])


# Verdicts

scores = st.floats(0, 100)


def came_to(score: float | None, weights: str = "w", **others: Any) -> Outcome:
    return Outcome(score=score, weights=weights, **{"kept": 10, "prunable": 20, **others})


@given(scores, scores, st.lists(scores, min_size=1, max_size=9))
def test_within_is_within_three_deviations_of_the_seeds_there(
    there: float, here: float, seeds: list[float]
) -> None:
    found = judge(came_to(there), came_to(here, "other"), seeds, exact_counts=True)
    assert found.n == len(seeds) + 1
    assert found.tolerance is not None
    assert found.tolerance <= SPREADS * statistics.stdev([there, *seeds])
    assert found.name == ("within" if abs(there - here) <= found.tolerance else "different")
    assert (
        judge(came_to(here), came_to(there, "other"), seeds, exact_counts=True).name == found.name
    )


@pytest.mark.parametrize("count", range(1, 9))
def test_a_score_that_was_made_up_does_not_widen_its_own_tolerance(count: int) -> None:
    """Of up to nine seeds the deviation with the made-up score would excuse it, however large it is."""
    seeds = [80.2 + 0.01 * (number - (count - 1) / 2) for number in range(count)]
    for lie in (5.0, 50.0, 1e6):
        there, here = came_to(80.2 + lie), came_to(80.2, "other")
        assert lie <= SPREADS * statistics.stdev([80.2 + lie, *seeds])
        assert judge(there, here, seeds, exact_counts=True).name == "different"
        assert judge(here, there, seeds, exact_counts=True).name == "different"


@pytest.mark.parametrize(
    ("there", "here", "seeds", "name"),
    [
        (came_to(80.0), came_to(80.0), [], "identical"),
        (came_to(80.0), came_to(80.5), [80.0, 90.0], "different"),
        (came_to(80.0), came_to(80.0, loss=0.5), [80.0, 90.0], "different"),
        (came_to(80.0, metrics={"a": 1}), came_to(80.0, metrics={"a": 2}), [], "different"),
        (came_to(80.0, metrics={"a": 1}), came_to(80.0, metrics={"b": 2}), [], "identical"),
        (came_to(80.0, device_name="A"), came_to(80.0, device_name="B"), [], "identical"),
        (came_to(80.0, loss=1.0, device_name="A"), came_to(80.0, loss=1.1), [79.0], "within"),
        (came_to(80.0), came_to(80.0, "other"), [], "incomparable"),
        (came_to(80.0), came_to(80.5, "other"), [80.0, 90.0], "within"),
        (came_to(80.0), came_to(80.5, "other"), [80.0], "different"),
        (came_to(80.0, kept=9), came_to(80.0, "other"), [80.0, 90.0], "different"),
        (came_to(None, flag="diverged"), came_to(None, flag="diverged"), [], "identical"),
        (came_to(None, flag="diverged"), came_to(None, "o", flag="diverged"), [80.0], "within"),
        (came_to(None, flag="diverged"), came_to(80.0, "other"), [80.0, 80.1], "different"),
        (came_to(80.0), came_to(None, "other", flag="diverged"), [80.0, 80.1], "different"),
    ],
)
def test_verdicts(there: Outcome, here: Outcome, seeds: list[float], name: str) -> None:
    assert judge(there, here, seeds, exact_counts=True).name == name


@pytest.mark.parametrize(
    ("seeds", "called_different"), [(2, 0.287), (3, 0.0935), (5, 0.021), (10, 0.003)]
)
def test_how_often_an_honest_and_a_false_score_are_called_different(
    seeds: int, called_different: float
) -> None:
    """The rates in README: scores are normal, and the run itself makes half the deviation between seeds."""
    draws, noise, false = 2000, 0.5, 10.0
    random = Random(seeds)
    honest = caught = 0
    for _ in range(draws):
        effects = [random.gauss(0, (1 - noise**2) ** 0.5) for _ in range(seeds)]
        there, *others = (random.gauss(effect, noise) for effect in effects)
        here = came_to(random.gauss(effects[0], noise), "other")
        honest += judge(came_to(there), here, others, exact_counts=True).name == "different"
        lie = came_to(there + false)
        caught += judge(lie, here, others, exact_counts=True).name == "different"
    assert caught > 0.995 * draws
    spread = (called_different * (1 - called_different) * draws) ** 0.5
    assert abs(honest - called_different * draws) < 4 * spread


def test_weights_that_are_missing_are_never_identical() -> None:
    """Two stages without a file have no weights in common."""
    there, here = (Outcome(score=80.0, weights=None) for _ in range(2))
    assert judge(there, here, [80.0], exact_counts=True).name == "within"
    assert judge(there, here, [], exact_counts=True).name == "incomparable"


# What went wrong is exported, too


def test_failures_and_cancellations_are_in_the_bundle(tmp_path: Path) -> None:
    store = FakeStore(tmp_path / "store")
    digest = store.plan("demo")
    store.plan("other", dataset="cifar100")
    trials, others = ([], [])
    demo = StorePaths(store.root).plan(digest).read_text()
    for trial in store.trials:
        (trials if trial in demo else others).append(trial)
    mine, theirs = store.trials[trials[0]], store.trials[others[0]]
    journal = Journal(store.paths.scheduler_log)
    kept = [
        RunStarted(run="r1", plans=(digest,)),
        Queued(plan=digest, name="demo"),
        Dispatched(key=mine[0]),
        StageFailed(key=mine[0], message="CUDA error", final=True),
        Blocked(key=mine[0], keys=tuple(mine[1:])),
        Cancelled(trials=(trials[1],)),
        RunEnded(run="r1", reason="finished"),
    ]
    left = [
        RunStarted(run="r2", plans=("f" * 16,)),
        Drained(device="cuda:0"),
        StageFailed(key=theirs[0], message="not ours", final=True),
        Cancelled(trials=(others[0],)),
        RunEnded(run="r2", reason="finished"),
    ]
    for record in [each for pair in zip(kept, left, strict=False) for each in pair] + kept[5:]:
        journal.append(record)
    journal.close()
    manifest = export_study(store.paths, "demo", tmp_path / "bundle")
    assert HISTORY in manifest.files
    found = scheduler_log(tmp_path / "bundle" / HISTORY)
    assert [record["type"] for record in found] == [
        "run_started", "queued", "dispatched", "stage_failed", "blocked", "cancelled", "run_ended",
    ]  # fmt: skip
    assert found[3]["message"] == "CUDA error"
    lines = (tmp_path / "bundle" / HISTORY).read_bytes().splitlines()
    assert set(lines) <= set(store.paths.scheduler_log.read_bytes().splitlines()), "as they stand"

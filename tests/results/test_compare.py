"""Ours beside published: what is matched, what is not, and the papers' claims."""

import dataclasses
import random

import pytest
import scipy.stats

from prunectl.errors import UnknownName
from prunectl.results.compare import compare, match, neighbours
from prunectl.results.pairing import near
from prunectl.results.publications import RECIPES, SOURCES
from prunectl.results.samples import (
    Sample,
    Seed,
    at_main_length,
    published,
    schedule_kind,
    structure,
)
from prunectl.store.db import queries
from prunectl.store.db.database import opened
from prunectl.store.db.ingest import ingest
from tests.support.fake_store import FakeStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """ResNet-20 by Mikler's plan: fine-tuning and LR rewinding, iteratively, at full length."""
    made = FakeStore(tmp_path_factory.mktemp("store"))
    digest = made.plan("figure1", sparsities=("0.2", "0.36", "0.4"), created=1.0)
    made.run(digests=(digest,), started=2.0)
    for key in made.stages:
        made.finish(key, retrain_epochs=184.32)
    ingest(made.paths)
    return made.paths


@pytest.fixture(scope="module")
def renda(store):
    return published(store, "renda2020")


def as_ours(source, published):
    """A published cell as a study of ours would have it."""
    filters = published.structure in ("structured-a", "structured-b")
    return dataclasses.replace(
        published,
        recipe=RECIPES[source][0],
        criterion="magnitude",
        scope="layerwise" if filters else "global",
        granularity=f"filters renda2020-{published.structure[-1]}" if filters else "weight",
    )


@pytest.mark.parametrize("source", SOURCES)
def test_a_publication_beside_itself_differs_by_nothing(store, source):
    samples = published(store, source)[::7]
    ours = [as_ours(source, each) for each in samples]
    found = match(source, ours, samples)
    assert len(found.points) == len(samples)
    assert {point.difference for point in found.points} == {0.0}
    assert all(point.ours == as_ours(source, point.theirs) for point in found.points)


def test_the_neighbour_of_each_cell_is_the_one_that_compare_finds(store):
    found = neighbours(store)
    assert found
    for cell, (source, sample) in found.items():
        pairs = {point.ours.cell: point.theirs for point in compare(store, source).points}
        assert pairs[cell] == sample
    first = {point.ours.cell for point in compare(store, SOURCES[0]).points}
    assert {cell for cell, (source, _) in found.items() if source == SOURCES[0]} == first


def test_main_lengths_are_the_papers(renda):
    kept = {
        (s.strategy, s.retrain_epochs) for s in at_main_length(renda) if s.network == "resnet-20"
    }
    assert {("lr-rewind", 182), ("fine-tune", 182), ("weight-rewind", 150)} <= kept


def test_ours_are_medians_beside_medians(store):
    found = compare(store, "mikler2021")
    assert [
        (p.ours.strategy, p.ours.sparsity.__round__(3), p.theirs.sparsity) for p in found.points
    ] == [
        (strategy, sparsity, sparsity)
        for strategy in ("fine-tune", "lr-rewind")
        for sparsity in (0.2, 0.36)
    ]
    point = found.points[0]
    assert point.theirs.dense == 92.46
    assert point.difference == pytest.approx(
        (point.ours.median - point.ours.dense) - (point.theirs.median - 92.46)
    )
    reasons = {(sample.sparsity.__round__(3), why) for sample, why in found.unmatched}
    assert reasons == {(0.4, "sparsity not within 5 % of a published compression")}
    assert {sample.strategy for sample in found.missing} == {
        "fine-tune",
        "lr-rewind",
        "weight-rewind",
    }
    assert len(found.missing) == 26
    table = found.table()
    assert len(table.rows) == 4
    assert len(table.columns) == len(table.rows[0])


def sample(**changes):
    base = Sample(
        network="resnet-20", dataset="cifar10", structure="unstructured", schedule="one-shot", kind="one-shot",
        prune_step=None, strategy="lr-rewind", sparsity=0.8926, retrain_epochs=182.0, n=3, median=89.0,
        low=88.9, high=89.1, dense=91.7, recipe="renda2020-cifar", criterion="magnitude", scope="global",
        granularity="weight",
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"network": "resnet-32"}, "network and data set"),
        ({"dataset": "cifar100"}, "network and data set"),
        ({"structure": "structured"}, "kind of pruning"),
        ({"kind": "iterative", "prune_step": 0.3}, "schedule"),
        ({"strategy": "partial-rewind-75"}, "strategy"),
        ({"retrain_epochs": 20.0}, "length of retraining"),
        ({"sparsity": 0.999}, "sparsity"),
        ({"criterion": "random"}, "pruned by random"),
        ({"scope": "layerwise"}, "scope layerwise, theirs global"),
        ({"recipe": "mikler2021-resnet"}, "trained by mikler2021-resnet, not by renda2020-cifar"),
        ({"recipe": "own@123456"}, "trained by own@123456"),
        ({"recipe": "renda2020-cifar network.shortcut=padding"}, "network.shortcut=padding"),
        ({"recipe": "renda2020-cifar batch=64 precision=bf16"}, "the recipe is changed: batch=64"),
        ({"task": "regression"}, "regression: the publications have classification"),
    ],
)
def test_what_has_no_counterpart_is_told_why(renda, changes, why):
    found = match("renda2020", [sample(**changes)], renda)
    assert found.points == ()
    assert why in found.unmatched[0][1]


def test_a_reinitialised_network_was_trained_in_full_whatever_the_table_says(renda):
    found = match("renda2020", [sample(strategy="reinit", retrain_epochs=182.0)], renda)
    assert found.points[0].theirs.retrain_epochs == 182


def test_near_misses_are_told_and_do_not_keep_apart(renda):
    ours = [
        sample(recipe="renda2020-cifar precision=bf16 optimizer_state=fresh"),
        sample(recipe="renda2020-cifar precision=bf16 retrain.reinit=full"),
        sample(),
    ]
    found = match("renda2020", ours, renda)
    assert len(found.points) == 3
    told = "{} differs from the publication's recipe"
    assert found.near_misses == {
        told.format("precision=bf16"): 2,
        told.format("optimizer_state=fresh"): 1,
    }


def test_a_difference_has_welchs_interval_where_both_give_networks(renda):
    deltas = [-2.5, -2.9, -2.6]
    seeds = {n: Seed(91.0 + delta, 91.0, False) for n, delta in enumerate(deltas)}
    [point] = match("renda2020", [sample(seeds=seeds)], renda).points
    theirs = point.theirs
    test = scipy.stats.ttest_ind(
        deltas,
        [x - theirs.dense for x in (theirs.low, theirs.median, theirs.high)],
        equal_var=False,
    )
    interval = test.confidence_interval(0.95)
    assert point.interval == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert point.difference == pytest.approx(sum(point.interval) / 2)
    [alone] = match("renda2020", [sample()], renda).points
    assert alone.interval is None
    assert alone.difference == pytest.approx(alone.ours.delta - alone.theirs.delta)


def test_near_is_within_five_percent_either_way():
    assert near(1.0, 1.05)
    assert near(1.05, 1.0)
    assert not near(1.0, 1.06)
    assert near(0, 0)
    assert not near(0, 1)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("iterative 0.2", ("iterative", 0.2)),
        ("one-shot", ("one-shot", None)),
        ("iterative", ("iterative", None)),
    ],
)
def test_schedule_labels(label, expected):
    assert schedule_kind(label) == expected


@pytest.mark.parametrize("source", SOURCES)
def test_the_query_gives_the_same_pairs(many, source):
    rows = queries.run_query(many, "ours-vs-published", {"source": source}).dicts()
    asked = {(row["plan"], row["cell"], row["iteration"]): row for row in rows}
    points = {point.ours.cell: point for point in compare(many, source).points}
    assert asked.keys() == points.keys()
    for cell, row in asked.items():
        theirs = points[cell].theirs
        assert row["published_sparsity"] == theirs.sparsity
        assert row["published_retrain_epochs"] == (
            None if theirs.retrain_epochs is None else pytest.approx(theirs.retrain_epochs)
        )
        assert row["published_delta"] == pytest.approx(theirs.delta)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Cells of every kind that a publication has, each trained and pruned in several ways."""
    made = FakeStore(tmp_path_factory.mktemp("many"))
    recipes = [name for names in RECIPES.values() for name in names]
    words = (
        "",
        " precision=bf16",
        " batch=64",
        " retrain.reinit=full",
        " network.shortcut=padding",
    )
    count = 0
    for number, recipe in enumerate([*recipes, "own@123456"]):
        for schedule in ("iterative 0.2", "one-shot", "iterative 0.3"):
            made.plan(
                f"p{number}-{schedule.split()[0]}-{schedule[-1]}",
                strategies=(
                    "fine-tune",
                    "lr-rewind",
                    "weight-rewind",
                    "reinit",
                    "partial-rewind-75",
                ),
                sparsities=("0.2", "0.5", "0.8926"),
                schedule=schedule,
                network=("resnet-20", "resnet-56", "resnet-50", "wrn-16-8"),
                dataset="imagenet" if recipe.endswith("imagenet") else "cifar10",
                recipe=recipe + words[number % len(words)] if number % 2 else recipe,
                seeds=1,
            )
            count += 1
    made.finish_all()
    ingest(made.paths)
    draw = random.Random(1)
    with opened(made.paths.database, write=True, patience=5) as connection:
        trials = connection.execute("SELECT trial FROM trials ORDER BY trial").fetchall()
        for (trial,) in trials:
            values = [
                draw.choice(
                    ["weight", "weight", "channel", "filters renda2020-a", "filters own@1"]
                ),
                draw.choice(["global", "global", "layerwise"]),
                draw.choice(["magnitude", "magnitude", "magnitude", "random"]),
            ]
            connection.execute(
                "UPDATE trials SET granularity = $1, scope = $2, criterion = $3 WHERE trial = $4",
                [*values, trial],
            )
        connection.execute(
            "UPDATE stages SET train_epochs = [182, 150, 163.84, 184.32, 90, 204.8][(1 + hash(stage) % 6)::INT]"
        )
    return made.paths


def test_an_unknown_publication_is_refused(store):
    with pytest.raises(UnknownName, match="did you mean 'renda2020'"):
        compare(store, "renda2021")


@pytest.mark.parametrize(
    ("granularity", "name"),
    [
        ("weight", "unstructured"),
        ("channel", "structured"),
        ("filters renda2020-a", "structured-a"),
        ("filters renda2020-b", "structured-b"),
        ("filters own", "structured"),
    ],
)
def test_kinds_of_pruning_by_their_published_names(granularity, name):
    assert structure(granularity) == name

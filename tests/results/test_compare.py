"""Ours beside published: what is matched, what is not, and the papers' claims."""

import dataclasses

import pytest

from prunectl.errors import UnknownName
from prunectl.results import claims
from prunectl.results.compare import SOURCES, compare, match, near, neighbours
from prunectl.results.samples import Sample, measured, published, schedule_kind, structure
from prunectl.store.db import query
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


@pytest.mark.parametrize("source", SOURCES)
def test_a_publication_beside_itself_differs_by_nothing(store, source):
    samples = published(store, source)[::7]
    found = match(source, samples, samples)
    assert len(found.points) == len(samples)
    assert {point.difference for point in found.points} == {0.0}
    assert all(point.ours == point.theirs for point in found.points)
    inside, judged = found.inside
    assert inside == judged


def test_the_neighbour_of_each_cell_is_the_one_that_compare_finds(store):
    found = neighbours(store)
    assert found
    for cell, (source, sample) in found.items():
        pairs = {point.ours.cell: point.theirs for point in compare(store, source).points}
        assert pairs[cell] == sample
    first = {point.ours.cell for point in compare(store, SOURCES[0]).points}
    assert {cell for cell, (source, _) in found.items() if source == SOURCES[0]} == first


@pytest.mark.parametrize(
    ("network", "expected"),
    [("resnet-20", 5.96), ("resnet-56", 9.31), ("resnet-50", 4.77), ("resnet-110", 9.31)],
)
def test_no_loss_in_renda_et_als_own_data(renda, network, expected):
    reached, _ = claims.largest_without_loss(renda, network)
    assert round(reached, 2) == expected


def test_resnet_50_loses_a_quarter_of_a_point_at_most_up_to_6x(renda):
    assert round(claims.largest_without_loss(renda, "resnet-50", loss=0.25)[0], 2) == 5.96


@pytest.mark.parametrize("source", SOURCES)
def test_the_publications_numbers_bear_their_claims_out(store, source):
    found = claims.judge(source, published(store, source))
    assert [(claim.text, claim.verdict) for claim in found if claim.verdict != "holds"] == []


@pytest.mark.parametrize("source", SOURCES)
def test_no_numbers_bear_nothing_out(source):
    assert {claim.verdict for claim in claims.judge(source, [])} == {"not enough data"}


def test_a_claim_may_not_hold(renda):
    swapped = {"lr-rewind": "fine-tune", "fine-tune": "lr-rewind"}
    turned = [dataclasses.replace(s, strategy=swapped.get(s.strategy, s.strategy)) for s in renda]
    verdicts = {claim.text: claim.verdict for claim in claims.judge("renda2020", turned)}
    assert verdicts["learning-rate rewinding is better than fine-tuning"] == "does not hold"
    assert verdicts["resnet-20: iterative lr-rewind at full length loses nothing up to 5.96×"] == (
        "does not hold"
    )


def test_without_loss_so_far_is_not_enough(renda):
    begun = [s for s in renda if s.compression < 3]
    assert claims.no_loss("resnet-20", 5.96)(begun).verdict == "not enough data"
    assert claims.no_loss("resnet-20", 2.44)(begun).verdict == "holds"


def test_main_lengths_are_the_papers(renda):
    kept = {
        (s.strategy, s.retrain_epochs)
        for s in claims.at_main_length(renda)
        if s.network == "resnet-20"
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


def test_182_of_our_epochs_are_their_182(store):
    found = compare(store, "renda2020", plan="figure1")
    assert {point.theirs.retrain_epochs for point in found.points} == {182}
    assert len(found.claims) == 8


def sample(**changes):
    base = Sample(
        network="resnet-20", dataset="cifar10", structure="unstructured", schedule="one-shot", kind="one-shot",
        prune_step=None, strategy="lr-rewind", sparsity=0.8926, retrain_epochs=182.0, n=3, median=89.0,
        low=88.9, high=89.1, dense=91.7,
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
    ],
)
def test_what_has_no_counterpart_is_told_why(renda, changes, why):
    found = match("renda2020", [sample(**changes)], renda)
    assert found.points == ()
    assert why in found.unmatched[0][1]


def test_a_reinitialised_network_was_trained_in_full_whatever_the_table_says(renda):
    found = match("renda2020", [sample(strategy="reinit", retrain_epochs=182.0)], renda)
    assert found.points[0].theirs.retrain_epochs == 182


def test_inside_means_within_their_spread_around_their_dense(renda):
    theirs = match("renda2020", [sample()], renda).points[0].theirs
    for offset, inside in ((0.0, True), (5.0, False), (-5.0, False)):
        ours = sample(median=theirs.delta + 80 + offset, dense=80.0)
        assert match("renda2020", [ours], renda).points[0].inside is inside


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


def test_another_criterion_is_not_compared(store, monkeypatch):
    samples, strange = measured(store)
    assert (len(samples), strange) == (6, [])
    original = query.run

    def other(paths, sql, parameters):
        result = original(paths, sql, parameters)
        place = result.columns.index("criterion")
        rows = [(*row[:place], "random", *row[place + 1 :]) for row in result.rows]
        return dataclasses.replace(result, rows=rows)

    monkeypatch.setattr(query, "run", other)
    samples, strange = measured(store)
    assert (samples, len(strange)) == ([], 6)


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

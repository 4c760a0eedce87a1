"""The views against statistics computed apart, and the boards that are laid out from them."""

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.errors import ControlError
from prunectl.results.cells import cells
from prunectl.results.claims import judge
from prunectl.results.formats import render
from prunectl.results.leaderboard import boards, leaderboard
from prunectl.results.no_loss import NoLoss
from prunectl.results.samples import measured
from prunectl.results.statistics import paired
from prunectl.results.summary import summarise
from prunectl.results.summary import table as summary_table
from prunectl.results.ties import paired_difference
from prunectl.spec.claim import Claim, Scope
from prunectl.spec.seeds import Seeds
from prunectl.spec.task import KNOWN
from prunectl.store.db import query
from prunectl.store.db.database import opened
from prunectl.store.db.ingest import ingest
from tests.support.fake_store import FakeStore
from tests.support.marks_reference import marks
from tests.support.records import read_json, write_json

STRATEGIES = ("fine-tune", "weight-rewind", "lr-rewind")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three strategies, five seeds, three sparsities; the last stage of one trial is not done, one diverged."""
    made = FakeStore(tmp_path_factory.mktemp("store"))
    made.plan("demo", strategies=STRATEGIES, seeds=5)
    made.finish_all_but_one()
    ingest(made.paths)
    return made


def by_seed(paths):
    """Scores by seed, and the seeds that failed, by (strategy, sparsity)."""
    scores, failed = {}, {}
    sql = "SELECT strategy, target_sparsity, seed, score, flag FROM points WHERE score IS NOT NULL"
    for strategy, sparsity, seed, score, flag in query.run(paths, sql).rows:
        scores.setdefault((strategy, sparsity), {})[seed] = score
        if flag in ("diverged", "collapsed"):
            failed.setdefault((strategy, sparsity), set()).add(seed)
    return scores, failed


def std(estimate):
    """What the views have for the spread of one seed."""
    return estimate.std if estimate.df else None


def check_views(paths, resolution=0.0):
    """Every cell of the two views, computed again from the points."""
    rows = cells(paths, "demo").dicts()
    points, failed = by_seed(paths)
    dense = points.get(("dense", 0.0), {})
    columns = {}
    for row in rows:
        own = points.get((row["strategy"], row["target_sparsity"]), {})
        assert row["n"] == len(own)
        if not own:
            continue
        values = list(own.values())
        expected = paired(values)
        assert row["mean"] == pytest.approx(expected.mean)
        assert (row["std"], row["ci"]) == pytest.approx((std(expected), expected.half), abs=1e-6)
        assert row["median"] == pytest.approx(statistics.median(values))
        change = paired_difference(own, dense)
        assert row["delta_n"] == (change.n if change else 0)
        if change:
            assert row["delta"] == pytest.approx(change.mean, abs=1e-8)
            assert (row["delta_std"], row["delta_ci"]) == pytest.approx(
                (std(change), change.half), abs=1e-6
            )
            bound = paired([own[s] - dense[s] for s in own if s in dense], resolution).lower(0.05)
            assert row["delta_bound"] == (None if change.n < 2 else pytest.approx(bound, abs=1e-6))
        if row["iteration"]:
            columns.setdefault(row["target_sparsity"], []).append(row)
    for sparsity, column in columns.items():
        names = [row["strategy"] for row in column]
        scores = {name: points[name, sparsity] for name in names}
        fallen = {name: failed.get((name, sparsity), set()) for name in names}
        order = {row["strategy"]: row["cell"] for row in column}
        check_column(column, scores, marks(scores, fallen, order, resolution))


def check_column(column, scores, expected):
    leader = (
        expected.star
        or min(column, key=lambda row: (expected.ranks[row["strategy"]], row["cell"]))["strategy"]
    )
    for row in column:
        name = row["strategy"]
        assert row["rank"] == expected.ranks[name]
        assert (row["best"], row["tied"]) == (name == expected.star, name in expected.tied)
        assert row["contenders"] == len(expected.contenders)
        gap = paired_difference(scores[name], scores[leader]) if name != leader else None
        assert row["pairs"] == (gap.n if gap else 0)
        if gap:
            assert row["gap"] == pytest.approx(gap.mean, abs=1e-8)
            assert (row["gap_std"], row["gap_ci"]) == pytest.approx((std(gap), gap.half), abs=1e-6)


def test_the_views_are_the_statistics(store):
    check_views(store.paths)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_views_are_the_statistics_for_any_numbers(store, seed):
    """Scores drawn at random, some of them missing or failed, straight into a copy of the tables."""
    draw = random.Random(seed)
    items = draw.choice([None, 400])
    columns = ["stage", "done", "score", "flag", "test_items"]
    with opened(store.paths.database, write=True, patience=5) as connection:
        keys = [row[0] for row in connection.execute("SELECT stage FROM stages").fetchall()]
        before = connection.execute(f"SELECT {', '.join(columns)} FROM stages").fetchall()
        with connection.appender("stages", columns=columns, action="upsert") as appender:
            for key in keys:
                done, flag = draw.random() < 0.9, "diverged" if draw.random() < 0.03 else None
                score = round(draw.gauss(90, draw.choice([0.0, 1.0])), 2) if done else None
                appender.append_row(key, done, score, flag, items)
    try:
        check_views(store.paths, 100 / items if items else 0.0)
    finally:
        with (
            opened(store.paths.database, write=True, patience=5) as connection,
            connection.appender("stages", columns=columns, action="upsert") as appender,
        ):
            appender.append_rows(before)


def test_a_board_has_methods_by_sparsities(store):
    (board,) = leaderboard(store.paths)
    assert board.title == "demo · resnet-20 · cifar10 · mikler2021-resnet · iterative 0.2"
    assert board.columns == (0.2, 0.36, 0.488)
    assert sorted(row.label for row in board.rows) == sorted(STRATEGIES)
    assert (board.n, board.planned) == (44, 45)
    places = [row.average_rank for row in board.rows]
    assert places == sorted(places)
    assert board.dense.n == board.dense.planned == 5, (
        "once per stage, not once per trial that shares it"
    )


def test_every_column_has_one_best(store):
    (board,) = leaderboard(store.paths)
    for column in board.columns:
        best = [row.cells[column] for row in board.rows if row.cells[column].best]
        assert len(best) == 1


def test_cells_say_what_they_rest_on(store):
    (board,) = leaderboard(store.paths)
    cells = {row.strategy: row.cells for row in board.rows}
    assert "(4/5)" in cells["lr-rewind"][0.488].text()
    flagged = [c for row in cells.values() for c in row.values() if c.flagged]
    assert [cell.flagged for cell in flagged] == [1]
    assert flagged[0].text().endswith(" !" if not flagged[0].uneven else " ! 1 of 5 diverged")
    assert cells["fine-tune"][0.2].values["search_epochs"] == 3
    assert cells["fine-tune"][0.488].values["search_epochs"] == 9


def test_before_the_first_seed_there_is_only_the_plan(tmp_path):
    made = FakeStore(tmp_path)
    made.plan()
    (board,) = leaderboard(made.paths)
    assert {cell.text() for row in board.rows for cell in row.cells.values()} == {"– (0/3)"}
    assert {cell.delta_text() for row in board.rows for cell in row.cells.values()} == {"–"}
    assert board.dense.text() == "– (0/3)"


def test_one_seed_has_no_spread_and_no_interval(tmp_path):
    made = FakeStore(tmp_path)
    made.plan(seeds=1)
    made.finish_all()
    (board,) = leaderboard(made.paths)
    texts = [cell.text() for row in board.rows for cell in row.cells.values()]
    assert all("±" not in text and "(1)" in text for text in texts)
    assert not any("★" in text or "≈" in text for text in texts), "no marks below three seeds"


def test_one_shot_has_a_trial_per_sparsity_and_one_dense_network_per_seed(tmp_path):
    made = FakeStore(tmp_path)
    made.plan(schedule="one-shot", sparsities=("0.5", "0.8"), seeds=2)
    made.finish_all()
    (board,) = leaderboard(made.paths)
    assert (board.columns, len(board.rows), board.dense.n) == ((0.5, 0.8), 2, 2)
    assert all(cell.n == 2 for row in board.rows for cell in row.cells.values())


def test_networks_and_schedules_are_boards_apart_and_plans_are_asked_for(tmp_path):
    made = FakeStore(tmp_path)
    made.plan("one", network="resnet-20", created=1.0)
    made.plan("two", network="resnet-56", created=2.0)
    made.finish_all()
    assert [board.plan for board in leaderboard(made.paths)] == ["two"]
    assert [board.network for board in leaderboard(made.paths, "one")] == ["resnet-20"]
    assert len(leaderboard(made.paths, all_plans=True)) == 2
    assert leaderboard(made.paths, all_plans=True, network="vgg-16") == []
    with pytest.raises(ControlError, match="it has: one, two; did you mean 'one'"):
        leaderboard(made.paths, "onee")


def test_cells_that_no_label_tells_apart_get_rows_of_their_own(store):
    rows = cells(store.paths).dicts()
    twins = [
        {**row, "cell": "f" * 16, "entry": "f" * 16}
        for row in rows
        if row["strategy"] == "fine-tune"
    ]
    (board,) = boards([*rows, *twins], KNOWN)
    labels = [row.label for row in board.rows]
    assert "fine-tune" in labels
    assert any(label.startswith("fine-tune · ") for label in labels)
    assert sum(len(row.cells) for row in board.rows) == 12


def test_what_the_plan_varies_is_in_the_label(store):
    rows = cells(store.paths).dicts()
    others = [
        {**row, "criterion": "random", "cell": row["cell"][::-1], "entry": row["cell"][::-1]}
        for row in rows
        if row["iteration"]
    ]
    (board,) = boards([*rows, *others], KNOWN)
    assert "lr-rewind · random" in {row.label for row in board.rows}


def test_the_board_as_markdown(tmp_path):
    made = FakeStore(tmp_path)
    made.plan(strategies=("lr-rewind", "reinit"), sparsities=("0.2",), seeds=2)
    for key in made.stages:
        labels = made.stages[key]["labels"]["strategy"]
        seed = made.stages[key]["spec"]["stage"]["seed"]
        base = {"dense": 92.0, "lr-rewind": 91.9, "reinit": 85.0}[labels]
        made.finish(key, accuracy=base + 0.1 * seed)
    ingest(made.paths)
    (board,) = leaderboard(made.paths)
    assert render(board.table(), "md") == (
        "| method | 0.2 |\n"
        "| --- | ---: |\n"
        "| dense | 92.05 ± 0.07 (2) |\n"
        "| lr-rewind | 91.95 ± 0.07 (2) |\n"
        "| reinit | 85.05 ± 0.07 (2) |\n"
    )
    assert [row[1] for row in board.table(delta=True).rows[1:]] == ["−0.10 ± 0.00", "−7.00 ± 0.00"]


def test_the_cost_of_a_search_is_that_of_the_seeds_that_are_done(store):
    """The unfinished last stage of one trial does not make its cell look cheaper."""
    sql = "SELECT n, planned, search_epochs FROM leaderboard WHERE iteration > 0 AND n < planned"
    [(n, planned, cost)] = query.run(store.paths, sql).rows
    assert (n, planned) == (4, 5)
    sql = "SELECT avg(search_epochs) FROM iterations WHERE iteration = 3 AND strategy = $strategy"
    assert cost == query.run(store.paths, sql, {"strategy": STRATEGIES[-1]}).rows[0][0]


def test_methods_with_the_same_stages_are_one_row_with_two_names(tmp_path):
    """As fine-tuning and learning-rate rewinding are under a constant rate: neither ties with the other or beats it."""
    made = FakeStore(tmp_path)
    digest = made.plan(strategies=("fine-tune", "lr-rewind", "reinit"))
    path = made.paths.plan(digest)
    record = read_json(path)
    paths = {(t["strategy"], t["seed"]): t["path"] for t in record["trials"]}
    for trial in record["trials"]:
        if trial["strategy"] == "lr-rewind":
            trial["path"] = paths["fine-tune", trial["seed"]]
    write_json(path, record)
    made.finish_all()
    ingest(made.paths)
    (board,) = leaderboard(made.paths)
    assert sorted(row.label for row in board.rows) == ["fine-tune = lr-rewind", "reinit"]
    sql = "SELECT target_sparsity, entry, contenders, best, tied, rank, strategy FROM ranking"
    columns = {}
    for sparsity, entry, *values, _ in query.run(made.paths, sql).rows:
        columns.setdefault((sparsity, entry), []).append(values)
    assert sorted(map(len, columns.values())) == [1, 1, 1, 2, 2, 2]
    for same in columns.values():
        assert same[0] == same[-1]
        assert same[0][0] == 2


def test_trials_that_share_seeds_have_means_and_no_inference(tmp_path):
    """Nine trials of three seeds of init and three of order, which are crossed, and three that differ in both."""
    seeds = [Seeds.of(init, order) for init in range(3) for order in range(3)]
    made = FakeStore(tmp_path)
    crossed = made.plan("crossed", strategies=STRATEGIES, seeds=seeds)
    apart = made.plan(
        "apart", strategies=STRATEGIES, seeds=[Seeds(0, 1, 5), Seeds(1, 2, 6), Seeds(2, 0, 7)]
    )
    made.run(digests=(crossed, apart))
    made.finish_all()
    ingest(made.paths)
    inferred = ("ci", "delta_ci", "delta_bound", "gap_ci")
    for row in cells(made.paths, "crossed").dicts():
        assert (row["n"], row["planned"], row["independent"]) == (9, 9, False)
        assert row["std"] is not None
        assert not (row["best"])
        assert not (row["tied"])
        assert {row[name] for name in inferred} == {None}
    for row in cells(made.paths, "apart").dicts():
        assert (row["n"], row["independent"]) == (3, True)
        assert row["ci"] is not None
    (board,) = leaderboard(made.paths, "apart")
    assert board.independent
    assert all(any(row.cells[x].best for row in board.rows) for x in board.columns)
    (board,) = leaderboard(made.paths, "crossed")
    assert not board.independent
    # The differences are of the same three seeds, not of all trials with the same seed of init.
    sql = """SELECT a.seed, a.order_seed, b.score - a.score FROM points a JOIN points b
             USING (plan, iteration, seed, order_seed, augment_seed)
             WHERE plan = 'crossed' AND iteration = 1 AND a.strategy = 'fine-tune' AND b.strategy = 'lr-rewind'"""
    pairs = query.run(made.paths, sql).rows
    assert len(pairs) == 9
    row = next(
        row
        for row in cells(made.paths, "crossed").dicts()
        if row["strategy"] == "fine-tune" and row["iteration"] == 1
    )
    assert row["pairs"] == 9
    points = query.run(made.paths, "SELECT * FROM points_all WHERE plan = 'crossed'").dicts()
    assert len(points) == 9 * (3 * 3 + 1)
    dense = {
        (p["seed"], p["order_seed"], p["augment_seed"]): p["score"]
        for p in points
        if p["strategy"] == "dense"
    }
    for point in points:
        own = (point["seed"], point["order_seed"], point["augment_seed"])
        assert point["delta"] == pytest.approx(point["score"] - dense[own])
    assert query.run(
        made.paths, "SELECT max(compression) FROM no_loss WHERE plan = 'crossed'"
    ).rows == [(None,)]
    found = summarise(made.paths, board)
    assert {each.record for each in found} == {None}
    assert "–" in render(summary_table(found, board.metric), "csv")


def test_no_claim_is_judged_by_trials_that_share_seeds(tmp_path):
    seeds = [Seeds.of(init, order) for init in range(3) for order in range(3)]
    made = FakeStore(tmp_path)
    made.run(digests=(made.plan("crossed", strategies=STRATEGIES, seeds=seeds),))
    made.finish_all()
    ingest(made.paths)
    samples = measured(made.paths, "crossed")
    assert {len(sample.seeds) for sample in samples} == {9}
    for claim in (Claim("lr-rewind", "fine-tune", "better"), Claim("lr-rewind", "dense", "worse")):
        (part,) = judge(claim, samples).parts
        assert (part.verdict, part.estimate) == ("undecided", None)
        assert "share seeds" in part.evidence
    (part,) = judge(NoLoss(Scope(network=("*",)), 2.0), samples).parts
    assert part.verdict == "undecided"

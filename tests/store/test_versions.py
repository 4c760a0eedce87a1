"""Versions of a plan: numbered alike by files and database, and never mixed."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunectl.errors import ControlError
from prunectl.results.cells import cells
from prunectl.results.leaderboard import leaderboard
from prunectl.results.plots import plot
from prunectl.results.summary import summarise
from prunectl.spec.study import Study
from prunectl.store.db import ingest, query
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import plan_versions, write_plans, write_study
from tests.support.fake_store import START, FakeStore

Numbers = dict[tuple[str, str], tuple[int, bool]]
"""By plan and digest: the version's number, and whether it is the current one."""


def in_files(paths: StorePaths) -> Numbers:
    return {
        (name, study.digest): (versions.number(study.digest), study is versions.current)
        for name, versions in plan_versions(paths).items()
        for study in versions.studies
    }


def in_database(paths: StorePaths) -> Numbers:
    rows = query.run(paths, "SELECT plan, digest, version, current FROM plan_versions").rows
    return {(plan, digest): (version, current) for plan, digest, version, current in rows}


def study(name: str, digest: str, created: float | None = None) -> Study:
    return Study(name=name, digest=f"{name}-{digest}", created=created, trials=(), stages={})


NAMES = st.sampled_from("pq")
DIGESTS = st.sampled_from("abcd")


@settings(max_examples=8, deadline=None)
@given(
    before=st.dictionaries(st.tuples(NAMES, DIGESTS), st.integers(1, 4)),
    uses=st.lists(st.tuples(NAMES, DIGESTS), min_size=1, max_size=8),
)
def test_numbers_are_those_of_the_first_runs_and_stay(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[tuple[str, str], int],
    uses: list[tuple[str, str]],
) -> None:
    """Also of records that say only when they were used last, and whether the database follows or is made anew."""
    paths = StorePaths(tmp_path_factory.mktemp("store"))
    for (name, digest), created in before.items():
        write_study(paths, study(name, digest, float(created)))
    known = in_files(paths)
    for name, digest in uses:
        write_plans(paths, [study(name, digest)])
        now = in_files(paths)
        assert {key: now[key][0] for key in known} == {key: known[key][0] for key in known}
        assert now[name, f"{name}-{digest}"][1]
        known = now
        ingest.ingest(paths)
        assert in_database(paths) == now
    for plan in {name for name, _ in known}:
        numbers = sorted(number for (name, _), (number, _) in known.items() if name == plan)
        assert numbers == list(range(1, len(numbers) + 1))
    assert Counter(name for (name, _), (_, current) in known.items() if current) == dict.fromkeys(
        {name for name, _ in known}, 1
    )
    ingest.rebuild(paths)
    assert in_database(paths) == known


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FakeStore:
    """Two versions of one plan that share a strategy, and a plan of one version."""
    made = FakeStore(tmp_path_factory.mktemp("store"))
    made.plan("p", strategies=("fine-tune", "reinit"), seeds=2, version="1", created=START)
    made.plan("p", strategies=("fine-tune", "lr-rewind"), seeds=3, version="2", created=START + 9)
    made.plan("q", network="resnet-56", seeds=1, created=START + 5)
    made.finish_all()
    ingest.ingest(made.paths)
    return made


def test_iterations_are_the_current_versions(store: FakeStore) -> None:
    def counts(table: str, *columns: str) -> dict[tuple[object, ...], int]:
        names = ", ".join(columns)
        rows = query.run(store.paths, f"SELECT {names}, count(*) FROM {table} GROUP BY ALL").rows
        return {row[:-1]: row[-1] for row in rows}

    every = counts("iterations_all", "plan", "version", "strategy")
    # Of each trial a row for the dense network and three for the sparsities.
    assert every == {
        ("p", 1, "fine-tune"): 8, ("p", 1, "reinit"): 8,
        ("p", 2, "fine-tune"): 12, ("p", 2, "lr-rewind"): 12,
        ("q", 1, "fine-tune"): 4, ("q", 1, "lr-rewind"): 4,
    }  # fmt: skip
    current = counts("iterations", "plan", "strategy")
    assert current == {
        ("p", "fine-tune"): 12, ("p", "lr-rewind"): 12, ("q", "fine-tune"): 4, ("q", "lr-rewind"): 4
    }  # fmt: skip
    assert set(counts("iterations", "trial", "iteration").values()) == {1}
    lost = query.run(store.paths, "FROM iterations_all WHERE search_epochs > 3 * iteration").rows
    assert lost == [], "a trial in two versions has its own cost, not that of both"


def test_every_version_has_its_own_boards(store: FakeStore) -> None:
    boards = leaderboard(store.paths, all_plans=True, every_version=True)
    assert [(board.plan, board.version, board.current) for board in boards] == [
        ("p", 2, True), ("p", 1, False), ("q", 1, True)
    ]  # fmt: skip
    assert [board.title.split(" · ")[0] for board in boards] == ["p v2", "p v1 (not current)", "q"]
    for board, seeds in zip(boards, (3, 2, 1), strict=True):
        assert board.dense is not None
        assert {cell.n for row in board.rows for cell in row.cells.values()} == {seeds}
        assert board.dense.n == seeds
        assert [row.cells[0.2].best for row in board.rows].count(True) == (seeds >= 3)
        compared = {sum(astuple(each.record)) for each in summarise(store.paths, board)}
        assert compared == {3}, "two methods at three sparsities, by the version's own seeds"
    assert [board.version for board in leaderboard(store.paths, "p")] == [2]
    assert leaderboard(store.paths, "p") == boards[:1]
    assert leaderboard(store.paths, "p", version=1) == boards[1:2]


def test_one_version_is_asked_for_by_its_number(store: FakeStore) -> None:
    rows = cells(store.paths, "p", version=1).dicts()
    assert {row["strategy"] for row in rows} == {"dense", "fine-tune", "reinit"}
    with pytest.raises(ControlError, match=r"p has no version 3; it has: 1, 2 \(current\)"):
        cells(store.paths, "p", version=3)


def test_shipped_queries_are_of_the_current_version(store: FakeStore, tmp_path: Path) -> None:
    from prunectl.store.db.queries import queries, run_query

    seen = 0
    for name, each in queries().items():
        found = run_query(store.paths, name, {"plan": "p"} if "plan" in each.parameters else {})
        strategies = {row.get("strategy") for row in found.dicts()}
        assert "reinit" not in strategies, name
        seen += "lr-rewind" in strategies
    assert seen >= 5


def test_figures_are_of_one_version(store: FakeStore) -> None:
    for version, other in ((1, "reinit"), (2, "lr-rewind"), (None, "lr-rewind")):
        figure = plot(store.paths, "p", "layers", version=version)
        shown = {axes.get_title().split(" · ")[-1] for axes in figure.axes if axes.get_title()}
        assert shown == {"fine-tune", other}

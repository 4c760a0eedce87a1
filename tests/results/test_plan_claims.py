"""The claims of plans: judged by their own results, and marked where they were stated after them."""

import duckdb
import msgspec
import pytest

from prunectl.results.export import export_tables
from prunectl.results.plan_claims import AFTERWARDS, plan_claims
from prunectl.spec.claim import Claim, Scope
from prunectl.store.db.ingest import ingest, rebuild
from tests.support.command import here
from tests.support.fake_store import FakeStore
from tests.support.records import read_json, write_json

__all__ = ["here"]

BETTER = Claim("lr-rewind", "fine-tune", "better")
WORSE = Claim(
    "lr-rewind", "fine-tune", "worse", scope=Scope(network=("resnet-*",)), text="it is worse"
)
STATED, RESULTS, LATER = 1000.0, 2000.0, 3000.0


def store(folder, *versions):
    """A study whose lr-rewind is better by 3 points, with a version for each (time, claims)."""
    made = FakeStore(folder)
    for number, (time, claims) in enumerate(versions):
        digest = made.plan("demo", seeds=3, version=str(number), created=time)
        path = made.paths.plan(digest)
        record = read_json(path)
        write_json(path, record | {"claims": msgspec.to_builtins(claims), "made": time})
    for key, stage in made.stages.items():
        lost = {"dense": 0.0, "lr-rewind": 1.0, "fine-tune": 4.0}[stage["labels"]["strategy"]]
        seed = stage["spec"]["stage"]["seed"]
        noise = {"lr-rewind": 0.1}.get(stage["labels"]["strategy"], 0.15) * (seed - 1)
        made.finish(key, accuracy=round(92.0 - lost + noise, 2))
    ingest(made.paths)
    return made.paths


def first_result(paths):
    return min(read_json(path)["ended"] for path in paths.stages.glob("*/result.json"))


def test_a_claim_is_judged_by_the_results_of_its_plan(tmp_path):
    paths = store(tmp_path, (1.0, (BETTER, WORSE)))
    found = plan_claims(paths)
    assert [(each.plan, each.judged.verdict, each.judged.note) for each in found] == [
        ("demo", "supported", ""),
        ("demo", "contradicted", ""),
    ]
    rebuild(paths)
    assert plan_claims(paths, "demo") == found
    assert plan_claims(paths, "another") == []


def test_a_claim_that_is_younger_than_its_results_is_marked(tmp_path):
    """By the first version that states it: in other words, or beside other claims, it is the same claim."""
    late = 4e9
    paths = store(
        tmp_path, (1.0, (BETTER,)), (late, (msgspec.structs.replace(BETTER, text="so"), WORSE))
    )
    assert first_result(paths) < late
    found = {each.judged.title: (each.judged.note, each.stated) for each in plan_claims(paths)}
    assert found == {"so": ("", 1.0), "it is worse": (AFTERWARDS, late)}


def test_only_the_current_version_is_judged(tmp_path):
    paths = store(tmp_path, (1.0, (BETTER, WORSE)), (2.0, (WORSE,)))
    assert [each.judged.title for each in plan_claims(paths)] == ["it is worse"]


def test_compare_shows_what_plans_claim(tmp_path, here):
    paths = store(tmp_path, (1.0, (BETTER,)), (4e9, (BETTER, WORSE)))
    text = " ".join(here("compare", "--store", paths.root).stdout.split())
    assert "lr-rewind is better than fine-tune" in text
    assert "supported: lr-rewind − fine-tune: +3.00 [" in text
    assert f"contradicted ({AFTERWARDS})" in text


@pytest.mark.parametrize("count", [0, 1])
def test_a_plan_without_claims_says_nothing_of_them(tmp_path, here, count):
    paths = store(tmp_path, (1.0, (BETTER,) * count))
    assert ("its results" in here("compare", "--store", paths.root).stdout) == bool(count)


def test_claims_are_exported_with_what_their_results_say(tmp_path):
    paths = store(tmp_path / "store", (1.0, (BETTER, WORSE)))
    files = {path.name for path in export_tables(paths, "demo", tmp_path / "tables")}
    assert {"claims.csv", "claims.parquet"} <= files
    with duckdb.connect() as connection:
        found = connection.execute(
            "FROM read_parquet($1)", [str(tmp_path / "tables" / "claims.parquet")]
        )
        rows = [
            dict(zip([column[0] for column in found.description], row, strict=True))
            for row in found.fetchall()
        ]
    judged = [each.judged for each in plan_claims(paths)]
    assert [row["verdict"] for row in rows] == [each.verdict for each in judged]
    for row, each in zip(rows, judged, strict=True):
        [part] = each.parts
        assert row["condition_verdict"] == part.verdict
        assert (row["gain"], row["low"]) == (part.estimate.mean, part.estimate.lower(0.05))
        assert row["seeds"] == 3
    without = store(tmp_path / "other", (1.0, ()))
    assert not any(
        "claims" in path.name for path in export_tables(without, "demo", tmp_path / "none")
    )

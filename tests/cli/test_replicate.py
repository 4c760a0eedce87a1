"""export --study and replicate: one bundle that nobody changes, and stages that are run again and compared."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from prunectl.errors import ExitCode
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest
from prunectl.store.paths import StorePaths
from prunectl.store.records.archive import Manifest
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.replication import Replication, read_replications
from prunectl.store.records.result import Result
from tests.cli.conftest import Done, begin, prunectl
from tests.support.bundles import reseal, tree, writable_copy
from tests.support.records import read_json, scheduler_log, write_json
from tests.support.tiny_plans import tiny_plan

Here = Callable[..., Done]

PLAN = tiny_plan(iterations=1)
"""Two dense networks and four that are pruned: of each strategy and seed one."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan, done in `store` and exported as `bundle`; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.toml").write_text(PLAN)
    done = prunectl("run", "tiny.toml", "--plain", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = prunectl("export", "--study", "tiny", "--out", "bundle", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def bundle(made: Path) -> Path:
    return made / "bundle"


def digest(bundle: Path) -> str:
    return read_record(bundle / "parcel.json", Manifest).bundle


def records(store: Path) -> dict[str, Replication]:
    """The store's replications by stage."""
    return {found.key: found for _, found in read_replications(StorePaths(store))}


def dispatched(store: Path) -> set[str]:
    """The stages that a scheduler gave out in the store."""
    log = scheduler_log(StorePaths(store).scheduler_log)
    return {record["key"] for record in log if record["type"] == "dispatched"}


# The bundle


def test_a_bundle_is_read_only_and_named_by_a_digest_that_sha256sum_makes(
    here: Here, made: Path, tmp_path: Path
) -> None:
    done = here("export", "--study", "tiny", "--out", tmp_path / "b", "--store", made / "store")
    assert done.returncode == 0, done.stderr
    folder, said = done.stdout.splitlines()
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o222 for path in files} == {0}
    command = (
        "find . -type f ! -name parcel.json | sed 's|^\\./||' | LC_ALL=C sort | xargs sha256sum | "
        "sha256sum | cut -d' ' -f1"
    )
    made_by_others = subprocess.check_output(command, shell=True, cwd=folder, text=True)
    assert said == f"sha256:{made_by_others.strip()}"
    named = read_record(Path(folder) / "parcel.json", Manifest).files
    assert set(named) == {path.relative_to(folder).as_posix() for path in files} - {"parcel.json"}


# Verdicts of real runs


def test_on_the_machine_that_made_it_all_is_bit_identical(
    here: Here, made: Path, bundle: Path
) -> None:
    before = tree(bundle)
    done = here("replicate", bundle, "--stages", "3", "--seed", "1", cwd=made)
    assert done.returncode == 0, done.stderr
    assert "3 bit-identical, 0 within tolerance, 0 not comparable, 0 different" in done.stdout
    assert f"sha256:{digest(bundle)}" in done.stderr
    ours = made / "bundle-replication"
    found = records(ours)
    assert len(found) == 3
    for key, record in found.items():
        theirs = read_record(StorePaths(bundle).stage(key).result, Result)
        assert record.verdict == "identical"
        assert record.there.score == record.here.score == theirs.score
        assert record.there.weights == record.here.weights is not None
        assert record.n == 2
        assert record.bundle == digest(bundle)
    assert dispatched(ours) >= set(found)
    assert tree(bundle) == before
    # The store beside it has this version of the plan, and got the records, too.
    assert records(made / "store") == found
    compared = here("compare", cwd=made)
    assert "tiny: 3 of 6 stages replicated on 1 machine: 3 bit-identical" in compared.stdout

    again = here("replicate", bundle, "--stages", "3", cwd=made)
    assert "stages to run" not in again.stderr
    assert "chosen by --seed 1" in again.stderr
    assert again.stdout == done.stdout
    assert records(ours) == found

    here("sql", "SELECT 1", cwd=made)
    rows = query.run(
        StorePaths(made / "store"), "SELECT stage, verdict, score_here, n FROM replications"
    ).rows
    assert sorted(rows) == sorted((key, "identical", found[key].here.score, 2) for key in found)


def forge(bundle: Path, change: Callable[[Result], Result]) -> str:
    """Change the result of a pruned stage, and all digests with it. Returns the stage's key."""
    for path in sorted(bundle.glob("stages/*/result.json")):
        result = read_record(path, Result)
        if result.iteration:
            write_record(path, change(result))
            reseal(bundle)
            return result.key
    raise AssertionError("no pruned stage")


def test_a_score_that_was_made_up_is_found_out(here: Here, bundle: Path, tmp_path: Path) -> None:
    forged = writable_copy(bundle, tmp_path / "forged")

    def better(result: Result) -> Result:
        assert result.score is not None
        score = result.score + 5
        return replace(result, score=score, metrics={**result.metrics, "accuracy": score})

    key = forge(forged, better)
    done = here("replicate", forged, "--all", cwd=tmp_path)
    assert done.returncode == ExitCode.NOT_REPLICATED, done.stderr
    assert "5 bit-identical, 0 within tolerance, 0 not comparable, 1 different" in done.stdout
    assert "other results (accuracy, score) are said to be theirs" in done.stdout
    assert records(tmp_path / "forged-replication")[key].verdict == "different"


def test_from_parents_exactly_the_chosen_stages_are_run(
    here: Here, bundle: Path, tmp_path: Path
) -> None:
    before = tree(bundle)
    command = ("replicate", bundle, "--stages", "2", "--seed", "4", "--from-parents")
    done = here(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    store = tmp_path / "bundle-replication-from-parents"
    found = records(store)
    assert dispatched(store) == set(found)
    assert all(record.from_parents and record.verdict == "identical" for record in found.values())
    others = {path.name for path in StorePaths(store).stages.iterdir()} - set(found)
    assert others, "a choice without parents shows nothing"
    for key in others:
        ours, theirs = (StorePaths(root).stage(key) for root in (store, bundle))
        assert ours.result.read_bytes() == theirs.result.read_bytes()
        assert ours.final.read_bytes() == theirs.final.read_bytes()
    assert tree(bundle) == before
    other = here(*command, "--seed", "7", cwd=tmp_path)
    assert other.returncode == 3
    assert "replicates another choice of stages" in other.stderr


def test_what_was_killed_goes_on(here: Here, bundle: Path, tmp_path: Path) -> None:
    command = ("replicate", bundle, "--all", "--seed", "0", "--slots", "1")
    process = begin(*command, cwd=tmp_path)
    store = StorePaths(tmp_path / "bundle-replication")
    deadline = time.monotonic() + 100
    while not list(store.stages.glob("*/result.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in store.stages.glob("*/result.json")}
    assert not list(store.replications.glob("*"))
    again = here(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "6 bit-identical" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_weights_that_are_damaged_afterwards_cost_their_stage_alone(
    here: Here, bundle: Path, tmp_path: Path
) -> None:
    """The others get their verdicts, and the same command runs it again."""
    command = ("replicate", bundle, "--stages", "2", "--seed", "4")
    assert here(*command, cwd=tmp_path).returncode == 0
    store = StorePaths(tmp_path / "bundle-replication")
    before = records(store.root)
    for path in store.replications.glob("*.json"):
        path.unlink()
    final = store.stage(min(before)).final
    data = bytearray(final.read_bytes())
    data[-1] ^= 1
    final.write_bytes(data)
    done = here(*command, cwd=tmp_path)
    assert done.returncode == ExitCode.TRIAL_FAILED
    assert "is not what its checksum says: it was set aside" in done.stderr
    assert "1 bit-identical" in done.stdout
    assert "1 not run" in done.stdout
    assert list(records(store.root)) == [max(before)]
    done = here(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(records(store.root)) == set(before)


# What is refused


def test_nothing_but_a_store_of_its_own_is_run_in(
    here: Here, made: Path, bundle: Path, tmp_path: Path
) -> None:
    before = tree(made)
    for store, says in (
        (made / "store", "holds something else"),
        (bundle / "inside", "is inside the bundle, which is never written to"),
    ):
        done = here("replicate", bundle, "--store", store)
        assert done.returncode != 0
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
    for into, says in (
        (bundle, "is inside the bundle"),
        (tmp_path / "nothing", "is no store that holds plans"),
    ):
        done = here("replicate", bundle, "--store", tmp_path / "own", "--into", into)
        assert says in done.stderr
    assert not (tmp_path / "own").exists()
    assert tree(made) == before


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("changed", "is not what its checksum says"),
        ("code", "brings code of its own (code/net.py), which this version of prunectl does not"),
        ("not finished", "is no exported study"),
        ("other stage", "is not what its key stands for"),
    ],
)
def test_a_bundle_that_is_none_is_refused_before_anything_is_run(
    here: Here, bundle: Path, tmp_path: Path, how: str, says: str
) -> None:
    bad = writable_copy(bundle, tmp_path / "bad")
    manifest = bad / "parcel.json"
    plan = next(bad.glob("plans/*.json"))
    if how == "changed":
        victim = next(bad.glob("tables/*.csv"))
        victim.write_bytes(victim.read_bytes() + b"\n")
    elif how == "code":
        entry = {"bytes": 1, "sha256": "0" * 64}
        content = read_json(manifest)
        write_json(manifest, content | {"files": content["files"] | {"code/net.py": entry}})
    elif how == "not finished":
        manifest.unlink()
    else:
        content = read_json(plan)
        for stage in content["stages"].values():
            stage["spec"]["stage"]["seed"] = 7
        write_json(plan, content)
        reseal(bad)
    done = here("replicate", bad, cwd=tmp_path)
    assert done.returncode == ExitCode.STORE
    assert says in done.stderr
    assert not (tmp_path / "bad-replication").exists()


# The records


def test_verdicts_go_with_an_exported_study(
    here: Here, made: Path, bundle: Path, tmp_path: Path
) -> None:
    found = replicated_by_hand(bundle)
    for each in found:
        write_record(StorePaths(tmp_path / "store").replication(each.id), each)
    other = StorePaths(tmp_path / "other")
    assert here("import", bundle, "--store", tmp_path / "store").returncode == 0
    shown = here("compare", "--store", tmp_path / "store").stdout
    says = "tiny: 2 of 6 stages replicated on 2 machines: 1 bit-identical, 0 within tolerance, "
    assert f"{says}0 not comparable, 1 different" in shown
    parcel = tmp_path / "parcel"
    done = here("export", "--study", "tiny", "--out", parcel, "--store", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert here("import", parcel, "--store", other.root).returncode == 0
    assert sorted(each.id for _, each in read_replications(other)) == sorted(
        each.id for each in found
    )
    sql = "SELECT stage, verdict, host FROM replications ORDER BY ALL"
    expected = sorted((each.key, each.verdict, each.host) for each in found)
    assert query.run(other, sql).rows == expected


def replicated_by_hand(bundle: Path) -> list[Replication]:
    """Three records: one stage twice, with a worse verdict on the second machine, and another stage."""
    from prunectl.store.bundle import open_bundle, outcome

    source = open_bundle(bundle)
    first, second = sorted(source.done)[:2]
    return [
        Replication(
            bundle=source.digest,
            plan=source.study.digest,
            key=key,
            verdict=verdict,
            there=outcome(source.paths, key)[1],
            here=outcome(source.paths, key)[1],
            host=host,
            time=1.0,
        )
        for key, verdict, host in (
            (first, "identical", "a"),
            (first, "different", "b"),
            (second, "identical", "a"),
        )
    ]


def test_a_damaged_record_is_left_out_and_named(made: Path, bundle: Path, tmp_path: Path) -> None:
    store = StorePaths(tmp_path)
    found = replicated_by_hand(bundle)
    for each in found:
        write_record(store.replication(each.id), each)
    path = store.replication(found[0].id)
    path.write_text(path.read_text().replace('"identical"', '"perfect"'))
    left_out = ingest(store).left_out
    assert len(left_out) == 1
    assert path.name in left_out[0]
    assert query.run(store, "SELECT count(*) FROM replications").rows == [(2,)]

"""From files to tables: exactly once, whatever was killed, torn, damaged or held in between."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time

import duckdb
import pytest

from prunectl.errors import StoreBusy
from prunectl.store.db import database, loader, query
from prunectl.store.db.column_docs import docs
from prunectl.store.db.ingest import ingest, rebuild
from prunectl.store.db.replica import Replica
from prunectl.store.records.base import write_record
from prunectl.store.records.events import Epoch
from prunectl.store.records.journal import Journal
from prunectl.store.records.scheduler_log import Dispatched, RunStarted, StageFailed
from prunectl.store.records.seal import seal
from prunectl.store.records.stage import read_result
from tests.support.fake_store import START, FakeStore
from tests.support.records import read_json, resealed, rewrite, write_json

pytestmark = pytest.mark.usefixtures("bare_tables")


@pytest.fixture
def maker(tmp_path):
    made = FakeStore(tmp_path / "a store's folder")
    digest = made.plan()
    made.run(digests=(digest,))
    made.scheduler(RunStarted(run="r1"))
    return made


def tables(paths):
    """The content of every table and view as text, but for what does not come from the store's files."""
    query.run(paths, "SELECT 1")  # makes or mends it where need be
    out = {}
    with database.opened(paths.database, write=False, patience=5) as connection:
        for name in [*docs().tables, *docs().views]:
            if name not in ("store", "published"):
                rows = connection.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()
                out[name] = json.dumps(rows, default=str)
    return out


def rows(maker, sql, *parameters):
    return query.run(maker.paths, sql, list(parameters)).rows


def test_a_stage_is_read_as_it_grows(maker):
    key = next(iter(maker.stages))
    ingest(maker.paths)
    maker.log(key, range(1, 3))
    report = ingest(maker.paths, [key])
    assert (report.stages, report.records, report.finished) == (1, 4, 0)
    assert rows(maker, "SELECT epoch FROM epochs ORDER BY epoch") == [(1,), (2,)]
    assert rows(maker, "SELECT done, accuracy FROM stages WHERE stage = $1", key) == [(False, None)]
    assert rows(maker, "SELECT * FROM iterations") == []
    maker.finish(key)
    assert ingest(maker.paths, [key]).finished == 1
    assert rows(maker, "SELECT DISTINCT accuracy FROM iterations") == [(maker.numbers(key)[1],)]


def test_nothing_new_changes_nothing(maker):
    maker.finish_all()
    ingest(maker.paths)
    before = tables(maker.paths)
    report = ingest(maker.paths)
    assert (report.stages, report.records) == (0, 0)
    ingest(maker.paths, list(maker.stages))
    assert tables(maker.paths) == before


def test_rebuilding_gives_identical_tables(maker):
    """Read in many small steps, or at once from the files: the same."""
    for key in list(maker.stages)[::4]:
        maker.log(key, range(1, 2))
        ingest(maker.paths, [key])
        maker.log(key, range(1, 4), first=False)
        ingest(maker.paths, [key])
        maker.finish(key)
        maker.scheduler(Dispatched(key=key))
    ingest(maker.paths)
    before = tables(maker.paths)
    rebuild(maker.paths)
    assert tables(maker.paths) == before
    maker.paths.database.unlink()
    query.run(maker.paths, "SELECT 1")
    assert tables(maker.paths) == before
    assert not list(maker.paths.root.glob(".*.tmp*"))


def test_the_latest_attempt_of_an_epoch_wins(maker):
    key = next(iter(maker.stages))
    journal = Journal(maker.paths.stage(key).events)
    for epoch in (1, 2, 3):
        journal.append(Epoch(epoch=epoch, step=epoch, score=10.0, rates=((epoch - 1, 0.1),)))
    journal.close()
    ingest(maker.paths)
    journal = Journal(maker.paths.stage(key).events)
    journal.append(Epoch(epoch=2, step=2, score=20.0, rates=((1, 0.1),)))
    journal.close()
    ingest(maker.paths)
    found = rows(maker, "SELECT epoch, attempt, score FROM epochs ORDER BY epoch")
    assert found == [(1, 1, 10.0), (2, 2, 20.0), (3, 1, 10.0)]
    assert rows(maker, "SELECT first_step, lr FROM schedules WHERE stage = $1", key) == [(0, 0.1)]


def test_schedules_are_the_exact_rates_after_any_resume(maker):
    """The rate changes at step 586 of 1173, in the middle of an epoch."""
    key = next(iter(maker.stages))
    maker.log(key, range(1, 3))
    ingest(maker.paths)
    maker.log(key, range(2, 4))
    ingest(maker.paths)
    expected = [(0, 0.1), (586, 0.01)]
    sql = "SELECT first_step, lr FROM schedules WHERE stage = $1 ORDER BY first_step"
    assert rows(maker, sql, key) == expected


def test_a_torn_line_waits_and_a_torn_record_is_left_out(maker):
    key = next(iter(maker.stages))
    maker.log(key, range(1, 2))
    events = maker.paths.stage(key).events
    whole = events.read_bytes()
    events.write_bytes(whole[:-7])
    ingest(maker.paths)
    assert rows(maker, "SELECT count(*) FROM epochs") == [(0,)]
    events.write_bytes(whole)
    ingest(maker.paths)
    assert rows(maker, "SELECT count(*) FROM epochs") == [(1,)]
    with events.open("ab") as file:
        file.write(b'{"seq": 3, "type": "epo')
    maker.log(key, range(2, 4))
    ingest(maker.paths)
    assert rows(maker, "SELECT epoch, attempt FROM epochs ORDER BY 1") == [(1, 1), (2, 2), (3, 2)]
    assert rows(maker, "SELECT count(*) FROM events WHERE stage = $1", key) == [(4,)]


def test_a_log_that_is_another_one_is_read_anew(maker):
    key = next(iter(maker.stages))
    maker.log(key)
    ingest(maker.paths)
    events = maker.paths.stage(key).events
    for content in ([range(1, 2)], [range(1, 2), range(2, 4), range(3, 4)]):
        events.unlink()
        for epochs in content:
            maker.log(key, epochs)
        ingest(maker.paths)
        before = tables(maker.paths)
        rebuild(maker.paths)
        assert tables(maker.paths) == before


def test_a_log_that_was_cut_is_told_of_until_a_result_vouches_for_it(maker):
    """Also where it has no checkpoint yet, so that nothing else knows of the lines."""
    key = next(iter(maker.stages))
    maker.log(key, range(1, 4))
    ingest(maker.paths)
    events = maker.paths.stage(key).events
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:-1]))
    [said] = ingest(maker.paths).left_out
    assert f"stages/{key}/events.jsonl is not the log that was read before" in said
    assert [key] == [source.split("/")[1] for source in query.left_out(maker.paths)]
    maker.log(key, range(3, 4), first=False)
    assert ingest(maker.paths).left_out == []
    assert query.left_out(maker.paths)
    maker.finish(key)
    ingest(maker.paths)
    assert query.left_out(maker.paths), "this result says nothing of its log"
    journal = Journal(events)
    write_record(maker.paths.stage(key).result, journal.append(read_result(maker.paths.stage(key))))
    journal.close()
    ingest(maker.paths)
    assert query.left_out(maker.paths) == {}
    events.write_bytes(b"".join(lines[:-1]))
    assert "is not the log that result.json vouches for" in ingest(maker.paths).left_out[0]


def test_a_stage_that_is_gone_is_forgotten(maker):
    maker.finish_all()
    ingest(maker.paths)
    gone = list(maker.stages)[-1]
    stage = maker.paths.stage(gone)
    for path in stage.folder.iterdir():
        path.unlink()
    stage.folder.rmdir()
    ingest(maker.paths)
    assert rows(maker, "SELECT count(*) FROM epochs WHERE stage = $1", gone) == [(0,)]
    assert rows(maker, "SELECT done FROM stages WHERE stage = $1", gone) == [(False,)]
    before = tables(maker.paths)
    rebuild(maker.paths)
    assert tables(maker.paths) == before


def test_malformed_files_are_left_out_and_named(maker):
    maker.finish_all()
    key = next(iter(maker.stages))
    (maker.paths.plans / "bad.json").write_text("{")
    write_json(maker.paths.plans / "odd.json", {"name": "odd", "trials": [{}], "stages": {}})
    (maker.paths.runs / "list.json").write_text("[]")
    maker.paths.stage(key).result.write_text("[1]")
    with maker.paths.stage(key).events.open("a") as file:
        lines = ['"text"', "[1]", '{"type":"epoch"}', '{"seq":99,"type":"epoch"}']
        file.write("".join(resealed(line) + "\n" for line in lines))
    report = ingest(maker.paths)
    for name in ("bad.json", "odd.json", "list.json", f"{key}/result.json"):
        assert any(name in text for text in report.left_out)
        assert any(source.endswith(name) for source in query.left_out(maker.paths))
    assert ingest(maker.paths).left_out == [], "once is enough"
    assert query.left_out(maker.paths)[f"stages/{key}/events.jsonl"].endswith(", and 1 more line")
    assert rows(maker, "SELECT count(*) FROM stages WHERE done") == [(len(maker.stages) - 1,)]


def test_a_number_that_no_column_holds_costs_its_row_alone(maker):
    maker.finish_all()
    first, second, *_ = maker.stages
    for key, name, number in ((first, "kept", 2**63), (second, "step", 10**30)):
        path = maker.paths.stage(key).result if name == "kept" else maker.paths.stage(key).events
        record = "done" if name == "kept" else "epoch"
        pattern = rf'("type":"{record}","epoch":1,.*?"{name}":)\d+'
        pattern = pattern if name == "step" else pattern.replace('"epoch":1,', "")
        rewrite(path, lambda line, p=pattern, n=number: re.sub(p, rf"\g<1>{n}", line, count=1))
    left_out = ingest(maker.paths).left_out
    assert len(left_out) == 2
    assert all("Expected `int` <= 9007199254740992" in text for text in left_out)
    assert rows(maker, "SELECT count(*) FROM stages WHERE done") == [(len(maker.stages) - 1,)]
    [[whole]] = rows(maker, "SELECT count(*) FROM epochs WHERE stage = $1", first)
    assert rows(maker, "SELECT count(*) FROM epochs WHERE stage = $1", second) == [(whole - 1,)]
    assert ingest(maker.paths).left_out == [], "once is enough"


def test_what_only_the_database_reads_of_a_record_may_be_anything(maker):
    key = next(iter(maker.stages))
    maker.log(key, range(1, 2))
    with maker.paths.stage(key).events.open("ab") as file:
        file.write(seal(b'{"type":"note","seq":99,"new":"\xff","text":"t"}') + b"\n")
    spec = maker.paths.stage(list(maker.stages)[-1]).spec
    maker.log(spec.parent.name, range(1, 2))
    spec.write_text(re.sub(r'"density": ?"[^"]*"', '"density":"much"', spec.read_text()))
    for plan in maker.paths.plans.iterdir():
        plan.unlink()
    [text] = ingest(maker.paths).left_out
    assert f"{spec.relative_to(maker.paths.root)} is malformed" in text
    assert rows(maker, "SELECT data->>'text' FROM events WHERE seq = 99") == [("t",)]


def test_queries_find_what_has_its_default_in_a_record(maker):
    """Such as the reason that most failures have, and that one was not final."""
    key = next(iter(maker.stages))
    maker.scheduler(StageFailed(key=key, reason="exception", final=False))
    maker.log(key, range(1, 2))
    ingest(maker.paths)
    sql = (
        "SELECT data->>'reason', (data->>'final')::BOOLEAN FROM events WHERE type = 'stage_failed'"
    )
    assert rows(maker, sql) == [("exception", False)]
    sql = "SELECT (data->>'step')::INTEGER FROM events WHERE type = 'start' AND stage = $1"
    assert rows(maker, sql, key) == [(0,)]


def test_a_plan_that_is_gone_is_forgotten(maker):
    ingest(maker.paths)
    digest = maker.plan("other", seeds=5)
    ingest(maker.paths)
    maker.paths.plan(digest).unlink()
    assert "was removed" in ingest(maker.paths).notes[0]
    assert rows(maker, "SELECT DISTINCT plan FROM leaderboard") == [("demo",)]
    assert rows(maker, "SELECT count(*) FROM trials") == [(6,)]


def test_numbers_that_are_none_are_null(maker):
    key = next(iter(maker.stages))
    maker.finish(key, loss=None, flag="diverged", top5=None)
    ingest(maker.paths)
    assert rows(maker, "SELECT loss, top5, flag FROM stages WHERE done") == [
        (None, None, "diverged")
    ]


def test_times_are_utc(maker):
    ingest(maker.paths)
    maker.plan("iso", created="2025-10-09T10:53:20+02:00")
    ingest(maker.paths)
    found = rows(maker, "SELECT DISTINCT epoch(created) FROM plans")
    assert found == [(START,)]


def test_plans_runs_and_the_scheduler_are_followed(maker):
    ingest(maker.paths)
    maker.scheduler(StageFailed(key="k", reason="oom", message="out of memory"))
    maker.run("r2", started=START + 5)
    ingest(maker.paths, [])
    found = rows(maker, "SELECT type, stage, data->>'reason' FROM events ORDER BY seq")
    assert found == [("run_started", None, None), ("stage_failed", "k", "oom")]
    assert rows(maker, "SELECT run, git_commit FROM runs ORDER BY 1") == [
        ("r1", "abc"),
        ("r2", "abc"),
    ]


# The version of a plan


def test_only_the_version_last_used_counts(maker):
    """A plan that lost a seed, then run as it was before."""
    old = maker.plan("p", seeds=3, version="1", created=START + 10)
    new = maker.plan("p", seeds=2, version="2", created=START + 20)
    ingest(maker.paths)
    sql = "SELECT digest FROM current_plans WHERE plan = 'p'"
    planned = "SELECT DISTINCT planned FROM leaderboard WHERE plan = 'p'"
    assert (rows(maker, sql), rows(maker, planned)) == ([(new,)], [(2,)])
    maker.run("again", digests=(old,), started=START + 30)
    ingest(maker.paths)
    assert (rows(maker, sql), rows(maker, planned)) == ([(old,)], [(3,)])


def test_a_trial_has_the_labels_of_the_newest_plan_that_has_it(maker):
    def add(version, label, created):
        digest = maker.plan("q", version=version, created=created)
        path = maker.paths.plan(digest)
        content = read_json(path)
        for trial in content["trials"]:
            trial["retrain"] = label
        write_json(path, content)

    add("2", "new", START + 20)
    ingest(maker.paths)
    add("1", "old", START + 10)
    ingest(maker.paths)
    before = tables(maker.paths)
    assert rows(maker, "SELECT DISTINCT retrain FROM trials") == [("new",)]
    rebuild(maker.paths)
    assert tables(maker.paths) == before


def test_a_trial_has_its_labels_by_the_plans_that_have_it_alone(maker):
    """One that is imported may be older than the newest plan, and newer than all that have a trial."""
    made = ("2", "fine-tune", 10), ("3", "lr-rewind", 30), ("4", "fine-tune", 20)
    for version, strategy, created in made:
        digest = maker.plan("q", version=version, strategies=(strategy,), created=START + created)
        path = maker.paths.plan(digest)
        content = read_json(path)
        for trial in content["trials"]:
            trial["retrain"] = version
        write_json(path, content)
        ingest(maker.paths)
    found = rows(maker, "SELECT DISTINCT strategy, retrain FROM trials ORDER BY ALL")
    assert found == [("fine-tune", "4"), ("lr-rewind", "3")]
    before = tables(maker.paths)
    rebuild(maker.paths)
    assert tables(maker.paths) == before


# What holds or breaks the file


def test_a_held_file_is_reported_and_caught_up_with(maker):
    ingest(maker.paths)
    maker.finish_all()
    with duckdb.connect(str(maker.paths.database), read_only=True):
        report = ingest(maker.paths, patience=0.05)
        assert report.busy
        with pytest.raises(StoreBusy):
            rebuild(maker.paths, patience=0.05)
    assert not ingest(maker.paths).busy
    assert rows(maker, "SELECT count(*) FROM stages WHERE done") == [(len(maker.stages),)]


def _hold(path, ready, done):
    with duckdb.connect(str(path)):
        ready.set()
        done.wait(20)


def test_another_process_that_holds_it_is_named(maker):
    ingest(maker.paths)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(maker.paths.database, ready, done))
    holder.start()
    try:
        assert ready.wait(20)
        assert ingest(maker.paths, patience=0.05).busy
        with pytest.raises(StoreBusy, match=rf"PID {holder.pid}"):
            query.run(maker.paths, "SELECT 1", patience=0.05)
        with pytest.raises(StoreBusy, match=rf"PID {holder.pid}"):
            Replica(maker.paths, patience=0.05)
    finally:
        done.set()
        holder.join()
    assert query.run(maker.paths, "SELECT 1").rows == [(1,)]


def damage_everything(path):
    path.write_bytes(b"no database" * 1000)


def damage_a_block(path):
    data = bytearray(path.read_bytes())
    data[12288 + 500] ^= 0xFF
    data[4096 + 20] ^= 0xFF
    data[8192 + 20] ^= 0xFF
    path.write_bytes(bytes(data))


def damage_the_log(path):
    log = path.with_name(path.name + ".wal")
    with duckdb.connect(str(path)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute(
            "INSERT INTO events SELECT 'x', i, 1, NULL, 'x', 'x', NULL FROM range(1000) t(i)"
        )
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0xFF
    log.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [damage_everything, damage_a_block, damage_the_log])
def test_a_damaged_file_is_not_copied(maker, damage):
    maker.finish_all()
    ingest(maker.paths)
    damage(maker.paths.database)
    with pytest.raises(database.Damaged, match="is damaged"):
        Replica(maker.paths)


@pytest.mark.parametrize("damage", [damage_everything, damage_a_block, damage_the_log])
@pytest.mark.parametrize("reader", [True, False])
def test_a_damaged_file_is_set_aside_and_made_anew(maker, damage, reader):
    maker.finish_all()
    ingest(maker.paths)
    before = tables(maker.paths)
    damage(maker.paths.database)
    if not reader:
        report = ingest(maker.paths)
        assert any("set aside as results.duckdb.damaged-" in note for note in report.notes)
    assert tables(maker.paths) == before
    assert list(maker.paths.root.glob("results.duckdb.damaged-*"))


def test_a_file_by_a_newer_duckdb_is_set_aside_and_made_anew(maker, monkeypatch):
    maker.finish_all()
    ingest(maker.paths)
    before, connect = tables(maker.paths), duckdb.connect
    text = (
        "IO Error: Trying to read a database file with storage version number 99, but we can only read "
        "storage versions between 64 and 69."
    )
    newer = maker.paths.database.stat().st_ino

    def refuse(path, *arguments, **options):
        if os.path.exists(path) and os.stat(path).st_ino == newer:
            raise duckdb.IOException(text)
        return connect(path, *arguments, **options)

    monkeypatch.setattr(database.duckdb, "connect", refuse)
    report = ingest(maker.paths)
    assert re.search(
        r"newer DuckDB .storage version 99; .*up to 69.; set aside as", report.notes[0]
    )
    [aside] = maker.paths.root.glob("results.duckdb.damaged-*")
    assert aside.stat().st_ino == newer
    assert tables(maker.paths) == before


def test_killed_at_any_write_it_goes_on(maker, monkeypatch):
    """Stopped before each statement in turn; what was committed is kept, what was not is read again."""
    ingest(maker.paths)
    maker.finish_all()
    original = database.upsert
    for allowed in range(7):
        left = allowed

        def upsert(*arguments, **options):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return original(*arguments, **options)

        monkeypatch.setattr(database, "upsert", upsert)
        with pytest.raises(KeyboardInterrupt):
            ingest(maker.paths)
    monkeypatch.setattr(database, "upsert", original)
    ingest(maker.paths)
    before = tables(maker.paths)
    rebuild(maker.paths)
    assert tables(maker.paths) == before


INGEST_FOR_EVER = """
import sys
from pathlib import Path
from prunectl.store.db.ingest import ingest
from prunectl.store.paths import StorePaths
print("ready", flush=True)
while True:
    ingest(StorePaths(Path(sys.argv[1])))
"""


def test_kill_9_at_any_moment_loses_nothing(maker):
    """A process that ingests without pause is killed again and again while logs grow."""
    for round_, key in enumerate(list(maker.stages)[:5]):
        victim = subprocess.Popen(
            [sys.executable, "-c", INGEST_FOR_EVER, str(maker.paths.root)], stdout=subprocess.PIPE
        )
        assert victim.stdout.readline() == b"ready\n"
        maker.log(key, range(1, 3))
        time.sleep(0.11 * round_)
        maker.finish(key)
        time.sleep(0.03)
        victim.kill()
        victim.communicate()
    assert ingest(maker.paths).notes == []
    before = tables(maker.paths)
    assert json.loads(before["epochs"])
    rebuild(maker.paths)
    assert tables(maker.paths) == before


def test_a_rebuild_that_fails_leaves_the_old_file(maker, monkeypatch):
    maker.finish_all()
    ingest(maker.paths)
    before = tables(maker.paths)

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loader.Loader, "load_stages", fail)
        with pytest.raises(KeyboardInterrupt):
            rebuild(maker.paths)
    assert tables(maker.paths) == before
    assert [name for name in os.listdir(maker.paths.root) if name.startswith(".")] == []

"""The database during a run: questions from other processes all get answers, workers never open it, and a shell
that is left open on it delays what SQL shows at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from prunectl.errors import StoreBusy, StoreError
from prunectl.monitor.watcher import Watcher
from prunectl.store.db import query
from prunectl.store.paths import StorePaths
from tests.cli.conftest import TINY, prunectl
from tests.support.records import read_json

pytestmark = pytest.mark.slow

QUESTION = "SELECT count(*), max(accuracy) FROM iterations"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of the tiny plan, made some seconds longer, in `tmp_path`/store, just begun."""
    (tmp_path / "tiny.toml").write_text(TINY.replace('"4ep"', '"30ep"').replace('"3ep"', '"20ep"'))
    process = subprocess.Popen(
        [sys.executable, "-m", "prunectl.cli", "run", "tiny.toml", "--slots", "1", "--plain"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    database = StorePaths(tmp_path / "store").database
    deadline = time.monotonic() + 60
    while not database.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def workers(parent: int) -> list[int]:
    """Processes of the run that train."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
                status = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if b"prunectl.worker" in command and int(status[1]) == parent:
                found.append(int(folder.name))
    return found


def test_questions_are_answered_and_workers_never_open_the_database(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    paths = StorePaths(tmp_path / "store")
    asked = opened = 0
    shells = [
        [sys.executable, "-m", "prunectl.cli", "sql", QUESTION, "--format", "csv"] for _ in range(3)
    ]
    calls: list[subprocess.Popen[str]] = []
    while running.poll() is None and asked < 200:
        rows = query.run(paths, QUESTION).rows
        assert len(rows) == 1
        asked += 1
        if asked % 5 == 0 and shells:
            calls.append(
                subprocess.Popen(
                    shells.pop(),
                    cwd=tmp_path,
                    env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for pid in workers(running.pid):
            try:
                descriptors = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
                libraries = Path(f"/proc/{pid}/maps").read_text()
            except OSError:
                continue
            opened += 1
            assert not any("results.duckdb" in name for name in descriptors)
            assert "duckdb" not in libraries
        time.sleep(0.05)
    assert not shells, "the run ended before all were asked"
    assert opened > 0
    for call in calls:
        out, err = call.communicate(timeout=60)
        assert call.returncode == 0, err
        assert out.startswith("count_star()")
    _, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert query.run(paths, "SELECT count(*) FROM stages WHERE done").rows == [(10,)]


def test_a_shell_left_open_sees_what_it_saw_and_keeps_nobody_waiting(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    paths = StorePaths(tmp_path / "store")
    with held(paths, read_only=True) as shell:
        before = shell.execute("SELECT count(*) FROM epochs").fetchall()
        _, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
        assert "held" not in err
        assert shell.execute("SELECT count(*) FROM epochs").fetchall() == before
        asked = ("sql", "SELECT count(*) FROM stages WHERE done", "--format", "csv")
        assert prunectl(*asked, cwd=tmp_path).stdout.split() == ["count_star()", "10"]
    assert_all_of_it(paths)


def test_a_shell_that_may_write_only_delays_what_sql_shows(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    paths = StorePaths(tmp_path / "store")
    with held(paths, read_only=False):
        watcher, said = Watcher(paths), ""
        while running.poll() is None and "held" not in said:
            said = watcher.snapshot().scheduler.trouble or ""
            time.sleep(0.05)
        assert "results.duckdb is held by another program" in said
        assert "trouble: results.duckdb is held" in prunectl("status", cwd=tmp_path).stdout
        _, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
        assert "results.duckdb is held by another program" in err
        with pytest.raises(StoreBusy, match="is held"):
            query.run(paths, QUESTION, patience=0.5)
    assert_all_of_it(paths)


def assert_all_of_it(paths: StorePaths) -> None:
    """That SQL shows what all ten stages came to."""
    results = {path.parent.name: read_json(path) for path in paths.stages.glob("*/result.json")}
    assert len(results) == 10
    shown = prunectl(
        *("sql", "SELECT stage, accuracy FROM stages", "--format", "json"), cwd=paths.root.parent
    )
    assert {row["stage"]: row["accuracy"] for row in json.loads(shown.stdout)} == {
        key: result["metrics"]["accuracy"] for key, result in results.items()
    }
    epochs = query.run(paths, "SELECT stage, count(*) FROM epochs GROUP BY stage").rows
    assert dict(epochs) == {key: result["epochs"] for key, result in results.items()}


def held(paths: StorePaths, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A connection as a shell has it."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return duckdb.connect(str(paths.database), read_only=read_only)
        except duckdb.Error:
            if time.monotonic() > deadline:
                raise StoreError("never free") from None
            time.sleep(0.005)

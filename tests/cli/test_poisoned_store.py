"""A record that cannot be read, of any kind and damaged in any way, is left out and named, and stops nothing else."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from prunectl.errors import StoreError
from prunectl.store import files
from prunectl.store.db import query
from prunectl.store.db.column_docs import docs
from prunectl.store.db.ingest import ingest
from prunectl.store.import_study import Import
from prunectl.store.paths import StorePaths
from prunectl.store.records.heartbeat import HeartbeatRecord, read_heartbeat
from tests.cli.conftest import TINY, Done, prunectl
from tests.full import full
from tests.support.bundles import make_writable, reseal
from tests.support.poison import Poisoner, is_bad, variants
from tests.support.records import resealed

Here = Callable[..., Done]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny plan with one seed, done, and a copy of its store with thousands of damaged records beside its own."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.toml").write_text(TINY.replace("seeds = [0, 1]", "seeds = [3]"))
    done = prunectl("run", "tiny.toml", "--store", "whole", "--plain", cwd=folder)
    assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "whole", folder / "poisoned")
    Poisoner(StorePaths(folder / "poisoned")).all()
    return folder


@pytest.fixture
def answers(here: Here, made: Path) -> Callable[..., str]:
    """Runs a command on the poisoned store, which must succeed. Returns its stdout."""

    def run(*words: str | Path, code: int = 0) -> str:
        done = here(*words, "--store", made / "poisoned")
        assert done.returncode == code, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("rank", "tiny"),
        ("rank", "tiny", "--summary"),
        ("rank", "tiny", "--format", "csv"),
        ("sql", "SELECT * FROM iterations WHERE plan = 'tiny' ORDER BY ALL", "--format", "json"),
        ("show", "--trial", "TRIAL"),
        ("compare", "tiny"),
    ],
)  # fmt: skip
def test_what_is_asked_of_another_plan_is_answered_as_before(
    here: Here, made: Path, answers: Callable[..., str], words: tuple[str, ...]
) -> None:
    sql = "SELECT trial FROM trials WHERE plan = 'tiny' ORDER BY trial LIMIT 1"
    [[trial]] = query.run(StorePaths(made / "whole"), sql).rows
    asked = [word.replace("TRIAL", trial) for word in words]
    before = here(*asked, "--store", made / "whole")
    assert (before.returncode, before.stderr) == (0, ""), before.stderr
    assert answers(*asked).replace("poisoned", "whole") == before.stdout


def test_every_table_and_view_is_read(made: Path, answers: Callable[..., str]) -> None:
    answers("store", "rebuild")
    for name in [*docs().tables, *docs().views]:
        query.run(StorePaths(made / "poisoned"), f"SELECT * FROM {name}")
    answers("rank", "--all")
    answers("rank")


def test_status_names_each_bad_record_once(made: Path, answers: Callable[..., str]) -> None:
    bad = Poisoner(StorePaths(made / "poisoned")).bad()
    assert len(bad) > (2000 if full() else 300)
    shown = answers("status")
    named = Counter(re.findall(r"^left out: (\S+)", shown, re.MULTILINE))
    assert set(named) == bad
    assert set(named.values()) == {1}
    assert json.loads(answers("status", "--json"))["unreadable"]
    assert answers("status") == shown


def test_verify_names_each_bad_record(made: Path, answers: Callable[..., str]) -> None:
    shown = answers("store", "verify", code=3)
    for name in Poisoner(StorePaths(made / "poisoned")).bad():
        folder, *rest = name.split("/")
        what = f"stage {rest[0][:12]}: {rest[1]}" if folder == "stages" else name
        assert what in shown


def test_other_plans_are_run(made: Path, here: Here, answers: Callable[..., str]) -> None:
    done = here("run", made / "tiny.toml", "--plain", "--store", made / "poisoned")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "tiny: all 2 trials are done" in done.stderr
    other = made / "other.toml"
    other.write_text(TINY.replace('"tiny"', '"other"').replace("[0, 1]", "[4]"))
    done = prunectl("run", other, "--plain", "--store", made / "poisoned")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert "2 done" in answers("status")
    answers("hold", "plan=other")
    answers("release", "plan=other")
    answers("store", "gc", "--dry-run")
    answers("export", "--study", "tiny", "--out", made / "parcel")


def test_what_is_mended_or_removed_is_no_longer_named(
    made: Path, here: Here, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(made / "whole", store)
    paths = StorePaths(store)
    files = [
        next(paths.stages.glob("*/result.json")), next(paths.stages.glob("*/spec.json")),
        next(paths.stages.glob("*/events.jsonl")), next(paths.runs.glob("*.json")), paths.heartbeat,
        next(paths.plans.glob("*.json")), paths.scheduler_log,
    ]  # fmt: skip
    whole = {path: path.read_bytes() for path in files}
    request = paths.requests / "now.json"
    request.parent.mkdir(exist_ok=True)
    dataset = paths.datasets / "digits.json"
    dataset.parent.mkdir(exist_ok=True)
    for path in (*files, request, dataset):
        path.write_bytes(b"[1]\n")
    paths.database.unlink()  # what a stage is it reads once
    shown = here("status", "--store", store).stdout
    for path in (*files, request, dataset):
        assert shown.count(f"left out: {path.relative_to(store)} ") == 1, shown
    request.unlink()
    dataset.unlink()
    for path, content in whole.items():
        path.write_bytes(content)
    # The scheduler's log only grows: that it is another one is said until the database is made anew.
    [line] = re.findall("left out: .*", here("status", "--store", store).stdout)
    assert "scheduler.jsonl is not the log that was read before" in line
    assert here("store", "rebuild", "--store", store).returncode == 0
    assert "left out" not in here("status", "--store", store).stdout
    assert "no problems" in here("store", "verify", "--store", store).stderr


def test_no_heartbeat_stops_a_reader(made: Path, here: Here, tmp_path: Path) -> None:
    paths = StorePaths(tmp_path)
    paths.control.mkdir()
    whole = json.loads((made / "whole" / "control" / "heartbeat.json").read_text())
    del whole["sum"]  # each variant gets its own
    number = 0
    for text in variants(whole):
        number += 1
        paths.heartbeat.write_text(resealed(text))
        refused: list[str] = []
        assert isinstance(read_heartbeat(paths, refused.append), HeartbeatRecord)
        assert bool(refused) == is_bad(text, HeartbeatRecord)
    assert number > (500 if full() else 100)


def test_a_study_with_a_bad_record_is_not_imported(made: Path, here: Here, tmp_path: Path) -> None:
    """Types and ranges are checked before the first file is taken, also where the checksums fit."""
    folder = tmp_path / "parcel"
    done = here("export", "--study", "tiny", "--out", folder, "--store", made / "whole")
    assert done.returncode == 0, done.stderr
    make_writable(folder)
    other = StorePaths(tmp_path / "other")
    tried = Counter[str]()
    for pattern in (
        "plans/*",
        "runs/*",
        "labels/*",
        "stages/*/spec.json",
        "stages/*/result.json",
        "stages/*/events.jsonl",
    ):
        path = sorted(folder.glob(pattern))[-1]
        whole = path.read_text()
        first, *rest = whole.splitlines(keepends=True)
        for text in list(variants(json.loads(first)))[:: 1 if full() else 20]:
            path.write_text(text + "\n" + "".join(rest))
            if not Poisoner(StorePaths(folder)).is_bad(path):
                continue
            reseal(folder)
            with pytest.raises(StoreError, match="nothing was taken") as caught:
                Import(folder, other).run()
            assert str(path.parent if pattern.startswith("stages") else path) in str(caught.value)
            assert not other.root.exists()
            tried[pattern] += 1
        path.write_text(whole)
    assert len(tried) == 6, tried
    reseal(folder)
    assert Import(folder, other).run().stages == 5


def test_a_folder_in_the_place_of_a_record_stops_nothing(
    made: Path, here: Here, tmp_path: Path
) -> None:
    """Nor does any file that the system refuses to read; each is tried again until it can be read."""
    store, other = tmp_path / "store", made / "whole"
    shutil.copytree(other, store)
    paths = StorePaths(store)
    stages = sorted(path for path in paths.stages.iterdir() if path.is_dir())
    parts = [
        folder / name
        for folder, name in zip(stages, ("events.jsonl", "result.json", "spec.json"), strict=False)
    ]
    rooms = (paths.plans, paths.runs, paths.datasets, paths.requests)
    further = [room / "0123456789abcdef.json" for room in rooms]
    for path in parts:
        path.unlink()
    for path in (*parts, *further):
        path.mkdir(parents=True)
    assert here("store", "rebuild", "--store", store).returncode == 0
    shown = here("rank", "tiny", "--store", store)
    assert (shown.returncode, shown.stderr) == (0, "")
    named = re.findall(r"^left out: (.*)", here("status", "--store", store).stdout, re.MULTILINE)
    assert len(named) == 7, named
    assert here("store", "verify", "--store", store).returncode == 3
    assert here("show", made / "tiny.toml", "--store", store).returncode == 0
    for path in (*parts, *further):
        path.rmdir()
    for path in parts:
        shutil.copy2(other / path.relative_to(store), path)
    assert "left out" not in here("status", "--store", store).stdout
    ours, theirs = (here("rank", "tiny", "--store", where).stdout for where in (store, other))
    assert ours == theirs


def test_what_must_not_be_read_is_read_once_it_may(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose permissions change has the same time and size as before."""
    store = tmp_path / "store"
    shutil.copytree(made / "whole", store)
    paths = StorePaths(store)
    paths.database.unlink()
    refused = {
        next(paths.stages.glob("*/result.json")), next(paths.stages.glob("*/events.jsonl")),
        next(paths.runs.glob("*.json")), next(paths.plans.glob("*.json")),
    }  # fmt: skip
    read = files.disk.read

    def refusing(path: Path, offset: int = 0) -> bytes:
        if path in refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path, offset)

    with monkeypatch.context() as patch:
        patch.setattr(files.disk, "read", refusing)
        first, second = ingest(paths), ingest(paths)
    assert len(first.left_out) == 4
    assert (second.left_out, second.notes) == ([], []), "each is named once"
    assert set(query.left_out(paths)) == {path.relative_to(store).as_posix() for path in refused}
    assert ingest(paths).left_out == []
    assert query.left_out(paths) == {}
    sql = "SELECT * FROM iterations ORDER BY ALL"
    assert query.run(paths, sql).rows == query.run(StorePaths(made / "whole"), sql).rows

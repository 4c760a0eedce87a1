"""A folder of pictures of one's own by command: what is wrong is said before anything is queued, the rest is learnt."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from prunectl.cli.support.data_check import check_again
from prunectl.ml.datasets.registry import ensure
from prunectl.plan.expand import expand
from prunectl.plan.load import load
from prunectl.spec.key import NUMERICS, Spec, stage_key
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import write_plans
from prunectl.store.records.scheduler_log import StageFailed, read_scheduler_log
from tests.cli.conftest import Done
from tests.support.encodings import ENCODINGS, POSTSCRIPT, Pixels
from tests.support.image_maker import write_sides
from tests.support.records import write_json

Here = Callable[..., Done]

PLAN = """
name = "mine"
seeds = [0]
[grid]
network = ["convnet"]
dataset = ["mine"]
strategy = ["fine-tune"]
[datasets.mine]
kind = "folder"
path = "pictures"
size = 24
[recipe]
base = "quickstart"
batch = 20
length = "3ep"
schedule = { kind = "constant", lr = 0.05 }
retrain = { fine-tune = "1ep" }
[pruning]
schedule = { kind = "one-shot", sparsities = [0.5] }
"""


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures that are bright left or right, 40 to train on and 20 to test of each, beside their plan."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(PLAN)
    return write_sides(tmp_path / "pictures")


def run(here: Here, *more: str) -> Done:
    return here("run", "mine.toml", "--store", "s", "--plain", "--devices", "cpu", *more)


def to_run(here: Here) -> str:
    done = here("show", "mine.toml", "--store", "s")
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("to run"))


def scores(here: Here) -> list[float]:
    text = "SELECT accuracy FROM iterations ORDER BY iteration"
    done = here("sql", text, "--store", "s", "--format", "csv")
    return [float(line) for line in done.stdout.split()[1:]]


def test_bad_pictures_are_named_at_once_and_a_mended_folder_leaves_no_trace(
    here: Here, pictures: Path
) -> None:
    for name in ("a", "b"):
        (pictures / f"train/left/{name}.png").write_bytes(b"")
    (pictures / "test/right/._c.png").write_bytes(os.urandom(200))
    done = run(here)
    assert done.returncode == 2
    assert (
        "2 problems\n  train/left/a.png: the file is empty\n  train/left/b.png: the" in done.stderr
    )
    assert "1 skipped by rule (hidden, Thumbs.db" in done.stderr
    assert not Path("s").exists()

    for name in ("a", "b"):
        (pictures / f"train/left/{name}.png").unlink()
    done = run(here)
    assert done.returncode == 0, done.stderr
    assert f"note: {Path('pictures')}: 1 skipped by rule" in done.stderr
    assert "failed" not in here("status", "--store", "s").stdout
    assert scores(here) == [100, 100]

    # Hidden folders are no classes, and the names of classes are part of what was trained on.
    for split in ("train", "test"):
        (pictures / split / ".ipynb_checkpoints").mkdir()
    assert to_run(here).startswith("to run      0 stages")
    for split in ("train", "test"):
        (pictures / split / "left").rename(pictures / split / "sinister")
    assert to_run(here).startswith("to run      2 stages")


def test_pictures_that_are_left_out_are_named_before_anything_runs(
    here: Here, pictures: Path
) -> None:
    for file in (pictures / "train/left").iterdir():
        file.rename(file.with_suffix(".gif"))
    (pictures / "train/right/day2").mkdir()
    for number in range(20, 30):
        name = f"{number:03}.png"
        (pictures / "train/right" / name).rename(pictures / "train/right/day2" / name)
    for done in (here("show", "mine.toml", "--store", "s"), run(here)):
        assert done.returncode == 2
        assert (
            "mine.toml:8: datasets.mine: pictures: 1 problem\n"
            "  class left has no pictures in train (40 files with the suffix .gif are not read)\n"
            "  10 pictures lie deeper than CLASS/: not read, as train/right/day2/020.png\n"
        ) in done.stderr
    assert not Path("s").exists()


def test_show_says_what_a_folder_holds_and_what_is_left_out(here: Here, pictures: Path) -> None:
    shutil.copytree(pictures / "test", pictures / "val")
    (pictures / "test/left/Thumbs.db").write_bytes(b"")
    done = here("show", "mine.toml", "--store", "s")
    assert (
        "images      mine: 2 classes, 80 to train on, 40 to test\n"
        "            note: trained on train/, tested on test/; not read: val/\n"
        "            note: 1 skipped by rule (hidden, Thumbs.db, __MACOSX and the like), as test/left/Thumbs.db\n"
    ) in done.stdout


def test_a_file_of_data_starts_no_program(
    here: Here, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bin").mkdir()
    Path("bin/gs").write_text(f"#!/bin/sh\ntouch {Path.cwd()}/ran\nexit 1\n")
    Path("bin/gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(Path("bin").absolute()), prepend=os.pathsep)
    (pictures / "train/left/1.png").write_bytes(POSTSCRIPT)
    done = run(here)
    assert done.returncode == 2
    assert "train/left/1.png: no picture, or of a kind that is not read" in done.stderr
    assert not Path("ran").exists()


def sixteen_bits(path: Path, pixels: Pixels) -> None:
    path.write_bytes(ENCODINGS["png-grey-16"].encode(pixels))


def turned(path: Path, pixels: Pixels) -> None:
    name = "jpeg-turned-6" if "/test/" in str(path) else "jpeg"
    path.with_suffix(".jpg").write_bytes(ENCODINGS[name].encode(pixels))


@pytest.mark.parametrize("write", [sixteen_bits, turned])
def test_pictures_are_learnt_as_they_are_seen(
    here: Here, pictures: Path, write: Callable[[Path, Pixels], None]
) -> None:
    for file in sorted(pictures.rglob("*.png")):
        pixels = np.array(Image.open(file))
        file.unlink()
        write(file, pixels)
    done = run(here)
    assert done.returncode == 0, done.stderr
    assert scores(here) == [100, 100]


def test_what_is_certain_to_fail_is_tried_once(here: Here, pictures: Path) -> None:
    # Images are not held, so that no more than headers is looked at before.
    file = pictures / "train/left/000.png"
    file.write_bytes(file.read_bytes()[:-200])
    done = run(here, "--set", 'datasets.mine.held="never"')
    assert done.returncode == 1
    assert "train/left/000.png: image file is truncated" in done.stderr
    log = read_scheduler_log(StorePaths(Path("s")).scheduler_log).records
    (failed,) = (record for record in log if isinstance(record, StageFailed))
    assert (failed.reason, failed.attempt, failed.final) == ("data", 1, True)


def test_an_older_store_is_told_of_before_it_is_trained_anew(here: Here, pictures: Path) -> None:
    paths = StorePaths(Path("s"))
    study = expand(load(Path("mine.toml")), None).study()
    renamed = {}
    for key, planned in study.stages.items():
        stage = planned.spec.stage
        older = replace(stage, data=replace(stage.data, fingerprint=f"sha256-{'0' * 32}"))
        spec = Spec(NUMERICS, older)
        renamed[key] = (stage_key(older), replace(planned, spec=spec))
    trials = tuple(
        replace(trial, path=tuple(renamed[key][0] for key in trial.path)) for trial in study.trials
    )
    write_plans(paths, [replace(study, stages=dict(renamed.values()), trials=trials)])
    for key, _ in renamed.values():
        result = paths.stage(key).result
        write_json(result, {"key": paths.stage(key).key})
    note = "s has 2 finished stages on folders of images whose keys cover less"
    done = here("show", "mine.toml", "--store", "s")
    assert note in done.stderr
    assert "to run      2 stages" in done.stdout
    done = run(here)
    assert done.returncode == 0, done.stderr
    assert done.stderr.index(note) < done.stderr.index("2 of 2 stages to run")
    assert note not in here("show", "mine.toml", "--store", "s").stderr


def test_data_under_an_older_key_is_no_mismatch(pictures: Path) -> None:
    (now,) = expand(load(Path("mine.toml")), None).places
    older = replace(now, fingerprint=f"sha256-{'0' * 32}")
    ensure("folder", Path("data"), {"path": str(pictures)}, now.fingerprint)
    found = check_again(StorePaths(Path("s")), {now, older}, Path("data"))
    assert found.problems == []
    assert found.notes == [f"folder: {older.fingerprint} is a fingerprint of an older kind"]
    assert found.same == [f"folder ({now.fingerprint})"]


def test_a_study_of_them_is_replicated_wherever_they_lie(
    pictures: Path, here: Here, tmp_path: Path
) -> None:
    assert run(here).returncode == 0
    assert here("export", "--study", "mine", "--out", "b", "--store", "s").returncode == 0
    command = ("replicate", "b", "--all", "--devices", "cpu")
    elsewhere = ("--data", str(tmp_path / "other-machine"))
    unknown = here(*command, *elsewhere)
    assert unknown.returncode == 2
    assert "where they lie is not known: --images FOLDER names their place" in unknown.stderr
    shutil.copytree(pictures, "others")
    next(Path("others/train").rglob("*.png")).unlink()
    other = here(*command, *elsewhere, "--images", "others")
    assert other.returncode == 2
    assert "others has content-" in other.stderr
    pictures.rename("moved")
    done = here(*command, *elsewhere, "--images", "others", "--images", "moved")
    assert done.returncode == 0, done.stderr
    assert "2 bit-identical" in done.stdout

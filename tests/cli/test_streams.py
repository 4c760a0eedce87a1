"""Whatever stdout and stderr show and whoever still reads them, a command works to its end and says how it went."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import prunectl
from tests.support.command import ROOT
from tests.support.tiny_plans import tiny_plan

PLAN = tiny_plan(
    question="Über « λ » – which is best?", seeds=[0], epochs=1, milestones=(0, 0), rewound=1
).replace(
    '{ kind = "step", lr = 0.05, milestones = ["0ep", "0ep"] }', '{ kind = "constant", lr = 0.05 }'
)

ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
MARKS = "λ … ✓"
SHOWN = {"ascii": "ascii", "latin-1": "latin-1", "C": "ascii"}
"""What each can show."""

COMMANDS: Sequence[Sequence[str]] = (
    ("run", "tiny.toml", "--plain"),
    ("show", "tiny.toml"),
    ("status",),
    ("status", "--json"),
    ("rank",),
    ("rank", "--summary"),
    ("rank", "--format", "md"),
    ("sql", f"SELECT '{MARKS}' AS \"Größe\""),
    ("sql", f"SELECT '{MARKS}' AS \"Größe\"", "--format", "csv"),
    ("sql", "SELECT nö"),
    ("sql", "--schema"),
    ("compare",),
    ("compare", "--to", "nö"),
    ("plot", "--out", "plot.svg"),
    ("doctor", "--devices", "cpu"),
    ("store", "verify"),
    ("retry", "strategy=fine-tune"),
    ("retry", "nö"),
    ("show", "nö.toml"),
)
RUN = ("run", "tiny.toml", "--plain", "--devices", "cpu", "--set", 'grid.strategy=["dense"]')
"""One stage."""
IN_TURN = """\
import json, sys
from prunectl.cli.app import main
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["prunectl", *words]
    try:
        main()
    except SystemExit as end:
        codes.append(int(end.code or 0))
open("codes.json", "w").write(json.dumps(codes))
"""
"""Runs commands one after the other in one process: each alone would take a second to begin."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan, and its study done in `store`."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "tiny.toml").write_text(PLAN, encoding="utf-8")
    done = prunectl("run", "tiny.toml", "--plain", "--devices", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def codes_and_output(folder: Path, environment: Mapping[str, str]) -> tuple[list[int], bytes]:
    """Run all commands."""
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN, json.dumps(COMMANDS)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    codes: list[int] = json.loads((folder / "codes.json").read_text())
    return codes, done.stdout


@pytest.fixture(scope="module")
def usual(world: Path) -> list[int]:
    """The exit codes of the commands, and that what they are to say is in UTF-8."""
    codes, output = codes_and_output(world, {"PYTHONIOENCODING": "utf-8"})
    text = output.decode()
    assert MARKS in text
    assert "★" in text
    assert "Größe" in text
    return codes


@pytest.mark.parametrize("name", ENCODINGS)
def test_what_the_encoding_cannot_show_is_replaced(
    world: Path, usual: list[int], name: str
) -> None:
    codes, output = codes_and_output(world, ENCODINGS[name])
    assert len(codes) == len(COMMANDS)
    assert codes == usual
    shown = output.decode(SHOWN[name])  # nothing else is written
    assert "? ? ?" in shown
    assert ("Größe" if name == "latin-1" else "Gr??e") in shown
    assert "Traceback" not in shown
    assert "PYTHONIOENCODING" not in shown


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(timeout=120)


def started(*arguments: str, cwd: Path, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "prunectl.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **streams,
    )


def trials(folder: Path, store: str) -> set[str]:
    """The states of the store's trials."""
    done = prunectl("status", "--json", "--store", store, cwd=folder)
    return {trial["state"] for trial in json.loads(done.stdout)["trials"]}


def test_a_run_goes_on_when_its_reader_has_gone(world: Path) -> None:
    reader, writer = os.pipe()
    process = started(*RUN, "--store", "gone", cwd=world, stdout=writer, stderr=writer)
    os.close(writer)
    assert b"stages to run" in os.read(reader, 10_000)
    os.close(reader)
    assert ended(process) == 0
    assert trials(world, "gone") == {"done"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("sql", "SELECT * FROM range(200000)", "--format", "csv"), 0),
        (("run", "tiny.toml", "--plain"), 0),
        (("sql", "SELECT nope"), 3),
        (("run", "nope.toml"), 2),
        (("show", "tiny.toml", "--nope"), 2),
        (("rank", "--store", "nowhere"), 3),
    ],
)
def test_the_exit_code_is_the_same_without_a_reader(
    world: Path, words: tuple[str, ...], code: int
) -> None:
    reader, writer = os.pipe()
    process = started(*words, cwd=world, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.close(reader)
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read().decode()
    assert ended(process) == code
    assert "Broken" not in said
    assert "Traceback" not in said
    reader, writer = os.pipe()
    process = started(*words, cwd=world, stdout=writer, stderr=writer)
    os.close(reader)
    os.close(writer)
    assert ended(process) == code


def test_closed_streams_are_no_streams(world: Path) -> None:
    """Nor does a file that is opened later take their place."""
    command = shlex.join([sys.executable, "-m", "prunectl.cli", *RUN, "--store", "none"])
    done = subprocess.run(
        ["sh", "-c", f"exec {command} <&- >&- 2>&-"],
        cwd=world,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert trials(world, "none") == {"done"}
    assert "ETA" not in (world / "none" / "scheduler.jsonl").read_text()
    verified = prunectl("store", "verify", "--store", "none", cwd=world)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no full device")
def test_a_full_disk_loses_narration_quietly_and_data_with_a_message(world: Path) -> None:
    with open("/dev/full", "wb") as full:
        run = started(*RUN, "--store", "full", cwd=world, stdout=subprocess.DEVNULL, stderr=full)
        assert ended(run) == 0
        assert trials(world, "full") == {"done"}
        for form in ("table", "csv"):
            words = ("sql", "SELECT 1", "--format", form)
            process = started(*words, cwd=world, stdout=full, stderr=subprocess.PIPE)
            assert process.stderr is not None
            with process.stderr:
                said = process.stderr.read().decode()
            assert ended(process) == 3
            assert "error: cannot write to stdout: No space left on device\n" in said
            assert "Traceback" not in said

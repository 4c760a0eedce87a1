"""The program in a real terminal, beside a real run: open, drill down, filter, cancel, quit; the run finishes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")

QUICKSTART = Path(__file__).parents[2] / "plans" / "quickstart.toml"
SHORTER = ("seeds=[0, 1]", "pruning.schedule.until=0.6")
"""What makes of its 84 stages 20, so that the run takes some 20 s: time enough to look around in it."""
PATIENCE = 90.0


class Terminal:
    """A program on a terminal of 120×40, and what is on its screen."""

    def __init__(self, arguments: list[str]) -> None:
        self.screen = pyte.Screen(120, 40)
        self.stream = pyte.ByteStream(self.screen)
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        environment.pop("NO_COLOR", None)
        self.child: Any = pexpect.spawn(
            sys.executable,
            ["-m", "prunectl.cli", *arguments],
            dimensions=(40, 120),
            env=environment,
            timeout=10,
        )

    def look(self, seconds: float = 0.2) -> str:
        """What is on the screen after reading for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.stream.feed(self.child.read_nonblocking(65536, timeout=0.05))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
        return "\n".join(self.screen.display)

    def wait_for(self, *texts: str) -> str:
        """Until all of the texts are on the screen."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            shown = self.look()
            if all(text in shown for text in texts):
                return shown
        raise AssertionError(f"{texts} never came; the screen is\n{shown}")

    def press(self, keys: str) -> None:
        """Type, as a person would: not all at once."""
        for key in keys:
            self.child.send(key)
            self.look(0.15)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A store with a run of the quickstart's plan under way."""
    store = tmp_path / "store"
    command = [
        sys.executable,
        "-m",
        "prunectl.cli",
        "run",
        str(QUICKSTART),
        "--store",
        str(store),
        "--plain",
    ]
    command += ["--devices", "cpu", *(word for change in SHORTER for word in ("--set", change))]
    with (tmp_path / "run.log").open("wb") as log:
        run = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        yield store, run
        if run.poll() is None:
            run.terminate()
            run.wait(60)


@pytest.mark.slow
def test_watching_a_run_and_cancelling_a_trial_while_another_viewer_is_killed(
    running: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    store, run = running
    end = time.monotonic() + PATIENCE
    while not (store / "control" / "heartbeat.json").exists() and time.monotonic() < end:
        time.sleep(0.1)
    first, terminal, other = (
        Terminal(["watch", "--store", str(store), *more]) for more in ([], [], ["--readonly"])
    )
    first.wait_for("● scheduler", "Running")
    first.child.kill(9)
    first.child.wait()
    terminal.wait_for("● scheduler", "Running", "Coverage")
    other.wait_for("● scheduler", "Running", "read only")

    terminal.press("F")  # failures: none
    terminal.wait_for("Nothing failed")
    terminal.press("F")
    terminal.wait_for("All trials 6")
    while "All trials" not in terminal.look() or not _focused(terminal, "All trials"):
        terminal.press("\t")
    terminal.press("/lr-rewind")
    terminal.wait_for("2 of 6")
    terminal.press("\r")
    terminal.press("\r")
    terminal.wait_for("▸ trial", "Config", "lr-rewind")
    terminal.press("\x1b")
    shown = terminal.wait_for("2 of 6")
    chosen = next(line for line in shown.splitlines() if "lr-rewind" in line)
    terminal.press("c")
    terminal.wait_for("Cancel lr-rewind", "Keep")
    terminal.press("\t\r")
    terminal.wait_for("cancelled 1 trial")
    terminal.press("2")
    terminal.wait_for("METHOD", "accuracy")
    terminal.child.send("q")  # not `press`, which would read the farewell away
    terminal.child.expect("the run goes on|no scheduler is running")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0

    other.wait_for("5/6 done")
    assert run.wait(PATIENCE * 2) == 0
    other.child.send("q")
    other.child.expect("no scheduler is running")
    log = [json.loads(line) for line in (store / "scheduler.jsonl").read_text().splitlines()]
    cancelled = [
        trial for record in log if record["type"] == "cancelled" for trial in record["trials"]
    ]
    assert len(cancelled) == 1
    assert cancelled[0][:8] in shown, chosen
    ended = next(record for record in reversed(log) if record["type"] == "run_ended")
    assert ended["trials"]["done"] == 5
    assert ended["trials"]["cancelled"] == 1


def _focused(terminal: Terminal, title: str) -> bool:
    """Whether the panel has the focus: only then does its border differ in colour from a panel beside it."""
    for y, line in enumerate(terminal.screen.display):
        if title in line:
            x = line.index(title) - 2
            corner = terminal.screen.buffer[y][x].fg
            other = terminal.screen.buffer[y][line.rindex("╭")].fg
            return bool(corner != other)
    return False

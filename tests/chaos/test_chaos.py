"""The short form; the long ones are `python -m tests.full chaos`, and of writes `tests.chaos --writes
--scheduler-writes all`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def chaos(*options: str) -> str:
    """Run `python -m tests.chaos`; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


@pytest.mark.slow
def test_whatever_is_killed_whenever_the_study_ends_the_same_to_the_last_bit() -> None:
    """The scheduler, workers and all of them at random moments, and a scheduler between two writes."""
    said = chaos("--kills", "4", "--span", "1.5", "--scheduler-writes", "14")
    assert "4 kills" in said
    assert "1 deaths of schedulers" in said


@pytest.mark.slow
def test_whatever_command_is_killed_whenever_nothing_is_lost_and_it_ends_well_again() -> None:
    assert "7 kills of commands" in chaos("--commands", "rebuild=2,import=2,sql=2,export=1")


def test_a_worker_may_die_between_any_two_writes() -> None:
    assert "deaths of workers" in chaos("--writes", "--every", "6")

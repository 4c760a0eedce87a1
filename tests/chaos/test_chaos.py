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
    """The scheduler, workers and all of them at random moments, a scheduler between two writes, and commands."""
    words = ("--kills", "2", "--span", "1", "--scheduler-writes", "14")
    said = chaos(*words, "--commands", "rebuild=1,import=1,sql=1,export=1")
    assert "2 kills" in said
    assert "4 kills of commands" in said
    assert "1 deaths of schedulers" in said

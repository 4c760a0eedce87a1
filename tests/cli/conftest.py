"""The command as a user has it: a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Done, begin, here, prunectl
from tests.support.scheduler_fixtures import processes, store
from tests.support.tiny_plans import TINY

__all__ = ["TINY", "Done", "begin", "here", "plan", "processes", "prunectl", "store"]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """The tiny plan in a file."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file

"""What an older version wrote, unpacked, and the command of this one."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import here

__all__ = ["OldStore", "here", "old"]

ARCHIVE = Path(__file__).parent / "store-c6e061d.tar.xz"


@dataclass(frozen=True)
class OldStore:
    """A copy of the store of version c6e061d, and what that version answered."""

    folder: Path
    answers: dict[str, Any]

    def events(self) -> dict[str, bytes]:
        """The event log of every stage."""
        return {
            path.parent.name: path.read_bytes()
            for path in sorted(self.folder.glob("store/stages/*/events.jsonl"))
        }


@pytest.fixture
def old(tmp_path: Path) -> OldStore:
    """A fresh copy; tests/support/make_old_store.py says what is in it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return OldStore(tmp_path, json.loads((tmp_path / "answers.json").read_text()))

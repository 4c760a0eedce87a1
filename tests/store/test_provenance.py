"""What is recorded of the code that runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from prunectl.store.records.provenance import _git


def test_looking_at_a_repository_changes_nothing_in_it(tmp_path: Path) -> None:
    """`git status` writes the index anew where files were touched, behind a lock that a kill would leave there."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    file = tmp_path / "code.py"
    file.write_text("one = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    os.utime(file, (1, 1))
    index = (tmp_path / ".git/index").read_bytes()
    assert _git(tmp_path).dirty is False
    assert (tmp_path / ".git/index").read_bytes() == index
    file.write_text("two = 2\n")
    assert _git(tmp_path).dirty is True

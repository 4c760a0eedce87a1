"""`bench card` runs whole on the fake runtime: only what compares numbers, or asks CUPTI, comes out as not so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.full import full

pytestmark = [pytest.mark.gpu, pytest.mark.fake, pytest.mark.slow]

SHORT = (
    *("doctor", "numbers/steps", "memory/limits", "table/resnet-20-E", "kernels/resnet-20-tf32"),
    *("packing/processes-2", "loaders/2", "overlap"),
)
"""All steps that need no study of their own; in full every part."""
NUMBERS = (
    "losses of ",
    "weights after ",
    "scores at ",
    "weights, masks and losses have the same bits",
    "the fault was met",
    "the profiler sees the device's kernels",
)
"""How checks begin that no device without kernels can pass."""


def test_every_part_comes_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SESSION", f"card-{tmp_path.name}")
    monkeypatch.setenv("PRUNECTL_LEASES", str(tmp_path / "leases"))
    only = [] if full() else [word for name in SHORT for word in ("--only", name)]
    command = ["bench", "card", "--quick", "--json", "--out", str(tmp_path / "out"), *only]
    done = subprocess.run(
        [sys.executable, "-m", "prunectl.cli", *command], stdout=subprocess.PIPE, text=True
    )
    parts = json.loads(done.stdout)["parts"]
    steps = {part["step"] for part in parts}
    assert len(parts) == len(SHORT) if not full() else len(steps) == 13
    for part in parts:
        name = f"{part['step']}/{part['part']}"
        skipped = part["outcome"]["skipped"]
        assert part["status"] == ("skipped" if skipped else "done"), (name, part["message"])
        assert not skipped or part["step"] == "packing", (name, skipped)
        for check in part["outcome"]["checks"]:
            assert check["passed"] or check["what"].startswith(NUMBERS), (name, check)
        print(f"{name}: {part['seconds']:.0f} s")
    assert done.returncode == 1

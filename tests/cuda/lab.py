"""A store, devices of the fake CUDA runtime, and `prunectl run` on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import fakecuda
from tests.support.fakecuda import Totals
from tests.support.records import scheduler_log

ROOT = Path(__file__).parents[2]
ONE_SEED = ("--set", "seeds=[0]")


class Lab:
    """A store, devices of its own, and their locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def run(
        self, *options: str, code: int = 0, allocator: str = "", **knobs: object
    ) -> subprocess.CompletedProcess[str]:
        """Run the quickstart, in which no rule of CUDA's may be broken."""
        knobs = {"totals": self.folder / "totals-%p"} | knobs
        environment = fakecuda.environment(session=f"{os.getpid()}-{self.folder.name}", **knobs)
        environment |= {"PYTORCH_CUDA_ALLOC_CONF": allocator} if allocator else {}
        places = {"PYTHONPATH": str(ROOT), "PRUNECTL_LEASES": str(self.folder / "leases")}
        command = [sys.executable, "-m", "prunectl.cli", "run", str(ROOT / "plans/quickstart.toml")]
        done = subprocess.run(
            [*command, "--plain", "--store", str(self.store), *options],
            env={**environment, **places},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        assert self.total("notes") == 0
        return done

    def total(self, name: str) -> int:
        """Return what all processes together asked of CUDA."""
        read = map(Totals.read, self.folder.glob("totals-*"))
        return sum(getattr(totals, name) for totals in read)

    def log(self, kind: str) -> list[dict[str, Any]]:
        records = scheduler_log(self.store / "scheduler.jsonl")
        return [record for record in records if record["type"] == kind]

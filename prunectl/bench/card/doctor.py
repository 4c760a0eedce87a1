"""Step `doctor`: what `prunectl doctor` says."""

from __future__ import annotations

import subprocess

from prunectl.bench.card.records import Check, Order, Outcome
from prunectl.child import module_command
from prunectl.findings import Examination
from prunectl.store.records.base import decode


def run(order: Order) -> Outcome:
    """Return a check of each finding; what is only a warning passes, and says so."""
    command = [*module_command("prunectl.cli"), "doctor", "--json", "--store", str(order.work)]
    done = subprocess.run(command, capture_output=True, check=False)
    found = decode(done.stdout, Examination, "what `prunectl doctor` printed").findings
    return Outcome(
        tuple(
            Check(each.about, each.health != "error", f"{each.health}: {each.found}")
            for each in found
        )
    )

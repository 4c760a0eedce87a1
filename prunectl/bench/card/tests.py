"""Step `tests`: the tests of the source tree that need a device, file by file."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec

from prunectl.bench.card.records import Check, Figure, Order, Outcome
from prunectl.bench.card.steps import TESTS

NOTHING_TO_RUN = 5
"""pytest's exit status where no test was selected."""
COUNTS = ("passed", "skipped", "failed", "errors")


def run(order: Order) -> Outcome:
    """Run the tests of one file."""
    if not (TESTS / order.part).is_file():
        return Outcome(skipped=f"there is no source tree: {TESTS} has no tests")
    if find_spec("pytest") is None:
        return Outcome(skipped="pytest is not installed: pip install 'prunectl[test]'")
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=line", "-rfE"]
    command = [sys.executable, "-m", "pytest", *options, str(TESTS / order.part)]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]]
    failed = [Check(name, False, why) for name, why in failures(lines)]
    passed = done.returncode in (0, NOTHING_TO_RUN)
    return Outcome(
        (Check(f"{order.part} passes", passed, lines[-1]), *failed),
        tuple(Figure(each, count(lines[-1], each), "tests") for each in COUNTS[:2]),
    )


def failures(lines: list[str]) -> list[tuple[str, str]]:
    """Return the tests that failed, and why, from pytest's summary."""
    found = (re.match(r"(?:FAILED|ERROR) (\S+)(?: - (.*))?", line) for line in lines)
    return [(match[1], match[2] or "") for match in found if match]


def count(line: str, what: str) -> int:
    """Return how many tests pytest's last line counts as `what`: 12 of ``12 passed in 3 s``."""
    match = re.search(rf"(\d+) {what}", line)
    return int(match[1]) if match else 0

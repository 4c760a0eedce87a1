"""The large properties in full: `python -m tests.full NAME`; without a name it lists them. The suite runs short forms.

Some are programs of their own; others are tests that look at more cases where `full()` is true.
"""

from __future__ import annotations

import os
import subprocess
import sys

FAKE = [
    *("-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "gpu"),
    *("tests/cuda", "tests/ml", "--ignore", "tests/cuda/test_bench_card.py"),
]
COMMANDS = {
    "records": ["-m", "pytest", "-q", "-x", "tests/store/test_records.py"],
    "damage": ["-m", "pytest", "-q", "-x", "-s", "tests/cli/test_damaged_records.py"],
    "folders": ["-m", "pytest", "-q", "-x", "tests/ml/test_folder_property.py"],
    "hostile": ["-m", "pytest", "-q", "-x", "tests/ml/test_hostile_data.py"],
    "plans": ["-m", "pytest", "-q", "-x", "-s", "tests/plan/test_mutations.py"],
    "poison": ["-m", "pytest", "-q", "-x", "tests/cli/test_poisoned_store.py"],
    "statistics": ["-m", "pytest", "-q", "-x", "-s", "tests/results/test_known_truth.py"],
    "simulation": ["-m", "prunectl.cli", "bench", "simulate", "--schedules", "100000"],
    "cuda": ["-m", "tests.support.fakecuda", "run", sys.executable, *FAKE],
    "database": [
        *("-m", "pytest", "-q", "-x"),
        *("tests/store/test_database_differences.py", "tests/store/test_damaged_database.py"),
    ],
    "readers": ["-m", "pytest", "-q", "-x", "-s", "tests/scheduler/test_readers.py"],
    "disk": ["-m", "pytest", "-q", "-x", "tests/cli/test_full_disk.py"],
    "archives": ["-m", "pytest", "-q", "-x", "-s", "tests/cli/test_import.py"],
    "chaos": [
        *("-m", "tests.chaos", "--kills", "60", "--span", "4"),
        *("--commands", "all", "--jobs", "2"),
    ],
    "card": [
        *("-m", "tests.support.fakecuda", "run", sys.executable),
        *("-m", "pytest", "-q", "-x", "-rA", "tests/cuda/test_bench_card.py"),
    ],
}
"""What Python is called with, by name."""

VARIABLE = "PRUNECTL_TESTS_FULL"


def full() -> bool:
    """Whether tests are to look at all that they can."""
    return os.environ.get(VARIABLE) == "1"


def main(arguments: list[str]) -> int:
    """Run one property in full. Returns its exit status."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(f"python -m tests.full NAME, one of: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    environment = {**os.environ, VARIABLE: "1"}
    return subprocess.run([sys.executable, *COMMANDS[arguments[0]]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the tests reach of the code for CUDA: `python -m tests.cuda.coverage`, with the package coverage installed.

The tests of the rooms that know devices run twice, without a device and, those that need one, on the fake CUDA runtime.
Lines and branches that the first run does not reach are those that need a device; of them the share is told that the
second one reaches. What neither reaches is listed.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import fakecuda

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("ml/datasets", "ml/training", "scheduler/devices", "worker")
"""Whose files are looked at, where their code names CUDA."""
TESTS = [
    *("tests/ml", "tests/worker", "tests/cuda"),
    *(f"tests/scheduler/test_{name}.py" for name in ("nvml", "scheduler_devices", "losses")),
    "tests/cli/test_long_run.py",
]
WITHOUT, WITH = [*TESTS, "-m", "not slow"], [*TESTS, "-m", "gpu"]
"""What pytest is given, without a device and with the fake."""
SAVING = """
import threading, time
import coverage

def save():
    while True:
        time.sleep(0.3)
        if (now := coverage.Coverage.current()) is not None:
            now.save()

threading.Thread(target=save, daemon=True).start()
"""
"""What every process does besides: a worker is killed in the end, and would take what it measured with it."""
ENOUGH = 95.0
"""Per cent."""
CONFIGURATION = """
[run]
branch = true
parallel = true
source = {source}
data_file = {folder}/data
concurrency = multiprocessing, thread
patch = subprocess, _exit
disable_warnings = no-data-collected, module-not-measured, couldnt-parse, no-ctracer
"""

Place = tuple[int, int | None]
"""A line, or a branch between two; a negative line is the function's end."""


@dataclass(frozen=True)
class Reached:
    """What of one file is reached, as places."""

    without: frozenset[Place]
    fake: frozenset[Place]
    """By the tests on the fake; some of it without, too."""
    neither: frozenset[Place]

    @property
    def needs(self) -> int:
        """Places that are not reached without a device."""
        return len(self.fake - self.without) + len(self.neither)


def files() -> Iterator[Path]:
    """Yield the files that are looked at."""
    for room in ROOMS:
        for path in sorted((REPOSITORY / "prunectl" / room).rglob("*.py")):
            if _names_cuda(ast.parse(path.read_text(encoding="utf-8"))):
                yield path


def _names_cuda(tree: ast.AST) -> bool:
    """Return whether code names CUDA, docstrings and comments left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None  # a docstring
        words = (getattr(node, name, None) for name in ("id", "attr", "name", "module", "value"))
        if any(isinstance(word, str) and "cuda" in word.lower() for word in words):
            return True
    return False


def measure(folder: Path) -> dict[str, Reached]:
    """Run the tests both ways and return what they reach, by file. Raises RuntimeError where tests fail."""
    runs = [
        _run(folder / "without", dict(os.environ), WITHOUT),
        _run(folder / "fake", fakecuda.environment(), WITH),
    ]
    found = {}
    for path in files():
        name = str(path.relative_to(REPOSITORY))
        done, missed = zip(*(_places(run.get(name)) for run in runs), strict=True)
        found[name] = Reached(done[0], done[1], (missed[0] | missed[1]) - done[0] - done[1])
    return found


def _run(folder: Path, environment: dict[str, str], tests: list[str]) -> dict[str, dict]:
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "coveragerc"
    source = REPOSITORY / "prunectl"
    configuration.write_text(CONFIGURATION.format(folder=folder, source=source), encoding="utf-8")
    (folder / "sitecustomize.py").write_text(SAVING, encoding="utf-8")
    python = os.pathsep.join([str(folder), str(REPOSITORY), environment.get("PYTHONPATH", "")])
    environment = {**environment, "PYTHONPATH": python, "PRUNECTL_LEASES": str(folder / "leases")}
    measured = [sys.executable, "-m", "coverage"]
    options = [f"--rcfile={configuration}"]
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        [*measured, "run", *options, *pytest], cwd=REPOSITORY, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"tests fail, or there are none: {' '.join(pytest)}")
    report = folder / "report.json"
    quiet = {"cwd": REPOSITORY, "check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([*measured, "combine", "-q", *options], **quiet)  # type: ignore[call-overload]
    subprocess.run([*measured, "json", "-q", *options, "-o", str(report)], **quiet)  # type: ignore[call-overload]
    return json.loads(report.read_text(encoding="utf-8"))["files"]  # type: ignore[no-any-return]


def _places(file: dict | None) -> tuple[frozenset[Place], frozenset[Place]]:
    """Return what was reached of a file, and what was not."""
    if file is None:
        return frozenset(), frozenset()
    found = []
    for kind in ("executed", "missing"):
        lines = [(line, None) for line in file[f"{kind}_lines"]]
        found.append(frozenset([*lines, *map(tuple, file[f"{kind}_branches"])]))
    return found[0], found[1]


def told(found: dict[str, Reached]) -> tuple[float, str]:
    """Return the share, in per cent, of what needs a device that is reached, and a report."""
    lines, needed, left = [], 0, 0
    for name, each in found.items():
        needed += each.needs
        left += len(each.neither)
        if each.needs:
            places = ", ".join(
                map(_text, sorted(each.neither, key=lambda place: (abs(place[0]), place[1] or 0)))
            )
            lines.append(
                f"{name}: {each.needs - len(each.neither)} of {each.needs}  {places}".rstrip()
            )
    share = 100 * (needed - left) / needed if needed else 100.0
    lines.append(f"{share:.1f} % of {needed} lines and branches that need a device are reached")
    return share, "\n".join(lines)


def _text(place: Place) -> str:
    line, to = place
    if to is None:
        return str(line)
    return f"{line}→{'end' if to < 0 else to}"


def main() -> int:
    """Measure and print. Returns 1 where less is reached than `ENOUGH`, 2 where it cannot be measured."""
    try:
        import coverage  # noqa: F401
    except ImportError:
        print("install coverage to measure it: pip install coverage", file=sys.stderr)
        return 2
    if (reason := fakecuda.missing()) is not None:
        print(reason, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        share, report = told(measure(Path(folder)))
    print(report)
    return int(share < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())

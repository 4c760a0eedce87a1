"""Who knows whom: the contracts of pyproject.toml, and what a command really loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "textual", "duckdb", "scipy", "matplotlib")


def test_the_contracts_hold(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def loaded(repository: Path, code: str) -> set[str]:
    """Heavy packages in sys.modules after running `code` in a fresh interpreter."""
    ending = f"\nimport sys\nprint('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + ending],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import prunectl", set()),
        ("import prunectl; prunectl.open('x')", {"duckdb"}),
        ("import prunectl.results.plots, prunectl.results.export", {"duckdb"}),
        ("import prunectl.cli.app", set()),
        ("import prunectl.plan.expand", set()),
        ("import prunectl.ml.networks.registry, prunectl.ml.datasets.registry", set()),
        ("import prunectl.ml.criteria.registry, prunectl.spec.settings", set()),
        (
            "import prunectl.scheduler.scheduler, prunectl.scheduler.devices.base, prunectl.store.requests",
            set(),
        ),
        ("import prunectl.monitor.watcher", set()),
        ("import prunectl.results.leaderboard", {"duckdb"}),
        ("import prunectl.store.db.query", {"duckdb"}),
        ("import prunectl.worker.main", {"torch"}),
        ("import prunectl.ml.training.trainer, prunectl.ml.pruning.masks", {"torch"}),
    ],
)
def test_importing_loads_nothing_it_does_not_use(
    repository: Path, code: str, allowed: set[str]
) -> None:
    assert loaded(repository, code) <= allowed


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["run", "--help"], set()),
        (["store", "where"], set()),
        (["status"], set()),
        (["rank"], {"duckdb"}),
        (["plot", "--help"], set()),
        (["export", "0", "-k", "1"], {"duckdb"}),
        (["show", "--trial", "0"], set()),
        (["sql", "select 1"], {"duckdb"}),
    ],
)
def test_commands_load_nothing_they_do_not_use(
    repository: Path, tmp_path: Path, arguments: list[str], allowed: set[str]
) -> None:
    code = (
        "import os, sys\n"
        f"os.environ['PRUNECTL_STORE'] = {str(tmp_path)!r}\n"
        f"sys.argv = ['prunectl', *{arguments!r}]\n"
        "from prunectl.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )
    assert loaded(repository, code) <= allowed

"""Every import contract of pyproject.toml is tried by an import against it, in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

AGAINST = {
    "Each room knows only the rooms below it": ("store/paths.py", "prunectl.results.formats"),
    "The scheduler knows stages and the store: neither plans nor training, nor who shows its work": (
        "scheduler/signals.py",
        "prunectl.plan.strategies",
    ),
    "The store keeps stages and trains none": ("store/locks.py", "prunectl.ml.resolve"),
    "A worker writes files: it knows neither plans nor the database": (
        "worker/memory.py",
        "prunectl.store.requests",
    ),
    "Screens leave requests and never touch the store's other files": (
        "tui/columns.py",
        "prunectl.store.gc",
    ),
    "Plans ask the registries of ml, not its tensors": (
        "plan/grid.py",
        "prunectl.ml.network_summary",
    ),
    "Only ml and worker import torch, and bench, which measures them": (
        "results/statistics.py",
        "torch",
    ),
    "Only store.db imports duckdb": ("store/archive.py", "duckdb"),
    "Only tui imports textual": ("cli/stop.py", "textual"),
    "Only results imports matplotlib": ("cli/drain.py", "matplotlib"),
    "No circles": ("spec/settings.py", "prunectl.spec.stage"),
}
"""By contract: a module, and an import of it that the contract forbids."""


def broken(folder: Path) -> dict[str, str]:
    """Run lint-imports on the package in a folder. Returns what it says of each contract that is broken, by name."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    said = done.stdout.partition("Broken contracts")[2]
    parts = re.split(r"^(.+)\n-{5,}\n", said, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_an_import_against_a_contract_breaks_it(repository: Path, tmp_path: Path) -> None:
    shutil.copy(repository / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "prunectl", tmp_path / "prunectl", ignore=ignored)
    assert broken(tmp_path) == {}

    for file, module in AGAINST.values():
        path = tmp_path / "prunectl" / file
        path.write_text(path.read_text(encoding="utf-8") + f"\nimport {module}\n", encoding="utf-8")
    found = broken(tmp_path)

    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    names = {each["name"] for each in tomllib.loads(text)["tool"]["importlinter"]["contracts"]}
    assert names == set(AGAINST) == set(found)
    for name, (file, _) in AGAINST.items():
        stem = Path(file).stem
        assert re.search(rf"\b{stem}\b", found[name]), f"{name}: {found[name]}"

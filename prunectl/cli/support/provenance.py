"""What a run was started with: recorded as `runs/<id>.json`, shown by SQL as the table `runs`."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from prunectl.version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "duckdb", "pydantic", "safetensors", "scipy")
"""Whose versions are recorded beside prunectl's own: what numbers or records depend on."""


def run_id() -> str:
    """Sortable by time, unique among runs of one second."""
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)


def collect(identifier: str, plans: list[str], devices: list[str]) -> dict[str, Any]:
    """The record of a run; nothing in it is needed to repeat results but all of it to explain them."""
    return {
        "run": identifier,
        "plans": plans,
        "started": time.time(),
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "git": _git(Path.cwd()),
        "packages": {name: _version(name) for name in PACKAGES},
        "prunectl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "devices": devices,
        "driver": _driver() if any(device.startswith("cuda") for device in devices) else None,
    }


def _driver() -> str | None:
    """Version of NVIDIA's driver; None where NVML does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            found = pynvml.nvmlSystemGetDriverVersion()
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no module, no library, no driver: NVML has an error of its own for each
        return None
    return found.decode() if isinstance(found, bytes) else str(found)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any]:
    """Commit and dirtiness of the repository around `folder`; nulls outside of one."""
    commit = _output(["git", "rev-parse", "HEAD"], folder)
    changes = _output(["git", "status", "--porcelain", "--untracked-files=no"], folder)
    return {"commit": commit, "dirty": None if commit is None else bool(changes)}


def _output(command: list[str], folder: Path) -> str | None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

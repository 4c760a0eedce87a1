"""Run records (`runs/<id>.json`, in SQL the table `runs`): what a run was started with; and which versions of the
code computed stages, because mixing them in one study may mix numbers that differ.
"""

from __future__ import annotations

import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from prunectl.errors import StoreError
from prunectl.store import files
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import BadRecord, Time, read_record, write_record
from prunectl.store.records.events import Start, last, read_events
from prunectl.store.records.stage import read_result
from prunectl.version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "duckdb", "pydantic", "safetensors", "scipy")
"""Their versions are recorded beside prunectl's own: what numbers or records depend on."""

DRIVER_VERSION = Path("/sys/module/nvidia/version")
"""Of the kernel module, which containers see, too."""

Versions = tuple[str, str]
"""Versions of prunectl and torch, builds (+cu130) left out."""


class Git(msgspec.Struct):
    """The repository around the folder that a run was started in; nulls outside of one."""

    commit: Annotated[
        str | None,
        Meta(description="commit of the folder the run was started in; null outside a repository"),
    ] = None
    dirty: Annotated[
        bool | None, Meta(description="whether tracked files differed from that commit")
    ] = None


class RunRecord(msgspec.Struct, kw_only=True):
    """What a run was started with; nothing in it is needed to repeat results but all of it to explain them."""

    run: Annotated[str, Meta(description="the run's id: its time of start, and 4 hex digits")] = ""
    plans: Annotated[
        tuple[str, ...], Meta(description="digests of the versions of plans it was started with")
    ] = ()
    started: Annotated[Time, Meta(description="when the scheduler was started, Unix seconds")] = (
        None
    )
    argv: Annotated[tuple[str, ...], Meta(description="the command and its arguments")] = ()
    cwd: Annotated[str | None, Meta(description="the folder it was started in")] = None
    git: Annotated[Git, Meta(description="the repository of that folder")] = msgspec.field(
        default_factory=Git
    )
    packages: Annotated[
        dict[str, str | None],
        Meta(description="versions of the packages that numbers or records depend on, by name"),
    ] = {}
    prunectl: Annotated[str | None, Meta(description="version of prunectl")] = None
    python: Annotated[str | None, Meta(description="version of Python")] = None
    platform: Annotated[
        str | None,
        Meta(description="operating system, its version and the processor's architecture"),
    ] = None
    host: Annotated[str | None, Meta(description="name of the machine")] = None
    devices: Annotated[tuple[str, ...], Meta(description="ids of the run's devices")] = ()
    driver: Annotated[
        str | None, Meta(description="version of NVIDIA's driver; null without CUDA devices")
    ] = None


def write_run(paths: StorePaths, plans: Sequence[str], devices: Sequence[str]) -> str:
    """Write the record of a run that starts now.

    Args:
        plans: digests of the versions of plans that it runs.
        devices: their ids.

    Returns the run's id. Raises StoreError where the record cannot be written.
    """
    # Sortable by time, unique among the runs of one second.
    run = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
    write_record(paths.run(run), run_record(run, plans, devices))
    return run


def read_run(path: Path) -> RunRecord:
    """Read a file of runs/. Raises FileNotFoundError as is, BadRecord where it is not what its name says."""
    record = read_record(path, RunRecord)
    if record.run not in ("", path.stem):
        raise BadRecord(f"{path} is of the run {record.run}")
    return record


def run_record(run: str, plans: Sequence[str], devices: Sequence[str]) -> RunRecord:
    """Collect the record of a run."""
    return RunRecord(
        run=run,
        plans=tuple(plans),
        started=time.time(),
        argv=tuple(sys.argv),
        cwd=os.getcwd(),
        git=_git(Path.cwd()),
        packages={name: _version(name) for name in PACKAGES},
        prunectl=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        host=socket.gethostname(),
        devices=tuple(devices),
        driver=_driver() if any(device.startswith("cuda") for device in devices) else None,
    )


def _driver() -> str | None:
    """Return the version of NVIDIA's driver, None where its kernel module does not say it.

    Not by NVML: in a driver that is in trouble its calls hang for ever.
    """
    try:
        return files.disk.read(DRIVER_VERSION).decode(errors="replace").strip() or None
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> Git:
    commit = _output(["git", "rev-parse", "HEAD"], folder)
    # Without --no-optional-locks it takes index.lock, which a kill would leave behind: no commit works then.
    status = ["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]
    changes = _output(["git", *status], folder)
    return Git(commit, None if commit is None else bool(changes))


def _output(command: list[str], folder: Path) -> str | None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def installed_versions() -> Versions:
    """Return the versions that would compute stages now, without importing torch."""
    return _versions({"prunectl": __version__, "torch": metadata.version("torch")})


def count_versions(
    paths: StorePaths, keys: Iterable[str]
) -> tuple[Counter[Versions], Counter[Versions]]:
    """Count which versions computed these stages: those that are done, and those begun and not done.

    Of the latter, the last attempt that got so far as to leave a checkpoint counts.
    """
    done: Counter[Versions] = Counter()
    begun: Counter[Versions] = Counter()
    disk = files.disk
    for key in keys:
        stage = paths.stage(key)
        try:
            if disk.exists(stage.result):
                done[_versions(read_result(stage).versions)] += 1
            elif disk.exists(stage.latest):
                start = last(read_events(stage.events).records, Start)
                if start is not None:
                    begun[_versions(start.versions)] += 1
        except (OSError, StoreError):
            continue  # `store verify` reports it
    return done, begun


def version_warnings(paths: StorePaths, keys: Iterable[str]) -> list[str]:
    """Describe which other versions' numbers running these stages now would mix in, a sentence each."""
    now = installed_versions()
    done, begun = count_versions(paths, keys)
    return [
        f"{count} stage{'s were' if count > 1 else ' was'} {what} by {_words(versions)}; this is "
        f"{_words(now)}: the same code on one device gives the same bits, other versions may not"
        for counts, what in ((done, "computed"), (begun, "begun"))
        for versions, count in sorted(counts.items())
        if versions != now
    ]


def _versions(found: Mapping[str, object]) -> Versions:
    return str(found.get("prunectl", "?")), str(found.get("torch", "?")).split("+")[0]


def _words(versions: Versions) -> str:
    return f"prunectl {versions[0]} with torch {versions[1]}"

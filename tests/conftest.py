"""A sealed environment for every test: no user settings, no colours, one thread, a store of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import fakecuda

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A terminal that closes is told by it; a job in the background may have been started without.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # A core for each process that runs tests, and so one worker for each `prunectl run`: a second one on the same cores
    # is three more seconds of importing torch, which was a third of the suite. `--slots 2` asks for two.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
# Deterministic cuBLAS; read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: at the end one core would be idle while another has minutes to go."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.parent.name != "cli"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine, or the fake CUDA runtime, cannot try."""
    marks = {mark.name for mark in item.iter_markers()}
    if "fake" in marks and not fakecuda.running():
        pytest.skip("needs the fake CUDA runtime: python -m tests.support.fakecuda run pytest …")
    if "numbers" in marks and fakecuda.running():
        pytest.skip("the fake CUDA runtime computes nothing")
    if "gpu" in marks:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands remember of networks, of all tests together: else each would wait seconds for a child process."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(autouse=True)
def sealed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, networks: Path
) -> None:
    """Nothing of the machine's settings reaches a test, and nothing of a test reaches the machine."""
    home = tmp_path_factory.mktemp("home")
    (home / "cache" / "prunectl").mkdir(parents=True)
    (home / "cache" / "prunectl" / "networks").symlink_to(networks)
    for name in ("PRUNECTL_STORE", "PRUNECTL_DATA", "CUDA_VISIBLE_DEVICES", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")


@pytest.fixture(scope="module")
def bare_tables() -> Iterator[None]:
    """Databases without comments and published results, which take most of the time of making one."""
    from prunectl.store.db import schema

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_comment", lambda connection: None)
        patch.setattr(schema, "SHIPPED", ("t_quantiles",))
        yield


@pytest.fixture
def repository() -> Path:
    """The top folder of the project."""
    return Path(__file__).parent.parent

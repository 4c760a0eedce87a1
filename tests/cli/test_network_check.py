"""Networks are looked at once, by one child process that ends; after that no command needs torch to read a plan."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prunectl.cli.support import network_check
from prunectl.cli.support.network_check import NetworkCheck, code_hash
from prunectl.errors import NetworkMisfit, PlanError
from prunectl.ml.network_summary import Answer
from prunectl.ml.networks import registry
from prunectl.ml.summarise import examine
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.spec.settings import NetworkSettings
from tests.cli.conftest import TINY
from tests.support.checking import check as in_process

LENET = NetworkSettings("lenet-300-100", (1, 8, 8), 4)
CONVNET = NetworkSettings("convnet", (1, 8, 8), 10)


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[Any]]:
    """The child processes that are started."""
    started: list[subprocess.Popen[Any]] = []

    class Counted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(network_check.subprocess, "Popen", Counted)
    return started


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that answers every question by the summary of LENET, and has no torch to import."""
    answer = msgspec.json.encode(Answer(examine(LENET))).decode()
    code = "import sys\nfor line in sys.stdin: print(sys.argv[1], flush=True)"
    monkeypatch.setattr(network_check, "COMMAND", (sys.executable, "-c", code, answer))


def cached() -> list[Path]:
    return sorted(Path(os.environ["XDG_CACHE_HOME"], "prunectl", "networks").iterdir())


def test_what_a_child_finds_is_what_this_process_finds() -> None:
    with NetworkCheck() as check:
        for name in registry.names():
            shape = (1, 32, 32) if name.startswith("lenet") else (3, 224, 224)
            network = NetworkSettings(name, shape, 10, "projection-everywhere")
            for _ in range(2):  # from the child, then from the cache
                assert check(network) == in_process(network)
                check._known.clear()
        assert check(CONVNET, readers=True) == in_process(CONVNET, readers=True)


def test_one_child_looks_at_all_networks_and_ends(
    children: list[subprocess.Popen[Any]],
) -> None:
    with NetworkCheck() as check:
        for network in (LENET, CONVNET):
            for _ in range(2):
                check(network)
        assert [child.poll() for child in children] == [None]
    assert [child.returncode for child in children] == [0]


@pytest.mark.usefixtures("quick")
def test_a_network_is_looked_at_once(children: list[subprocess.Popen[Any]]) -> None:
    for _ in range(3):
        with NetworkCheck() as check:
            check(LENET)
    assert len(children) == 1


def test_which_layer_reads_which_is_asked_for_where_it_is_needed(
    children: list[subprocess.Popen[Any]],
) -> None:
    with NetworkCheck() as check:
        check(CONVNET)
        assert check(CONVNET, readers=True) == in_process(CONVNET, readers=True)
    with NetworkCheck() as check:
        assert check(CONVNET, readers=True) == in_process(CONVNET, readers=True)
    assert len(children) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "other",
    [
        NetworkSettings("lenet-300-100", (1, 8, 9), 4),
        NetworkSettings("lenet-300-100", (1, 8, 8), 5),
        NetworkSettings("lenet-5", (1, 28, 28), 4),
        NetworkSettings("lenet-300-100", (1, 8, 8), 4, "padding"),
    ],
)
def test_another_network_is_another_question(
    other: NetworkSettings, children: list[subprocess.Popen[Any]]
) -> None:
    for network in (LENET, other):
        with NetworkCheck() as check:
            check(network)
    assert len(children) == 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("code_hash", lambda folder: "other code"),
        ("metadata.version", lambda package: "other version"),
    ],
)
def test_changed_code_and_versions_are_never_served_what_was_found_before(
    name: str,
    other: Callable[[object], str],
    children: list[subprocess.Popen[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with NetworkCheck() as check:
        check(LENET)
    monkeypatch.setattr(f"prunectl.cli.support.network_check.{name}", other)
    with NetworkCheck() as check:
        check(LENET)
    assert len(children) == len(cached()) == 2


def test_every_python_file_counts_in_the_hash_of_code(tmp_path: Path) -> None:
    (tmp_path / "networks").mkdir()
    file = tmp_path / "networks" / "new.py"
    hashes = []
    for change in (
        lambda: None,
        lambda: file.write_text("a = 1"),
        lambda: file.write_text("a = 2"),
        lambda: file.rename(file.with_name("other.py")),
        lambda: (tmp_path / "notes.txt").write_text("nothing"),
    ):
        change()
        code_hash.cache_clear()
        hashes.append(code_hash(tmp_path))
    assert len(set(hashes)) == 4
    assert hashes[-1] == hashes[-2]


@pytest.mark.usefixtures("quick")
def test_a_damaged_cache_is_made_anew(children: list[subprocess.Popen[Any]]) -> None:
    with NetworkCheck() as check:
        found = check(LENET)
    (file,) = cached()
    whole = file.read_bytes()
    for damaged in (b"", whole[:-9], b"\xff\xfe", b"[]", b'{"parameters":"many","layers":[]}'):
        file.write_bytes(damaged)
        with NetworkCheck() as check:
            assert check(LENET) == found
        assert file.read_bytes() == whole
    assert len(children) == 6


@pytest.mark.usefixtures("quick")
def test_a_cache_that_cannot_be_written_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    for _ in range(2):
        with NetworkCheck() as check:
            assert check(LENET) == in_process(LENET)


def test_a_misfit_reads_as_in_this_process() -> None:
    small = NetworkSettings("vgg-16", (3, 8, 8), 10)
    with pytest.raises(NetworkMisfit) as here:
        examine(small)
    with NetworkCheck() as check, pytest.raises(NetworkMisfit) as there:
        check(small)
    assert (str(there.value), there.value.fits) == (str(here.value), here.value.fits)
    assert here.value.fits == (3, 32, 32)
    assert not Path(os.environ["XDG_CACHE_HOME"], "prunectl").exists()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(3)", "ended (status 3)"),
        ("import os; os.kill(os.getpid(), 9)", "ended (status -9)"),
        ("import sys; sys.exit('torch is broken')", "ended (status 1):\n  torch is broken"),
        ("print('a greeting')", "ended (status 0)"),
    ],
)
def test_a_child_that_breaks_off_is_an_error_of_the_plan_with_what_it_said(
    code: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_check, "COMMAND", (sys.executable, "-c", code))
    with NetworkCheck() as check, pytest.raises(PlanError) as caught:
        expand(loads(TINY, "tiny.toml"), check)
    where = "tiny.toml:6: grid.network: the process that looks at networks "
    assert str(caught.value) == f"{where}{said}\n  found:   lenet-300-100"


def test_no_command_imports_torch_to_read_a_plan(plan: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from prunectl.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'prunectl.plan.expand' in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    for _ in range(2):
        command = [sys.executable, "-c", code, "show", plan, "--store", tmp_path / "store"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "trials      4 on 2 seeds" in done.stdout
    assert not (tmp_path / "store").exists()


def test_modules_of_the_current_folder_are_not_taken_for_others(plan: Path, tmp_path: Path) -> None:
    """The command does not look there, nor do the child and the workers that it starts."""
    for name in ("torch", "random", "queue"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name} of the user')")
    words = ("run", plan, "--store", tmp_path / "store", "--plain", "--devices", "cpu")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "prunectl.cli", *words, "--set", "seeds=[0]"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""A store that several people use: by the commands, as a second member of a group and as somebody who is none.

The second user is root without its power over files, which is what any user is to the files of another; root is needed
to make him, and to give him the files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prunectl.store.paths import StorePaths
from prunectl.store.verify import verify
from tests.support.command import ROOT

OTHER, GROUP = 65534, 4321
POWERS = "-dac_override,-dac_read_search,-fowner,-chown"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can make a second user, by setpriv",
)


def as_second(
    *arguments: str | Path, group: int = 0, umask: str = "022"
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user to whom the files of others are those of others."""
    who = ["setpriv", f"--bounding-set={POWERS}", f"--inh-caps={POWERS}", f"--groups={group}"]
    command = [sys.executable, "-m", "prunectl.cli", *map(str, arguments)]
    return subprocess.run(
        ["sh", "-c", f'umask {umask}; exec "$@"', "sh", *who, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def give(store: Path, group: int) -> None:
    """Let all of the store be the first user's and the group's."""
    for path in (store, *store.rglob("*")):
        os.chown(path, OTHER, group)


@pytest.fixture
def options(plan: Path, tmp_path: Path) -> tuple[str | Path, ...]:
    return ("run", plan, "--store", tmp_path / "store", "--plain", "--devices", "cpu")


def test_two_members_of_a_group_share_a_store(
    options: tuple[str | Path, ...], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    os.chown(store, 0, GROUP)
    store.chmod(0o2775)
    first = as_second(*options, "--set", "seeds=[0]", group=GROUP, umask="002")
    assert first.returncode == 0, first.stderr
    give(store, GROUP)
    for path in store.rglob("*"):
        if path.is_dir():  # a change of owner takes the bit away
            path.chmod(path.stat().st_mode | 0o2000)
    second = as_second(*options, group=GROUP, umask="002")
    assert second.returncode == 0, second.stderr
    assert {path.stat().st_gid for path in store.rglob("*")} == {GROUP}
    for command in (("store", "verify"), ("rank",), ("status",), ("store", "rebuild")):
        done = as_second(*command, "--store", store, group=GROUP, umask="002")
        assert done.returncode == 0, done.stderr
        assert "behind" not in done.stderr


def test_what_another_user_keeps_private_is_not_damaged(
    options: tuple[str | Path, ...], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert as_second(*options, "--set", "seeds=[0]").returncode == 0
    give(store, 0)
    for path in (store, *store.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    private = sorted(store.rglob("*.safetensors"))
    for path in private:
        path.chmod(0o600)
    done = sorted(store.glob("stages/*/result.json"))
    shutil.rmtree(next(path for path in done if '"iteration":2' in path.read_text()).parent)
    before = {path: path.stat().st_ino for path in store.glob("stages/*/result.json")}
    ended = as_second(*options, "--set", "seeds=[0]")
    assert ended.returncode == 3, ended.stderr
    error = next(line for line in ended.stderr.splitlines() if line.startswith("error"))
    assert error.startswith(f"error: cannot read {store}/stages/")
    assert "Permission denied" in error
    assert "README" in error
    assert not list(store.rglob("*.damaged-*"))
    assert before == {path: path.stat().st_ino for path in store.glob("stages/*/result.json")}
    checked = as_second("store", "verify", "--store", store)
    assert checked.returncode == 3
    assert "Traceback" not in checked.stderr
    for path in private:
        if path.exists():
            path.chmod(0o644)
    assert as_second(*options, "--set", "seeds=[0]").returncode == 0
    assert not verify(StorePaths(store)).problems


def test_a_folder_that_may_not_be_opened_is_named(
    options: tuple[str | Path, ...], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    strategy = ("--set", "seeds=[0]", "--set", 'grid.strategy=["fine-tune"]')
    assert as_second(*options, *strategy).returncode == 0
    give(store, 0)
    run, status, check = options[:2], ("status",), ("store", "verify")
    # Verifying needs no lock: a run of somebody else's may go on meanwhile.
    for folder, command in (
        ("", check), ("", run), ("plans", status), ("stages", check), ("stages", run), ("control", status),
        ("control", run),
    ):  # fmt: skip
        mode = (store / folder).stat().st_mode
        (store / folder).chmod(0o700)
        done = as_second(*command, "--store", store)
        (store / folder).chmod(mode)
        assert done.returncode == 3, (folder, command, done.stdout, done.stderr)
        error = done.stderr.strip().splitlines()[-1]
        assert error.startswith("error: cannot ")
        assert "Permission denied" in error
        assert "Traceback" not in done.stderr

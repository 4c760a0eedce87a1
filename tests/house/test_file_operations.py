"""All operations on a store's files go through `store.files.disk`: one place to fail, to count, or to simulate."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import prunectl

PACKAGE = Path(prunectl.__file__).parent
ROOMS = ("store", "scheduler")
ELSEWHERE = (
    "store/files.py",
    "store/refusals.py",
    "store/simulated_files.py",
    "scheduler/devices/",
    "scheduler/executors/",
    "scheduler/parent_death.py",
    "scheduler/signals.py",
)
"""The object itself, and whose a file is that it was refused; /proc, locks of devices and processes of this host, the
pipe of its signals: no files of a store."""

METHODS = {
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "stat",
    "lstat",
    "iterdir",
    "rglob",
    "mkdir",
    "rmdir",
    "unlink",
    "rename",
    "touch",
    "chmod",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_text",
}
"""Of pathlib.Path; `glob`, `open` and `replace` are other things' names, too, and looked at more closely."""
ALLOWED_OF_OS = frozenset({"getpid", "getuid", "getcwd"})
RESOURCES = ("store/db/column_docs.py", "store/db/queries/__init__.py", "store/db/schema.py")
"""They read files of the package by importlib, which are none of a store."""


def operations(text: str) -> Iterator[tuple[int, str]]:
    """Yield the file operations in a module's text: line and name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for name in [module] if module else [alias.name for alias in node.names]:
                if name in ("shutil", "tempfile", "fcntl", "glob"):
                    yield node.lineno, f"import {name}"
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            yield node.lineno, "open()"
        if isinstance(called, ast.Attribute):
            owner, name = ast.unparse(called.value), called.attr
            if owner in ("os", "os.path") and name not in ALLOWED_OF_OS:
                yield node.lineno, f"{owner}.{name}"
            of_disk = owner.endswith("disk") or owner.startswith("resources.")
            if (name in METHODS or name in ("glob", "open")) and not of_disk:
                yield node.lineno, f".{name}()"


def modules() -> list[str]:
    """List the modules of the two rooms."""
    found = [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
    names = [path.relative_to(PACKAGE).as_posix() for path in found]
    return sorted(name for name in names if not name.startswith(ELSEWHERE))


@pytest.mark.parametrize("module", modules())
def test_no_other_file_operation(module: str) -> None:
    text = (PACKAGE / module).read_text(encoding="utf-8")
    found = [f"{module}:{line} {name}" for line, name in operations(text)]
    if module in RESOURCES:
        found = [each for each in found if not each.endswith(" .read_text()")]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "path.exists()",
        "self.paths.stage(key).result.unlink(missing_ok=True)",
        "os.replace(a, b)",
        "os.path.exists(a)",
        "open(path)",
        "path.open('rb')",
        "sorted(folder.glob('*'))",
        "import shutil",
        "from tempfile import mkdtemp",
    ],
)
def test_each_kind_is_seen(line: str) -> None:
    assert list(operations(line))


def test_what_goes_through_the_disk_is_not() -> None:
    assert not list(operations("files.disk.exists(path); disk.glob(folder, '*'); os.getpid()"))


EXEMPT = ("executors/", "devices/", "ingestion.py", "signals.py")
"""What is a clock, or belongs to this host; ingestion runs in a thread of real time."""


def test_the_scheduler_has_no_time_but_its_executors() -> None:
    """A simulated executor is a whole world: nothing above it asks the system what time it is."""
    room = PACKAGE / "scheduler"
    found = []
    for path in sorted(room.rglob("*.py")):
        name = path.relative_to(room).as_posix()
        if not name.startswith(EXEMPT):
            found += [f"{name} {call}" for call in re.findall(r"\btime\.(\w+)\(", path.read_text())]
    # They format a time that they are given.
    assert found == ["scheduler.py strftime", "scheduler.py localtime"]

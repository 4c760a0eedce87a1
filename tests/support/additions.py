"""Additions to prunectl, made in a copy of the package in the files that README names for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli

from prunectl.ml.datasets import registry as datasets
from prunectl.ml.tasks import registry as tasks
from prunectl.ml.tasks.registry import Targets, TaskEntry
from prunectl.spec.task import Metric, TaskMetrics

SUPPORT = Path(__file__).parent

NETWORK = '''"""One hidden layer."""

import math

from torch import Tensor, nn

from prunectl.spec.settings import NetworkSettings


class OneHidden(nn.Module):
    """A dense layer of 16 units and one for the outputs."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.hidden = nn.Linear(math.prod(settings.shape), 16)
        self.classifier = nn.Linear(16, settings.classes)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.classifier(self.hidden(images.flatten(1)).relu())
        return outputs
'''


@dataclass(frozen=True)
class Addition:
    """One thing added: a file of its own, if it has one, and lines in the file that lists what there is."""

    listed: str
    lines: tuple[tuple[str, str], ...]
    """How a line begins, and what is put before it."""
    file: str = ""
    """As README calls it, with NAME for the name."""
    name: str = ""
    text: str = ""

    @property
    def touched(self) -> set[str]:
        """Files as README calls them."""
        return {self.listed, self.file} - {""}

    def make(self, package: Path) -> None:
        """Write it into a copy of the package."""
        if self.file:
            (package / self.file.replace("NAME", self.name)).write_text(self.text, encoding="utf-8")
        listed = package / self.listed
        for anchor, text in self.lines:
            before = listed.read_text(encoding="utf-8").splitlines()
            found = [n for n, line in enumerate(before) if line.strip().startswith(anchor)]
            assert len(found) == 1, f"{self.listed} has {len(found)} lines {anchor!r}"
            after = [*before[: found[0]], text, *before[found[0] :], ""]
            listed.write_text("\n".join(after), encoding="utf-8")


ONE_HIDDEN = Addition(
    "ml/networks/registry.py",
    (
        (
            'Family("convnet",',
            'Family("one-hidden", "prunectl.ml.networks.one_hidden:OneHidden", ("one-hidden",)),',
        ),
    ),
    "ml/networks/NAME.py",
    "one_hidden",
    NETWORK,
)
REGRESSION_ENTRY = TaskEntry(
    "prunectl.ml.tasks.regression:Regression",
    TaskMetrics(
        (
            Metric("rmse", higher_is_better=False, digits=4),
            Metric("mae", higher_is_better=False, digits=4),
        )
    ),
    Targets("float32", per_output=True),
)
REGRESSION = Addition(
    "ml/tasks/registry.py",
    (
        ("from prunectl.spec.task import", "from prunectl.spec.task import Metric"),
        ("DEFAULT_TASK: TaskEntry(", f'"regression": {REGRESSION_ENTRY!r},'),
    ),
    "ml/tasks/NAME.py",
    "regression",
    (SUPPORT / "regression.py").read_text(encoding="utf-8"),
)
WAVES = Addition(
    "ml/datasets/registry.toml",
    (
        (
            "# UCI handwritten digits, 8×8, in the package",
            """[waves]
module = "waves"
external = false
[waves.description]
shape = [1, 2, 2]
classes = 2
train = 256
test = 100
mean = [0.5]
std = [0.3]
fingerprint = "waves-1"
task = "regression"
""",
        ),
    ),
    "ml/datasets/NAME.py",
    "waves",
    (SUPPORT / "waves.py").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Copy:
    """A copy of the package in a folder of its own."""

    folder: Path

    @property
    def package(self) -> Path:
        """The package's folder."""
        return self.folder / "prunectl"

    def run(self, *arguments: str | Path) -> str:
        """Run Python with the copy first on its path, to its end. Returns what it printed."""
        own = {"PYTHONPATH": str(self.folder), "PRUNECTL_LEASES": str(self.folder / "leases")}
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def prunectl(self, *arguments: str | Path) -> str:
        """Run the copy's command."""
        return self.run("-m", "prunectl.cli", *arguments)

    def changed(self, original: Path) -> set[str]:
        """Return the files that the copy has more than the original, or that differ."""
        files = {file.relative_to(self.package) for file in self.package.rglob("*")}
        return {
            str(file)
            for file in files
            if (self.package / file).is_file()
            and "__pycache__" not in file.parts
            and not (
                (original / file).is_file()
                and (original / file).read_bytes() == (self.package / file).read_bytes()
            )
        }


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Copy:
    """The package, copied to where it may be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "prunectl", tmp_path / "prunectl", ignore=ignored)
    return Copy(tmp_path)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task and its data, added to this process without a copy of the package."""
    from tests.support import regression, waves

    monkeypatch.setitem(tasks._ENTRIES, "regression", REGRESSION_ENTRY)
    monkeypatch.setitem(sys.modules, "prunectl.ml.tasks.regression", regression)
    table = tomli.loads(WAVES.lines[0][1])["waves"]["description"]
    about = {name: tuple(v) if isinstance(v, list) else v for name, v in table.items()}
    entry = datasets.DatasetEntry("waves", "waves", datasets.Description(**about), external=False)
    monkeypatch.setitem(datasets._ENTRIES, "waves", entry)
    monkeypatch.setitem(sys.modules, "prunectl.ml.datasets.waves", waves)

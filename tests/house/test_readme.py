"""README.md says what is so: its plan expands, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from prunectl.cli.app import app
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.plan.strategies import BUILT_IN
from tests.support.checking import check


@pytest.fixture
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


def commands() -> set[str]:
    group = typer.main.get_command(app)
    return set(group.commands)  # type: ignore[attr-defined]


def test_its_plan_is_a_plan(readme: str) -> None:
    text = re.findall(r"```toml\n(.*?)```", readme, re.S)[0]
    plan = expand(loads(text), check)
    assert len(plan.trials) == 2 * 4 * 3


def test_every_command_is_there_and_no_other(readme: str) -> None:
    block = readme[readme.index("## Commands") : readme.index("## Asking")]
    said = set(re.findall(r"\bprunectl ([a-z]+)", block))
    line = next(line for line in block.splitlines() if "cancel |" in line)
    said |= set(re.findall(r"[a-z]+", line.replace("prunectl", "")))
    assert said == commands()


def test_every_strategy_is_there(readme: str) -> None:
    for name in BUILT_IN:
        assert f"| `{name}` |" in readme


def test_links_lead_somewhere(readme: str, repository: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (repository / target).exists(), target


def test_the_two_commands_come_first(readme: str) -> None:
    block = re.findall(r"```sh\n(.*?)```", readme, re.S)[0]
    assert len(block.splitlines()) == 2


def test_every_plan_is_there_with_its_question(readme: str, repository: Path) -> None:
    for file in (repository / "plans").glob("*.toml"):
        question = file.read_text().splitlines()[0].removeprefix("# ")
        assert f"| [`{file.stem}`](plans/{file.name}) | {question} |" in readme

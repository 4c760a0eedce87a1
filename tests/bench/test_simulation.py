"""Simulated schedules: nothing that must be true is broken, and what breaks it is found."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prunectl.bench.simulation import tally
from prunectl.bench.simulation.tally import Block, Broken, Tally
from tests.scheduler.planted_bugs import BUGS

ROOT = Path(__file__).parents[2]
MOST = 2000
"""Schedules within which each planted bug is found; on 2026-11-27 the slowest took 585."""
FIRST = {"priority_ignored": 181, "broken_devices_are_never_given_up": 161}
FIRST |= {"accepted_plans_die_with_their_scheduler": 131, "missing_files_are_not_made_again": 73}
"""The schedules that find what takes many, to begin with: half a minute less."""
OWN_MISTAKE = re.compile(
    r"^(TypeError|AttributeError|NameError|ImportError|UnboundLocalError)\b", re.M
)


def python(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=check
    )


@pytest.mark.parametrize("bug", BUGS)
def test_each_planted_bug_is_found(bug: str) -> None:
    found = python(
        "-m", "tests.scheduler.planted_bugs", bug, str(MOST), str(FIRST.get(bug, 0))
    ).stdout.strip()
    assert found, f"{bug}: {BUGS[bug].__doc__}"
    assert not OWN_MISTAKE.search(found), f"{bug} is out of date, and found only as it cannot run"


def test_without_a_bug_nothing_is_found_and_a_seed_is_a_schedule(tmp_path: Path) -> None:
    blocks = []
    for _ in range(2):
        code = (
            "from prunectl.bench.simulation.tally import run_block\n"
            "from prunectl.store.records.base import encode\n"
            "print(encode([run_block(n) for n in range(2)]).decode())"
        )
        found: list[dict[str, Any]] = json.loads(python("-c", code).stdout)
        for block in found:
            del block["cpu_seconds"]
        blocks.append(found)
    assert blocks[0] == blocks[1]
    assert all(not block["broken"] for block in blocks[0])
    kinds = {kind for block in blocks[0] for kind in block["faults"]}
    assert {"power cut", "scheduler killed", "message lost", "disk full", "request"} <= kinds
    assert all(block["checks"] > 1000 for block in blocks[0])


def test_calls_add_up_in_any_order(tmp_path: Path) -> None:
    blocks = [
        Block(n, checks=n + 1, hours=1.0, cpu_seconds=2.0, faults={"a": 1, f"b{n}": n})
        for n in range(9)
    ]
    blocks[3] = msgspec.structs.replace(blocks[3], broken=(Broken(80, "no"),))
    sums = []
    for seed in range(5):
        random.Random(seed).shuffle(order := blocks[:])
        total = Tally(version=tally.simulated_version())
        for number, block in enumerate(order):
            total.add(block)
            missing = total.missing()
            still = {next(missing) for _ in range(9 - number - 1)} if number < 8 else set()
            assert still == {each.number for each in order[number + 1 :]}
        assert total.schedules == 9 * tally.BLOCK
        sums.append(msgspec.to_builtins(total))
    assert all(each == sums[0] for each in sums)
    assert sums[0]["faults"]["a"] == 9


def test_the_command_goes_on_where_it_was_and_tells_a_seed(tmp_path: Path) -> None:
    path = tmp_path / "tally.json"
    words = ("-m", "prunectl.cli", "bench", "simulate", "--tally", str(path))
    assert "50 schedules" in python(*words, "--schedules", "50").stdout
    first = json.loads(path.read_text())
    assert "75 schedules" in python(*words, "--schedules", "75").stdout
    then = json.loads(path.read_text())
    assert then["complete"] == 3
    assert then["checks"] > first["checks"]
    again = python(*words, "--schedules", "75", "--json")
    assert json.loads(again.stdout)["checks"] == then["checks"], "nothing was left to do"
    path.write_text(path.read_text().replace(tally.simulated_version(), "0.0.1 another"))
    assert tally.read_tally(path) == Tally(version=tally.simulated_version())
    told = python("-m", "prunectl.cli", "bench", "simulate", "--seed", "8").stdout
    assert "plan first" in told
    assert "all that must be true was true" in told


def test_a_violation_is_told_with_its_seed(tmp_path: Path) -> None:
    path = tmp_path / "tally.json"
    total = Tally(
        version=tally.simulated_version(), complete=2, broken=[Broken(31, "at 3.0 s: it broke")]
    )
    path.write_bytes(msgspec.json.encode(total))
    words = ("-m", "prunectl.cli", "bench", "simulate", "--tally", str(path), "--schedules", "50")
    done = python(*words, check=False)
    assert done.returncode == 1
    assert "seed 31: at 3.0 s: it broke" in done.stdout
    assert "bench simulate --seed 31" in done.stdout

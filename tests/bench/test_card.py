"""`bench card`: what is kept when a part hangs, crashes or is cut off, and that its comparisons can fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from prunectl.bench.card import numbers, packing, steps, studies, tests
from prunectl.bench.card.records import Card, Check, Figure, Order, Outcome, PartResult
from prunectl.bench.card.report import markdown, shown
from prunectl.bench.card.runner import Runner, reset, results_file, summary
from prunectl.bench.card.steps import Step, all_steps, chosen, part_of
from prunectl.bench.cleanup import orderly
from prunectl.bench.records import Machine
from prunectl.bench.rounds import BenchError
from prunectl.errors import UnknownName
from prunectl.plan.expand import expand
from prunectl.plan.load import loads
from prunectl.spec.trial import Trial
from prunectl.store.paths import StorePaths
from prunectl.store.records.base import read_record, write_record
from prunectl.store.records.result import Result
from prunectl.worker.checkpoint import load_state, save_state
from tests.support.command import ROOT, prunectl

MACHINE = Machine("a CPU", 2, 2, "3.11", "2.14", "0.29", "0.1")
CHILD = """
import json, os, subprocess, sys, time
order = json.loads(sys.argv[-1])
folder, part = order["folder"], order["part"]
with open(os.path.join(folder, "started"), "a") as file:
    print(part, file=file)
if part == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open(os.path.join(folder, "pid"), "w") as file:
        file.write(str(child.pid))
    time.sleep(600)
if part == "crashes":
    os.kill(os.getpid(), 11)
if part == "raises":
    raise ValueError("what went wrong")
if part == "babbles":
    print("no JSON")
    sys.exit()
if part == "skips":
    print(json.dumps({"skipped": "for a reason"}))
    sys.exit()
print(json.dumps({"checks": [{"what": "it holds", "passed": part != "wrong"}],
                  "figures": [{"label": part, "value": 1.5, "unit": "s"}]}))
"""
COMMAND = [sys.executable, "-c", CHILD]


def step(*parts: str, seconds: float = 60, name: str = "tiny") -> list[tuple[Step, str]]:
    made = Step(name, "tries the runner", "none", parts, seconds)
    return [(made, part) for part in parts]


@pytest.fixture
def runner(tmp_path: Path) -> Callable[[], Runner]:
    """Makes a runner as each call of the command does."""
    (tmp_path / "out").mkdir()
    said: list[str] = []

    def make(**options: bool) -> Runner:
        return Runner(
            tmp_path / "out", MACHINE, ["a card"], said.append, command=COMMAND, **options
        )

    return make


def started(runner: Runner) -> list[str]:
    return (runner.folder / "started").read_text().split()


def kept(runner: Runner) -> Card:
    return read_record(results_file(runner.folder), Card)


def test_each_way_to_end_is_kept_and_the_next_part_goes_on(runner: Callable[[], Runner]) -> None:
    with orderly():
        runner().run(step("works", "wrong", "crashes", "raises", "babbles", "skips", "last"))
    parts = {each.part: each for each in kept(runner()).parts}
    assert {name: (part.status, part.wrong) for name, part in parts.items()} == {
        "works": ("done", False),
        "wrong": ("done", True),
        "crashes": ("failed", True),
        "raises": ("failed", True),
        "babbles": ("failed", True),
        "skips": ("skipped", False),
        "last": ("done", False),
    }
    assert "SIGSEGV" in parts["crashes"].message
    assert "ValueError: what went wrong" in parts["raises"].message
    assert "NOT so: it holds" in summary(parts["wrong"])
    assert parts["works"].outcome.figures == (Figure("works", 1.5, "s"),)


def test_a_part_that_hangs_is_killed_with_all_that_it_started(runner: Callable[[], Runner]) -> None:
    with orderly():
        runner().run([*step("hangs", seconds=2), *step("works")])
    hung, works = kept(runner()).parts
    assert (hung.status, hung.message) == ("limit", "killed after 2 s")
    assert works.status == "done"
    assert not Path(f"/proc/{(runner().folder / 'pid').read_text()}").exists()


def test_a_later_call_does_what_is_lacking(runner: Callable[[], Runner]) -> None:
    parts = step("works", "wrong", "last")
    with orderly():
        runner().run(parts[:1])
        runner().run(parts)
        runner().run(parts)
    assert started(runner()) == ["works", "wrong", "last"]
    again = runner()
    again.forget(parts[1:2])
    assert again.lacking(parts) == parts[1:2]
    with orderly():
        again.run(parts)
    assert started(again) == ["works", "wrong", "last", "wrong"]
    assert {each.part for each in kept(again).parts} == {"works", "wrong", "last"}


def test_results_of_one_model_of_card_are_not_gone_on_with_on_another(
    runner: Callable[[], Runner],
) -> None:
    first = runner()
    first.run(step("works"))
    with pytest.raises(BenchError, match="made on a card, and here is another card"):
        Runner(first.folder, MACHINE, ["another card"], print, command=COMMAND)
    assert len(kept(first).parts) == 1
    Runner(first.folder, MACHINE, ["a card", "a card"], print, command=COMMAND)


CUT = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.bench.test_card import COMMAND, MACHINE, step
from prunectl.bench.card.runner import Runner
from prunectl.bench.cleanup import orderly
with orderly():
    runner = Runner(Path(sys.argv[1]), MACHINE, ["a card"], print, command=COMMAND)
    runner.run(step("works", "hangs", "last", seconds=600))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_call_that_is_cut_off_leaves_whole_results_and_no_process(
    runner: Callable[[], Runner], number: signal.Signals
) -> None:
    """A part that ignores its parent's end dies all the same; what it started in a session of its own is adopted and
    killed where the runner can still act."""
    folder = runner().folder
    process = subprocess.Popen([sys.executable, "-c", CUT, str(folder)], stdout=subprocess.DEVNULL)
    pid = _wait_for(folder / "pid")
    parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    process.send_signal(number)
    assert process.wait(60) == (130 if number == signal.SIGTERM else -number)
    assert _gone(parent)
    if number == signal.SIGTERM:
        assert _gone(pid)
    else:
        os.kill(pid, signal.SIGKILL)
    assert [each.part for each in kept(runner()).parts] == ["works"]
    lacking = [part for _, part in runner().lacking(step("works", "hangs", "last"))]
    assert lacking == ["hangs", "last"]


def _wait_for(path: Path) -> int:
    until = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(path.read_text())


def _gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_results_of_small_sizes_do_not_mix_with_others(runner: Callable[..., Runner]) -> None:
    with orderly():
        runner(quick=True).run(step("works"))
    with pytest.raises(BenchError, match="made with --quick: give another --out, or --fresh"):
        runner()
    reset(runner(quick=True).folder)
    assert not runner().card.parts


def test_a_folder_that_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("years")
    reset(tmp_path)
    assert (tmp_path / "work" / "thesis.tex").exists()


# --- steps and commands ---------------------------------------------------------------------------


def test_steps_are_chosen_by_name_or_with_a_part() -> None:
    known = all_steps()
    assert len({step.name for step in known}) == len(known)
    assert [part for _, part in chosen(known, ["slots"])] == ["2", "4", "2-processes"]
    assert [(s.name, part) for s, part in chosen(known, ["slots/4", "doctor"])] == [
        ("doctor", "doctor"),
        ("slots", "4"),
    ]
    with pytest.raises(UnknownName, match="did you mean 'memory'"):
        chosen(known, ["memry"])
    with pytest.raises(UnknownName, match="allowed: slots/2, slots/4, slots/2-processes"):
        chosen(known, ["slots/3"])


def test_every_step_has_its_module() -> None:
    for each in all_steps():
        assert callable(import_module(each.module).run)
        assert len(set(each.parts)) == len(each.parts) > 0


def test_every_row_of_the_table_is_a_part() -> None:
    assert part_of("resnet-20", "B  DataLoader, 8 workers, TF32") == "resnet-20-B"
    assert part_of("resnet-20", "   stage: graphs, events") == "resnet-20-stage"
    assert part_of("resnet-20", "E' E in bf16") == "resnet-20-E-bf16"
    assert part_of("resnet-20", "G  F in 8 slots") == "resnet-20-G8"
    (table,) = (each for each in all_steps() if each.name == "table")
    assert len(table.parts) == 4 * 9


def test_the_command_lists_and_explains(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    listed = prunectl("bench", "card", "--list", *out)
    assert "0 of 36" in listed.stdout
    wrong = prunectl("bench", "card", "--only", "kernls", *out)
    assert (wrong.returncode, "did you mean 'kernels'?" in wrong.stderr) == (2, True)
    nothing = prunectl("bench", "card", "--table", *out)
    assert (nothing.returncode, "has no results" in nothing.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_tables_for_the_readme(tmp_path: Path) -> None:
    def part(step: str, name: str, outcome: Outcome, message: str = "") -> PartResult:
        status = "failed" if message else "done"
        return PartResult(step, name, status, 1.0, 0.0, "cuda:0", outcome, message)

    def timed(seconds: float) -> Outcome:
        return Outcome(figures=(Figure("x", seconds, "s/epoch"), Figure("x, fastest", 0.1, "s")))

    card = Card(
        MACHINE,
        ("a card",),
        False,
        (
            part("table", "resnet-20-B", timed(2.0)),
            part("table", "resnet-20-E", timed(0.4)),
            part("costs", "resnet-20-fp32", timed(1.234)),
            part("slots", "2", Outcome((Check("the same | bits", False, "2 of 3"),))),
            part("slots", "4", Outcome(), "killed by SIGSEGV\nlast line"),
        ),
    )
    write_record(results_file(tmp_path), card)
    lines = prunectl("bench", "card", "--table", "--out", tmp_path).stdout.splitlines()
    assert "| E  D as one CUDA graph | 0.400 (5.00 ×) |  |  |  |" in lines
    assert "| costs/resnet-20-fp32 | x | 1.23 s/epoch |" in lines
    assert "| slots/2 | the same / bits | **no** | 2 of 3 |" in lines
    assert "| slots/4 | runs to its end | **no** | last line |" in lines
    assert not any("fastest" in line for line in lines)
    assert markdown(card).splitlines() == lines
    as_json = prunectl("bench", "card", "--table", "--json", "--out", tmp_path)
    assert as_json.returncode == 1
    assert len(json.loads(as_json.stdout)["parts"]) == 5


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1234"), (12.34, "12.3"), (1.234, "1.23"), (0.1, "0.100"), (None, "–")],
)
def test_numbers_have_three_or_four_digits(value: float | None, text: str) -> None:
    assert shown(value) == text


# --- comparisons ----------------------------------------------------------------------------------

CPU = Order("slots", "2", "", "cpu", quick=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StorePaths:
    """A tiny study of the CPU, as the steps compare on a card."""
    folder = tmp_path_factory.mktemp("study")
    plan = folder / "plan.toml"
    plan.write_text(studies.plan_text(replace(studies.QUICK_WORK, train=128, epochs=3), 1, 1))
    return studies.finish(plan, folder / "store", "cpu", "--slots", "1")


@pytest.fixture
def other(finished: StorePaths, tmp_path: Path) -> StorePaths:
    """A copy of it."""
    shutil.copytree(finished.root, tmp_path / "store")
    return StorePaths(tmp_path / "store")


def test_a_copy_has_the_same_bits(finished: StorePaths, other: StorePaths) -> None:
    check = studies.same_bits(finished, other)
    assert (check.passed, check.found) == (True, "2 of 2 stages alike")


def test_a_single_bit_makes_a_difference(finished: StorePaths, other: StorePaths) -> None:
    stage = studies.stages(other)[0]
    state = load_state(stage.final)
    name = min(state.weights)
    state.weights[name].view(-1).view(torch.uint8)[0] ^= 1
    save_state(stage.final, state, stage.key)
    check = studies.same_bits(finished, other)
    assert not check.passed
    assert "1 of 2" in check.found


def test_a_stage_that_is_lacking_makes_a_difference(
    finished: StorePaths, other: StorePaths
) -> None:
    studies.stages(other)[1].result.unlink()
    assert not studies.same_bits(finished, other).passed


def test_a_run_that_fails_is_told(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('name = "x"\nseds = [0]\n')
    with pytest.raises(BenchError, match=r"ended with 2: .*seds"):
        studies.finish(plan, tmp_path / "store", "cpu")


def trial(strategy: str, seed: int, *path: str) -> Trial:
    return Trial("t", "c", seed, path, ("0",) * len(path), strategy=strategy)


def scored(scores: dict[str, float]) -> dict[str, Result]:
    return {key: Result(key=key, score=score) for key, score in scores.items()}


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (1.0, True), (4.0, False)])
def test_scores_are_held_against_the_deviation_of_seeds(shift: float, passed: bool) -> None:
    """Seeds deviate by one point; three of these are let pass."""
    trials = tuple(trial("a", seed, str(seed)) for seed in range(3))
    here = {"0": 90.0, "1": 91.0, "2": 92.0}
    there = {key: score + shift for key, score in here.items()}
    (check,) = numbers.scores_apart(trials, scored(here), scored(there))
    assert check.passed is passed
    assert "deviation 1.00" in check.found


def test_a_diverged_stage_is_not_within_anything() -> None:
    trials = tuple(trial("a", seed, str(seed)) for seed in range(2))
    here = {"0": 90.0, "1": 91.0}
    (check,) = numbers.scores_apart(trials, scored(here), scored({**here, "0": float("nan")}))
    assert not check.passed


def test_the_quickstart_of_the_card_is_that_of_the_plans() -> None:
    """But for strict fp32, which is its own default, so that keys are the same."""
    text = (ROOT / "plans/quickstart.toml").read_text()
    ours = numbers.expansion(replace(CPU, quick=False))
    assert ours.stages.keys() == expand(loads(text), None).stages.keys()


def test_first_steps_agree_with_themselves_and_not_with_other_seeds() -> None:
    order = replace(CPU, step="numbers", part="steps")
    found = numbers.expansion(order)
    dense = found.stages[found.trials[0].path[0]]
    losses, weights = numbers.trained(dense, "cpu", 3)
    again, same = numbers.trained(dense, "cpu", 3)
    assert losses == again
    assert all(numbers.distance(weights[name], same[name]) == 0 for name in weights)
    others, _ = numbers.trained(replace(dense, seed=9), "cpu", 3)
    assert max(map(numbers.relative, losses, others)) > numbers.TOLERANCE
    assert numbers.relative(1.0, float("nan")) == float("inf")


def test_pytests_summary_is_read() -> None:
    lines = [
        "FAILED tests/ml/test_x.py::test_a - AssertionError: no",
        "ERROR tests/ml/test_x.py::test_b",
        "1 failed, 12 passed, 3 skipped, 1 error in 3.21s",
    ]
    assert tests.failures(lines) == [
        ("tests/ml/test_x.py::test_a", "AssertionError: no"),
        ("tests/ml/test_x.py::test_b", ""),
    ]
    assert [tests.count(lines[-1], each) for each in ("passed", "skipped", "failed")] == [12, 3, 1]


def test_tests_that_need_a_card_are_found_and_skipped_without_a_source_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "ml/test_train_gpu.py" in steps.test_files()
    monkeypatch.setattr(steps, "TESTS", tmp_path)
    monkeypatch.setattr(tests, "TESTS", tmp_path)
    assert steps.test_files() == ["none"]
    assert "no source tree" in tests.run(replace(CPU, step="tests", part="none")).skipped


def test_a_test_file_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device its tests skip themselves."""
    outcome = tests.run(replace(CPU, step="tests", part="ml/test_task_seam.py"))
    assert outcome.checks[0].passed, outcome.checks
    assert "1 skipped" in outcome.checks[0].found or "1 passed" in outcome.checks[0].found


def test_mps_that_does_not_start_is_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A daemon that is not there, and one that ends with an error."""

    def work() -> Outcome:
        pytest.fail("it was done without MPS")

    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no nvidia-cuda-mps-control" in packing.under_mps(work).skipped
    daemon = tmp_path / packing.CONTROL
    daemon.write_text("#!/bin/sh\nexit 3\n")
    daemon.chmod(0o755)
    assert "MPS does not work here" in packing.under_mps(work).skipped

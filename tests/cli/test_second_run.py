"""`run` where another scheduler has the store: it waits for its own plans, and says what becomes of them.

The other scheduler is a process with workers that train nothing and do as the test asks, the second run the real
command; where it takes over, it trains for real.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunectl.cli.support.handover import hand_over
from prunectl.plan.expand import Expansion, expand
from prunectl.plan.load import load
from prunectl.spec.key import stage_key
from prunectl.store import requests
from prunectl.store.holder import PATIENCE, patience_with
from prunectl.store.locks import Lock
from prunectl.store.records.plan import write_plans
from prunectl.store.records.requests import AddPlan, Cancel, Hold, Stop
from prunectl.worker.checkpoint import load_state
from tests.cli.conftest import TINY, Done, begin, prunectl
from tests.support.records import events
from tests.support.scheduler_lab import Plan, Store, dense, eventually, exists

Processes = list[subprocess.Popen[str]]
OTHER = Plan("other")
"""What the first scheduler is busy with: a stage that stands still half-way."""
BUSY = OTHER.trial(dense(0))


class Command:
    """The second run: of a plan with one seed and three stages, which the store has and so needs no check by torch."""

    def __init__(self, store: Store, folder: Path, name: str = "mine", seed: int = 0) -> None:
        self.file = folder / f"{name}.toml"
        text = TINY.replace('name = "tiny"', f'name = "{name}"')
        text = text.replace("seeds = [0, 1]", f"seeds = [{seed}]")
        self.file.write_text(text.replace('["fine-tune", "weight-rewind"]', '["fine-tune"]'))
        self.plan: Expansion = expand(load(self.file), None)
        self.words = ("run", self.file, "--store", store.paths.root, "--plain", "--devices", "cpu")
        self.path = self.plan.trials[0].path
        self._store = store
        write_plans(store.paths, [self.plan.study()])

    def begin(self, processes: Processes, *more: str, **options: Any) -> subprocess.Popen[str]:
        """Start it."""
        process = begin(*self.words, *more, **options)
        processes.append(process)
        return process

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return prunectl(*self.words, *more)

    @property
    def done(self) -> bool:
        """Whether all its stages have results."""
        return all(self._store.paths.stage(key).result.exists() for key in self.path)

    @property
    def asked(self) -> bool:
        """Whether its request is on the disk."""
        asked = (each for each in requests.pending(self._store.paths) if isinstance(each, AddPlan))
        return any(request.plan == self.plan.digest for request in asked)

    @property
    def taken(self) -> bool:
        """Whether a scheduler has accepted it."""
        return any(record["plan"] == self.plan.digest for record in self._store.log("queued"))


@pytest.fixture
def mine(store: Store, tmp_path: Path) -> Command:
    return Command(store, tmp_path)


Scheduler = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def scheduler(
    store: Store, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scheduler:
    """Starts the first scheduler, whose workers do with stages as `modes` says; returns when it is busy."""
    monkeypatch.setenv("PRUNECTL_LEASES", str(tmp_path / "leases"))

    def start(**modes: str) -> subprocess.Popen[str]:
        store.fake(modes={stage_key(dense(0)): "slow", **modes})
        process = store.process(store.save(OTHER))
        processes.append(process)
        eventually(lambda: store.trace("start"))
        return process

    return start


def test_it_waits_for_its_own_plan_alone(store: Store, mine: Command, scheduler: Scheduler) -> None:
    scheduler()
    done = mine.run()
    assert done.returncode == 0, done.stderr
    assert requests.alive(store.paths), "the other plan goes on"
    assert mine.done
    assert "mine: 1 trials, 3 stages, 0 of them done" in done.stderr
    assert re.search(r"100\.0%.*done 3/3  fine-tune 0.75 · seed 0  90\.00 %", done.stderr)
    assert "trials: 1 done" in done.stderr
    assert "fine-tune" in done.stdout
    assert "90.00 (1)" in done.stdout


def test_its_code_is_its_own_plans(store: Store, mine: Command, scheduler: Scheduler) -> None:
    """1 where its own plan fails, while that of the other is still running."""
    scheduler(**{mine.path[1]: "nonfinite"})
    done = mine.run()
    assert done.returncode == 1, done.stderr
    assert "first failure: nonfinite: weights are not finite" in done.stderr
    assert "trials: 1 failed" in done.stderr
    assert requests.alive(store.paths)


def test_another_plans_failure_is_not_its_own(
    store: Store, mine: Command, scheduler: Scheduler
) -> None:
    """Neither in the command that waits, nor in the one that is the scheduler."""
    failing = Plan("failing")
    failing.trial(dense(1))
    scheduler(**{stage_key(dense(1)): "nonfinite"})
    assert requests.request(store.paths, AddPlan(plan=store.save(failing))).ok
    eventually(lambda: store.log("stage_failed"))
    done = mine.run()
    assert done.returncode == 0, done.stderr
    assert "not finite" not in done.stderr


def test_the_scheduler_exits_with_the_code_of_its_own_plan(
    store: Store, mine: Command, processes: Processes
) -> None:
    """A plan was added whose network real workers do not know."""
    process = mine.begin(processes)
    eventually(lambda: mine.taken, 30)
    assert requests.request(store.paths, AddPlan(plan=store.save(OTHER))).ok
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert store.log("stage_failed")[-1]["final"]
    assert "other: dense · seed 0: failed" in err, "by its plan's name"
    assert "fine-tune" in out


def silent(command: Command, *more: str) -> str:
    """Run it beside a scheduler that does not answer; what it says on ending, which it does within seconds."""
    started = time.monotonic()
    done = command.run(*more)
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - started < 15
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_stopped_scheduler_is_named_and_runs_the_plan_when_it_goes_on(
    store: Store, mine: Command, scheduler: Scheduler
) -> None:
    process = scheduler()
    process.send_signal(signal.SIGSTOP)
    said = silent(mine)
    assert f"the scheduler with pid {process.pid} on {socket.gethostname()} does not answer" in said
    assert re.search(r"its last heartbeat was at [-\d]+ [:\d]+, \d+s ago", said)
    assert f"`kill -CONT {process.pid}` lets it go on" in said
    assert "The plan is kept" in said
    assert mine.asked
    for words in (("stop",), ("cancel", "plan=mine")):
        done = prunectl(*words, "--store", store.paths.root)
        assert done.returncode == 2
        assert f"`kill -CONT {process.pid}`" in done.stderr
        assert "taken back" in done.stderr
    assert len(requests.pending(store.paths)) == 1
    process.send_signal(signal.SIGCONT)
    eventually(lambda: mine.done, 30)
    assert not requests.pending(store.paths)


@pytest.mark.slow
def test_the_next_run_of_any_plan_runs_what_a_killed_scheduler_never_answered(
    store: Store, mine: Command, scheduler: Scheduler, tmp_path: Path
) -> None:
    process = scheduler()
    process.send_signal(signal.SIGSTOP)
    silent(mine)
    process.kill()
    process.wait()
    another = Command(store, tmp_path, "another", seed=1)
    done = another.run()
    assert done.returncode == 0, done.stderr
    assert another.done
    assert mine.done
    assert re.search(r"done \d/3  mine: fine-tune 0.75 · seed 0", done.stderr)


def test_a_run_with_nothing_to_do_runs_what_was_handed_over(
    store: Store, mine: Command, tmp_path: Path
) -> None:
    another = Command(store, tmp_path, "another", seed=1)
    assert store.run(another.plan.digest).ok
    asked = requests.add_plan(store.paths, mine.plan.digest)
    assert requests.add_plan(store.paths, mine.plan.digest) == asked, "asked for once"
    done = another.run()
    assert done.returncode == 0, done.stderr
    assert mine.done
    assert not requests.pending(store.paths)


def test_a_run_with_nothing_to_do_runs_what_a_killed_scheduler_had_accepted(
    store: Store, mine: Command, scheduler: Scheduler, tmp_path: Path
) -> None:
    another = Command(store, tmp_path, "another", seed=1)
    assert store.run(another.plan.digest).ok
    process = scheduler(**{mine.path[0]: "slow"})
    eventually(lambda: requests.alive(store.paths))
    assert requests.request(store.paths, AddPlan(plan=mine.plan.digest)).ok
    # The answer is in the log before the request's file is gone.
    eventually(lambda: not requests.pending(store.paths))
    process.kill()
    process.wait()
    assert requests.plans_wait(store.paths)
    done = another.run()
    assert done.returncode == 0, done.stderr
    assert mine.done
    assert "all 1 trials are done" in another.run().stderr, "and then nothing is left"


@pytest.mark.slow
def test_it_takes_over_from_a_scheduler_that_is_killed(
    store: Store, mine: Command, processes: Processes, tmp_path: Path
) -> None:
    """Both are real; the result is that of an undisturbed run, to the last bit."""
    alone = Store(tmp_path / "alone")
    assert Command(alone, tmp_path).run().returncode == 0
    first = Command(store, tmp_path, "first", seed=1)
    scheduler = first.begin(processes, "--set", 'recipe.length="4000ep"', "--slots", "2")
    eventually(lambda: store.log("dispatched"), 30)
    process = mine.begin(processes)
    eventually(lambda: mine.taken, 30)
    started = store.paths.stage(mine.path[0]).events
    eventually(lambda: any(record["type"] == "start" for record in events(started)), 30)
    scheduler.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "the scheduler was killed; this command goes on" in err
    assert len(store.log("run_started")) == 2
    for key in mine.path:
        found, expected = (each.paths.stage(key).final for each in (store, alone))
        weights = load_state(expected).weights
        assert all(value.equal(weights[name]) for name, value in load_state(found).weights.items())


def test_a_request_that_meets_the_end_of_a_scheduler_is_not_lost(
    store: Store, mine: Command, processes: Processes
) -> None:
    """It has looked for requests for the last time, and still has the lock."""
    with Lock(store.paths.scheduler_lock):
        process = mine.begin(processes)
        eventually(lambda: mine.asked, 30)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "the scheduler ended before it answered; this command goes on" in err
    assert mine.done
    assert not requests.pending(store.paths)


def test_a_scheduler_that_is_stopping_puts_it_off(
    store: Store, mine: Command, scheduler: Scheduler, processes: Processes
) -> None:
    """Who asks after a stop does not mean that stop: the command waits for the end and takes over."""
    scheduler(**{stage_key(dense(0)): "deaf"})
    assert requests.request(store.paths, Stop()).ok
    done = mine.run()
    assert done.returncode == 0, done.stderr
    assert "stopping; the next scheduler runs the plan" in done.stderr
    assert "the scheduler ended (stopped); this command goes on" in done.stderr
    assert mine.done
    assert not requests.pending(store.paths)


def test_a_stop_means_the_plans_that_were_accepted(
    store: Store, mine: Command, scheduler: Scheduler, processes: Processes
) -> None:
    scheduler(**{mine.path[1]: "slow"})
    process = mine.begin(processes)
    eventually(lambda: len(store.trace("start")) == 3, 30)
    assert requests.request(store.paths, Stop()).ok
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "the scheduler was stopped" in err
    assert f"the same command goes on: prunectl run {mine.file}" in err
    assert not requests.alive(store.paths)
    assert len(store.log("run_started")) == 1


def test_a_scheduler_has_the_time_that_a_long_plan_takes_it(
    store: Store, mine: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To be told to kill it would be bad advice."""
    allowed = []

    def answer_to(paths: object, request: str, timeout: float, sleep: object) -> None:
        allowed.append(timeout)

    monkeypatch.setattr(requests, "answer_to", answer_to)
    assert hand_over(store.paths, [mine.plan.study()]) == []
    assert allowed == [patience_with(len(mine.path))]
    assert patience_with(0) == PATIENCE
    assert patience_with(100_000) >= 60


def test_ctrl_c_ends_the_waiting_alone(
    store: Store, mine: Command, scheduler: Scheduler, processes: Processes
) -> None:
    first = scheduler(**{mine.path[1]: "slow"})
    process = mine.begin(processes)
    eventually(lambda: len(store.trace("start")) == 3, 30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"mine is kept: the scheduler with pid {first.pid} on" in err
    assert "Traceback" not in err
    assert not store.trace("interrupted")
    assert exists(first.pid)


@pytest.mark.parametrize(("action", "state"), [(Cancel, "cancelled"), (Hold, "held")])
def test_trials_that_were_cancelled_or_held_before_are_not_waited_for(
    store: Store,
    mine: Command,
    scheduler: Scheduler,
    action: type[Cancel | Hold],
    state: str,
) -> None:
    (trial,) = mine.plan.trials
    scheduler()
    assert requests.request(store.paths, action(trials=(trial.id,))).ok
    done = mine.run()
    assert done.returncode == 0, done.stderr
    assert f"trials: 1 {state}" in done.stderr


@pytest.mark.slow
def test_a_scheduler_that_falls_silent_is_named_and_waited_for(
    store: Store, mine: Command, scheduler: Scheduler, processes: Processes, tmp_path: Path
) -> None:
    first = scheduler(**{mine.path[1]: "slow"})
    log = tmp_path / "said"
    with log.open("w") as file:
        process = mine.begin(processes, stderr=file)
    eventually(lambda: len(store.trace("start")) == 3, 30)
    first.send_signal(signal.SIGSTOP)
    eventually(lambda: f"`kill -CONT {first.pid}` lets it go on" in log.read_text())
    time.sleep(1)
    assert process.poll() is None
    assert log.read_text().count("does not answer") == 1
    first.send_signal(signal.SIGCONT)
    assert requests.request(store.paths, Stop()).ok
    assert process.wait(30) == 130


def test_detached_it_returns_when_the_plan_is_accepted(
    store: Store, mine: Command, scheduler: Scheduler
) -> None:
    process = scheduler(**{mine.path[2]: "slow"})
    done = mine.run("--detach")
    assert done.returncode == 0, done.stderr
    assert f"pid {process.pid}" in done.stderr
    assert "prunectl status" in done.stderr
    assert mine.taken
    assert len(store.log("run_started")) == 1
    process.send_signal(signal.SIGSTOP)
    assert "does not answer" in silent(mine, "--detach")


@pytest.mark.slow
def test_detached_it_waits_in_the_background_for_a_scheduler_that_is_stopping(
    store: Store, mine: Command, scheduler: Scheduler
) -> None:
    scheduler(**{stage_key(dense(0)): "deaf"})
    assert requests.request(store.paths, Stop()).ok
    done = mine.run("--detach")
    assert done.returncode == 0, done.stderr
    assert "running in the background" in done.stderr
    eventually(lambda: mine.done, 30)
    eventually(lambda: not requests.alive(store.paths))


@pytest.mark.slow
def test_of_two_that_take_over_one_waits_on(
    store: Store, mine: Command, processes: Processes, tmp_path: Path
) -> None:
    """Every stage is trained once, by one scheduler or one after the other."""
    yours = Command(store, tmp_path, "yours", seed=1)
    with Lock(store.paths.scheduler_lock):
        both = [command.begin(processes) for command in (mine, yours)]
        eventually(lambda: mine.asked and yours.asked, 30)
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for key in (*mine.path, *yours.path):
        records = events(store.paths.stage(key).events)
        assert [record["type"] for record in records].count("start") == 1
    assert "trials: 1 done" in said[0]
    assert "trials: 1 done" in said[1]
    assert not requests.pending(store.paths)


def test_the_viewer_opens_once_the_plan_is_accepted(
    store: Store,
    mine: Command,
    scheduler: Scheduler,
    here: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler(**{mine.path[1]: "slow"})
    opened = []
    monkeypatch.setattr("prunectl.cli.run.on_terminal", lambda: True)
    monkeypatch.setattr("prunectl.tui.open_viewer", lambda paths: opened.append(mine.taken))
    done = here(*(word for word in mine.words if word != "--plain"))
    assert done.returncode == 0, done.stderr
    assert opened == [True]
    assert len(store.log("run_started")) == 1

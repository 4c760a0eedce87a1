"""Snapshots, results and logs made by hand, and a viewer that looks at them instead of at a store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import textual._wait
from textual.widgets._footer import FooterKey

from prunectl.errors import QueryError
from prunectl.monitor.snapshot import (
    CoverageView,
    EventView,
    FailureView,
    PlanView,
    QueuedView,
    RunningView,
    SchedulerView,
    Snapshot,
    TrialView,
)
from prunectl.results.leaderboard import BOARD_LABELS, ROW_LABELS, boards
from prunectl.results.plan_claims import PlanClaim
from prunectl.results.samples import Sample
from prunectl.spec.lr_schedule import constant
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import DataSettings, NetworkSettings, TrainSettings
from prunectl.spec.stage import Stage
from prunectl.spec.state import State
from prunectl.spec.task import DEFAULT_TASK, KNOWN
from prunectl.spec.trial import Trial
from prunectl.store.db.query import Result
from prunectl.store.db.replica import Table
from prunectl.store.paths import StorePaths
from prunectl.store.records import events as event
from prunectl.store.records import result as outcome
from prunectl.store.records.base import LogRecord
from prunectl.store.records.heartbeat import DeviceBeat
from prunectl.store.requests import Answer
from prunectl.tui.app import Viewer
from prunectl.tui.keymap import Keymap
from prunectl.tui.requests import Request
from prunectl.tui.results_reader import Boards, CellKey, SeedPoint, SeedsKey
from prunectl.tui.screens.base import View
from prunectl.tui.screens.trial import TrialScreen
from prunectl.tui.trial_detail import Detail, detail_of

NOW = 1_763_899_200.0  # 2025-11-23 12:00:00 UTC
STORE = "/data/store"
SPARSITIES = ("0", "0.5", "0.75", "0.9")
STRATEGIES = ("fine-tune", "weight-rewind", "lr-rewind")
NAN = float("nan")


def labels(strategy: str) -> dict[str, str]:
    """Of a trial of the made-up plan."""
    return {
        "network": "resnet-20",
        "dataset": "cifar10",
        "recipe": "mikler2021",
        "strategy": strategy,
        "schedule": "iterative 0.5",
        "criterion": "magnitude",
        "scope": "global",
        "granularity": "weight",
        "retrain": "full",
    }


def trial(
    strategy: str, seed: int, state: str = "waiting", iteration: int = 1, **more: Any
) -> TrialView:
    """A trial of the plan; its id tells strategy and seed."""
    number = STRATEGIES.index(strategy) * 10 + seed
    path = (f"{seed:04x}" + "d" * 60, *(f"{number:04x}{k}" + "e" * 59 for k in range(1, 4)))
    made = Trial(
        f"{number:04x}abcd{number:08x}",
        f"{STRATEGIES.index(strategy):016x}",
        seed,
        path,
        SPARSITIES,
        "study",
        **labels(strategy),
    )
    fields: dict[str, Any] = {
        "trial": made,
        "state": State(state),
        "iteration": iteration,
        "steps": 4000,
        "steps_done": 4000 if state == "done" else 1000 * iteration,
    }
    return TrialView(**(fields | more))


def trials(**states: str) -> tuple[TrialView, ...]:
    """Nine trials; `fine_tune_0="done"` sets the state of one."""
    out = []
    for strategy in STRATEGIES:
        for seed in range(3):
            state = states.get(f"{strategy.replace('-', '_')}_{seed}", "waiting")
            iteration = 3 if state == "done" else 1
            reason = {"failed": "oom: out of memory on cuda:0", "held": "held"}.get(state, "")
            out.append(trial(strategy, seed, state, iteration, reason=reason))
    return tuple(out)


def running(view: TrialView, **more: Any) -> RunningView:
    """A stage at work for a trial."""
    fields: dict[str, Any] = {
        "key": view.trial.path[view.iteration],
        "trials": (view.trial.id,),
        "labels": {**view.trial.labels, "seed": str(view.trial.seed)},
        "iteration": view.iteration,
        "iterations": 3,
        "sparsity": view.trial.sparsities[view.iteration],
        "replay": False,
        "step": 400,
        "steps": 1000,
        "device": "cuda:0",
        "since": NOW - 60,
        "loss": 0.21,
        "score": 93.5,
        "eta": 184.0,
        "epoch": event.Epoch(loss=0.3, train_loss=0.3, seq=7),
        "scores": (80.0, 85.5, 88.0, 90.25),
    }
    return RunningView(**(fields | more))


def assembled(views: tuple[TrialView, ...], **more: Any) -> Snapshot:
    """A snapshot of these trials."""
    counts: dict[str, int] = {}
    for view in views:
        counts[view.state] = counts.get(view.state, 0) + 1
    steps, done = sum(view.steps for view in views), sum(view.steps_done for view in views)
    coverage = tuple(
        CoverageView("study", labels(strategy), sparsity,
                     sum(v.state == "done" for v in views if v.trial.strategy == strategy), 3,
                     sum(v.state == "running" for v in views if v.trial.strategy == strategy) if k == 1 else 0,
                     sum(v.state == "failed" for v in views if v.trial.strategy == strategy))
        for strategy in STRATEGIES
        for k, sparsity in enumerate(SPARSITIES[1:], 1)
    )  # fmt: skip
    waiting = [view for view in views if view.state in ("waiting", "held")]
    fields: dict[str, Any] = {
        "time": NOW,
        "store": STORE,
        "scheduler": SchedulerView(True, age=1.0, run="r1", pid=7, eta=NOW + 3600),
        "plans": (PlanView("study", "f" * 16, True, counts, 30, 10, steps, done),),
        "counts": counts,
        "queue": tuple(
            QueuedView(v.trial.id, v.trial.path[1], 1, 600.0, v.reason) for v in waiting
        ),
        "trials": views,
        "coverage": coverage,
    }
    return Snapshot(**(fields | more))


def device(**more: Any) -> DeviceBeat:
    """A GPU that is busy."""
    return DeviceBeat(**({
        "id": "cuda:0", "name": "NVIDIA H200", "kind": "cuda", "uuid": "GPU-1", "slots": 2, "state": "open",
        "reason": "", "running": ("a", "b"), "utilisation": 78.0, "memory_used": 21 << 30,
        "memory_total": 141 << 30, "temperature": 62.0, "power": 412.0,
    } | more))  # fmt: skip


FIRST = trial("fine-tune", 0).trial
EVENTS = (
    EventView(NOW - 300, "run_started", "run r1 started on cuda:0"),
    EventView(NOW - 200, "dispatched", "started on cuda:0", FIRST.path[1], (FIRST.id,)),
    EventView(NOW - 100, "stage_done", "done, 92.31 %", FIRST.path[1], (FIRST.id,)),
)


def busy() -> Snapshot:
    """A run under way: two stages, of which one has diverged, some done, one held."""
    views = trials(fine_tune_0="done", fine_tune_1="done", fine_tune_2="running", weight_rewind_0="running",
                   lr_rewind_2="held")  # fmt: skip
    by = {view.trial.id: view for view in views}
    first, second = by[trial("fine-tune", 2).trial.id], by[trial("weight-rewind", 0).trial.id]
    stages = (
        running(first),
        running(second, loss=None, epoch=event.Epoch(seq=3), scores=(80.0, 10.0)),
    )
    return assembled(views, running=stages, devices=(device(),), events=EVENTS)


def failed() -> Snapshot:
    """A run in which something failed."""
    views = trials(fine_tune_0="done", fine_tune_1="failed", fine_tune_2="cancelled")
    wrong = views[1].trial
    failure = FailureView(wrong.path[1], (wrong.id,), "oom", "out of memory on cuda:0",
                          "Traceback:\n  torch.OutOfMemoryError", "", 2, NOW - 50)  # fmt: skip
    happened = EventView(
        NOW - 50,
        "stage_failed",
        "failed, oom: out of memory on cuda:0",
        wrong.path[1],
        (wrong.id,),
    )
    return assembled(
        views, failures=(failure,), events=(*EVENTS, happened), devices=(device(state="drained"),)
    )


def left() -> Snapshot:
    """A store whose scheduler has ended, with all done but one."""
    states = {f"{s.replace('-', '_')}_{seed}": "done" for s in STRATEGIES for seed in range(3)}
    views = trials(**(states | {"lr_rewind_2": "interrupted"}))
    gone = SchedulerView(False, age=1260.0, ended=NOW - 1200)
    events = (*EVENTS, EventView(NOW - 1200, "run_ended", "run r1 stopped"))
    return assembled(views, scheduler=gone, events=events)


def nothing() -> Snapshot:
    """A store without plans."""
    return Snapshot(time=NOW, store=STORE, scheduler=SchedulerView(False))


STATES: dict[str, Callable[[], Snapshot]] = {
    "empty": nothing,
    "running": busy,
    "failed": failed,
    "no-scheduler": left,
}

# results


def board_row(
    strategy: str, iteration: int, mean: float | None, n: int = 3, **more: Any
) -> dict[str, Any]:
    """A row of the views `leaderboard` and `ranking`."""
    named = (
        labels(strategy) if strategy in STRATEGIES else labels("fine-tune") | {"strategy": strategy}
    )
    number = STRATEGIES.index(strategy) if strategy in STRATEGIES else 99
    delta = None if mean is None else mean - 92.5
    row = {name: named.get(name, "study") for name in (*BOARD_LABELS, *ROW_LABELS)}
    return row | {
        "plan": "study", "version": 1, "versions": 1, "current": True,
        "task": DEFAULT_TASK, "cell": f"{number:016x}", "iteration": iteration, "n": n, "planned": 3,
        "target_sparsity": float(SPARSITIES[iteration]), "mean": mean, "std": 0.21 if n > 1 else None,
        "ci": 0.52 if n > 1 else None, "delta": delta, "delta_ci": 0.3 if n > 1 else None, "flagged": 0,
        "rank": None, "best": False, "tied": False, "uneven": False, "independent": True, "diverged": 0, "collapsed": 0,
        "gap": None, "gap_std": None, "pairs": 0, "contenders": 3, "spread": 0.2, "spread_pairs": 3,
        "entry": f"{number:016x}", "selected": False,
        "sparsity": float(SPARSITIES[iteration]), "prunable": 268336.0, "resolution": 0.01,
        "kept_parameters": 27000.0, "parameters": 270000.0, "macs": 4.1e6, "macs_dense": 40.8e6,
        "compression": 10.0, "search_epochs": 182.0, "total_epochs": 364.0, "seconds": 641.0,
    } | more  # fmt: skip


def board_rows() -> list[dict[str, Any]]:
    """A board with a best, a tied, a partial, a flagged, a missing and an impossible number."""
    dense = board_row("dense", 0, 92.5, delta=None, delta_ci=None) | {"schedule": "dense"}
    return [
        dense,
        board_row("lr-rewind", 1, 92.9, rank=1, best=True),
        board_row("lr-rewind", 2, 92.4, rank=1, best=True),
        board_row("lr-rewind", 3, 91.25, n=2, rank=1),
        board_row("weight-rewind", 1, 92.7, rank=2, tied=True, gap=-0.2, gap_std=0.2, pairs=3),
        board_row("weight-rewind", 2, 92.1, rank=2),
        board_row("weight-rewind", 3, None, n=0, delta=None),
        board_row("fine-tune", 1, 92.2, rank=3),
        board_row("fine-tune", 2, 40.0, rank=3, flagged=1, diverged=1),
        board_row("fine-tune", 3, NAN, rank=None, flagged=3, diverged=3, std=NAN, delta=NAN),
    ]


def published(iteration: int) -> dict[CellKey, tuple[str, Sample]]:
    """A published number beside ours of `lr-rewind`."""
    cell = board_row("lr-rewind", iteration, 90.0)["cell"]
    theirs = Sample("resnet-20", "cifar10", "unstructured", "iterative", "iterative", 0.2, "lr-rewind",
                    0.5, 182.0, 3, 91.9, None, None, 91.7)  # fmt: skip
    return {("study", cell, iteration): ("renda2020", theirs)}


class MadeReplica:
    """Answers one question."""

    seconds = 0.08

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []

    def tables(self) -> list[Table]:
        """Two."""
        return [
            Table("leaderboard", True, None, ("plan", "mean")),
            Table("epochs", False, 61204, ("stage", "epoch")),
        ]

    def run(self, sql: str, limit: int, parameters: Any = None) -> Result:
        """Two rows; or an error for what says so."""
        self.asked.append((sql, dict(parameters or {})))
        if "wrong" in sql:
            raise QueryError("Binder Error: no such column")
        return Result(
            ("strategy", "mean"),
            ("VARCHAR", "DOUBLE"),
            [("lr-rewind", 92.9), ("[b]bold[/b]", NAN)],
            limit < 1,
        )

    def interrupt(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing to close."""


class MadeReader:
    """Reads what was made."""

    claims: tuple[PlanClaim, ...] = ()

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows = board_rows() if rows is None else rows
        self.made_replica = MadeReplica()
        self.has_results = True

    def boards(self) -> Boards:
        """The board with one published number beside it."""
        return Boards(tuple(boards(self.rows, KNOWN)), published(1), self.claims)

    def seeds(self, cell: SeedsKey) -> tuple[SeedPoint, ...]:
        """Three."""
        return tuple(SeedPoint(Seeds.of(seed), 92.0 + seed, None, seed < 2) for seed in range(3))

    def queries(self) -> dict[str, str]:
        """Two."""
        return {"best-per-cell": "SELECT 1", "time-per-strategy": "SELECT 2"}

    def replica(self) -> MadeReplica:
        """The copy."""
        return self.made_replica

    def logs(self) -> MadeReader:
        """Itself."""
        return self

    def detail(
        self, view: TrialView, varied: tuple[str, ...] = (), replay: str | None = None
    ) -> Detail:
        """Of logs as `records` makes them."""
        if not self.rows:
            return Detail()
        found = {
            key: records(iteration)
            for iteration, key in enumerate(view.trial.path[: view.iteration + 1])
        }
        network, data = NetworkSettings("resnet-20", (3, 32, 32), 10), DataSettings("cifar10", "f")
        stage = Stage(network, data, TrainSettings(), constant(0.1, 1000), 0)
        again = records(0) if replay else ()
        return detail_of(view, found, {view.trial.path[0]: stage}, varied, again)


def records(iteration: int) -> list[LogRecord]:
    """The log of a stage."""
    base = NOW - 4000 + 1000 * iteration
    out: list[LogRecord] = [event.Start(device="cuda:0", pid=7)]
    if iteration:
        layers = event.LayerCount("conv1", 400, 300), event.LayerCount("fc", 600, 200)
        pruned = {"accuracy_pruned": 61.2}
        out.append(
            event.Pruned(kept=500, prunable=1000, layers=layers, score_pruned=61.2, metrics=pruned)
        )
    out.append(event.Begin(score_start=10.0, metrics={"accuracy_start": 10.0}))
    for epoch in range(1, 5):
        score = 80.0 + 3 * epoch - iteration
        out.append(
            event.Epoch(
                epoch=epoch, step=250 * epoch, lr=0.1, loss=1.0 / epoch, train_loss=0.9 / epoch,
                score=score, metrics={"accuracy": score},
            )
        )  # fmt: skip
    end = 92.0 - iteration
    out.append(outcome.Result(score=end, metrics={"accuracy": end}, steps=1000, seconds=641.0))
    for number, record in enumerate(out):
        record.seq, record.attempt, record.time = number, 1, base + number
    return out


# the viewer


# A pilot waits after each key until the process is idle, which it looks at this often, s.
textual._wait.SLEEP_GRANULARITY = 0.004


class Given:
    """A source of snapshots: what is put in comes out, in turn."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self.waiting = list(snapshots)

    def poll(self) -> Snapshot | None:
        """The next one."""
        return self.waiting.pop(0) if self.waiting else None


class Harness:
    """A viewer on made-up snapshots, with the requests it sends."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        readonly: bool = False,
        rows: list[dict[str, Any]] | None = None,
        keys: Keymap | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.reader = MadeReader(rows)
        self.source = Given(snapshot)
        self.app = Viewer(
            StorePaths(Path(STORE)),
            readonly=readonly,
            keys=keys,
            source=lambda: self.source,
            interval=10.0,
        )
        self.app.send_request = self._ask  # type: ignore[assignment]
        self.app.reader = self.reader  # type: ignore[assignment]
        self.app.clock = lambda: NOW
        self.pilot: Any = None

    def _ask(self, request: Request) -> Answer:
        self.requests.append(request)
        return Answer(True, f"{request.do} was done")

    def play(
        self, story: Callable[[Harness], Awaitable[None]], size: tuple[int, int] = (120, 40)
    ) -> None:
        """Run the viewer and do what the story says."""

        async def run() -> None:
            async with self.app.run_test(size=size, notifications=True) as pilot:
                self.pilot = pilot
                await self.settle()
                await story(self)

        asyncio.run(run())

    async def settle(self) -> None:
        """Wait until all is shown."""
        for _ in range(2000):
            if self.source.waiting or self.app.snapshot is None:
                await asyncio.sleep(0.005)
        for _ in range(3):
            await self.pilot.pause(0.01)
            await self.app.workers.wait_for_complete()
        await self.pilot.pause(0.01)

    async def press(self, *keys: str) -> None:
        """Press keys and wait until all is shown."""
        await self.pilot.press(*keys)
        await self.settle()

    async def open_trial(self, trial: str) -> None:
        """Open a trial as the only one of its list."""
        self.app.push_screen(TrialScreen(trial, [trial]))
        await self.settle()

    async def change(self, snapshot: Snapshot) -> None:
        """Let the store be in another state."""
        self.source.waiting.append(replace(snapshot))
        self.app.poller.poll_now()
        await self.settle()

    def text(self) -> str:
        """What is on the screen, without colours."""
        strips = self.app.screen._compositor.render_strips()
        return "".join(strip.text.rstrip() + "\n" for strip in strips)

    @property
    def view(self) -> View:
        """The view that is shown."""
        view = self.app.view
        assert view is not None
        return view

    def footer(self) -> list[FooterKey]:
        """The keys at the bottom."""
        return list(self.view.query(FooterKey))

    def table(self, name: str) -> Any:
        """A table of the view."""
        return self.view.query_one(f"#{name}")

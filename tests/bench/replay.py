"""Snapshots of a large made-up study, replayed to the terminal UI without a store or a terminal: how long keys wait."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunectl.monitor.snapshot import (
    CoverageView,
    DeviceView,
    EventView,
    PlanView,
    QueuedView,
    RunningView,
    SchedulerView,
    Snapshot,
    TrialView,
)

PROBE_SECONDS = 0.01
"""Between two looks at the event loop."""
STRATEGIES = ("fine-tune", "weight-rewind", "lr-rewind", "weight-rewind-low-lr", "reinit")
SPARSITIES = ("0", "0.2", "0.36", "0.488", "0.5904", "0.67232")
FRAMES = 16
START = 1_700_000_000.0


def lag(
    trials: int, running: int, seconds: float, hertz: float, size: tuple[int, int] = (120, 40)
) -> dict[str, float]:
    """Lag of the event loop (ms), and CPU (percent of a core, with that of asking) while snapshots of `trials` trials
    and `running` stages are replayed at `hertz` for `seconds`."""
    found = asyncio.run(_watch(study(trials, running), seconds, 1 / hertz, size))
    return {f"lag_{name}_ms": found[name] for name in ("p50", "p95", "max")} | {
        "replay_cpu_percent": found["cpu"]
    }


class Replay:
    """Gives one snapshot after the other, as a watcher would; the last of a single one only once."""

    def __init__(self, frames: Sequence[Snapshot]) -> None:
        self.frames = frames
        self.given = 0

    def poll(self) -> Snapshot | None:
        """The next one."""
        if len(self.frames) == 1 and self.given:
            return None
        frame = self.frames[self.given % len(self.frames)]
        self.given += 1
        return replace(frame, time=time.time())


def _viewer(frames: Sequence[Snapshot], interval: float) -> Any:
    from prunectl.store.paths import StorePaths
    from prunectl.tui.app import Viewer

    return Viewer(
        StorePaths(Path("/nonexistent")), source=lambda: Replay(frames), interval=interval
    )


async def _watch(
    frames: Sequence[Snapshot], seconds: float, interval: float, size: tuple[int, int]
) -> dict[str, float]:
    app = _viewer(frames, interval)
    lags: list[float] = []
    async with app.run_test(size=size) as pilot:
        await pilot.pause(1.0)
        begun, used = time.monotonic(), time.process_time()
        while time.monotonic() - begun < seconds:
            due = time.monotonic() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            lags.append(max(0.0, time.monotonic() - due))
        wall = time.monotonic() - begun
        cpu = (time.process_time() - used) / wall
    lags.sort()
    return {
        "p50": round(1000 * lags[len(lags) // 2], 2),
        "p95": round(1000 * lags[int(len(lags) * 0.95)], 2),
        "max": round(1000 * lags[-1], 2),
        "cpu": round(100 * cpu, 1),
    }


# a study that there never was


def study(trials: int, running: int, frames: int = FRAMES) -> list[Snapshot]:
    """Snapshots of one study, half a second apart; every fourth one finishes a trial."""
    seeds = 5
    cells = -(-trials // seeds)
    views = [_trial(number, cells, running) for number in range(trials)]
    out = []
    for frame in range(frames):
        if frame % 4 == 3:
            at = running + frame
            views[at] = replace(views[at], state="done", iteration=5, steps_done=views[at].steps)
        out.append(_snapshot(frame, list(views), running))
    return out


def _trial(number: int, cells: int, running: int) -> TrialView:
    cell, seed = divmod(number, 5)
    strategy = STRATEGIES[cell % len(STRATEGIES)]
    done = number % 3 == 0 and number >= running
    state = "running" if number < running else "done" if done else "waiting"
    return TrialView(
        trial=f"{number:016x}",
        plan="large",
        cell=f"{cell:016x}",
        seed=seed,
        labels={
            "network": f"resnet-{20 + 6 * (cell % 7)}",
            "dataset": "cifar10",
            "recipe": f"recipe-{cell % max(1, cells // 20)}",
            "strategy": strategy,
            "schedule": "iterative 0.2",
            "criterion": "magnitude",
            "scope": "global",
            "granularity": "weight",
            "retrain": "full",
        },
        path=tuple(f"{number:08x}{k:056x}" for k in range(len(SPARSITIES))),
        sparsities=SPARSITIES,
        state=state,
        iteration=5 if done else 2,
        steps=480_000,
        steps_done=480_000 if done else 160_000,
        reason="" if state != "waiting" else f"{number:08x} (iteration 1)",
    )


def _snapshot(frame: int, views: list[TrialView], running: int) -> Snapshot:
    counts = Counter(view.state for view in views)
    stages = tuple(_running(view, frame, number) for number, view in enumerate(views[:running]))
    waiting = [view for view in views if view.state == "waiting"][:500]
    done = counts["done"] * 480_000
    coverage = tuple(
        CoverageView("large", {**views[0].labels, "strategy": strategy}, sparsity, 40 + frame, 90)
        for strategy in STRATEGIES
        for sparsity in SPARSITIES[1:]
    )
    return Snapshot(
        time=START + frame / 2,
        store="/data/store",
        scheduler=SchedulerView(True, age=0.4, run="r", pid=1, eta=START + 90_000),
        plans=(PlanView("large", "d" * 16, True, dict(counts), len(views) * 6, counts["done"] * 6,
                        len(views) * 480_000, done + frame * running * 100),),
        counts=dict(counts),
        devices=tuple(_device(index, frame, stages) for index in range(8)),
        running=stages,
        queue=tuple(QueuedView(v.trial, v.path[2], 2, 600.0, v.reason) for v in waiting),
        trials=tuple(views),
        events=tuple(_event(frame, n, views) for n in range(200)),
        coverage=coverage,
    )  # fmt: skip


def _running(view: TrialView, frame: int, number: int) -> RunningView:
    accuracies = tuple(60.0 + (frame + number + k) % 30 for k in range(14))
    return RunningView(
        key=view.path[2],
        trials=(view.trial,),
        labels={**view.labels, "seed": str(view.seed)},
        iteration=2,
        iterations=5,
        sparsity="0.36",
        replay=False,
        step=1000 + 100 * frame + number,
        steps=80_000,
        device=f"cuda:{number % 8}",
        since=START - 100 + number,
        loss=0.3 + frame / 100,
        accuracy=90.0 + frame / 10,
        eta=3000.0 - frame,
        epoch={"loss": 0.3, "seq": frame},
        accuracies=accuracies,
    )


def _device(index: int, frame: int, stages: Sequence[RunningView]) -> DeviceView:
    keys = tuple(stage.key for stage in stages if stage.device == f"cuda:{index}")
    return DeviceView(f"cuda:{index}", "NVIDIA H200", "cuda", f"GPU-{index}", 2, "open", "", keys,
                      utilisation=60.0 + (7 * frame + index) % 40, memory_used=(20 + index) << 30,
                      memory_total=141 << 30, temperature=60.0, power=400.0 + frame)  # fmt: skip


def _event(frame: int, number: int, views: Sequence[TrialView]) -> EventView:
    view = views[(number + frame) % len(views)]
    return EventView(
        START + number + frame, "stage_done", "done, 92.31 %", view.path[2], (view.trial,)
    )

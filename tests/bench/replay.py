"""Snapshots replayed to the terminal UI without a store or a terminal: how long keys wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prunectl.monitor.snapshot import Snapshot
from prunectl.store.paths import StorePaths
from prunectl.tui.app import Viewer

PROBE_SECONDS = 0.01
"""Between two looks at the event loop."""


def lag(
    frames: Sequence[Snapshot], seconds: float, hertz: float, size: tuple[int, int] = (120, 40)
) -> dict[str, float]:
    """Lag of the event loop (ms), and CPU (percent of a core, with that of asking) while the snapshots are replayed at
    `hertz` for `seconds`."""
    return asyncio.run(_watch(frames, seconds, 1 / hertz, size))


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


async def _watch(
    frames: Sequence[Snapshot], seconds: float, interval: float, size: tuple[int, int]
) -> dict[str, float]:
    app = Viewer(StorePaths(Path("/nonexistent")), source=lambda: Replay(frames), interval=interval)
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
        "lag_p50_ms": round(1000 * lags[len(lags) // 2], 2),
        "lag_p95_ms": round(1000 * lags[int(len(lags) * 0.95)], 2),
        "lag_max_ms": round(1000 * lags[-1], 2),
        "replay_cpu_percent": round(100 * cpu, 1),
    }

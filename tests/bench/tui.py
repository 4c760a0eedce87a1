"""The terminal UI as a user has it: `prunectl watch` on a terminal, on a large store on disk, beside a run or without.

python -m tests.bench.tui [--trials 10000] [--seconds 20] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from prunectl.bench.cleanup import orderly
from prunectl.errors import PrunectlError
from prunectl.monitor.snapshot import Snapshot
from prunectl.monitor.watcher import Watcher
from prunectl.store.paths import StorePaths
from tests.bench import replay
from tests.support.fake_run import FakeRun
from tests.support.fake_store import EFFECT, FakeStore, make_store

RUNNING = 16
HERTZ = 2.0
"""Looks of the viewer at the store, and changes of the store, per second."""
OPENINGS = 5
PATIENCE = 60.0
SETTLING = 4.0
"""After opening, before CPU is counted: the rest of a large store is read meanwhile."""
LINES, COLUMNS = 40, 120


def measure(
    trials: int, seconds: float, tell: Callable[[str], None], openings: int = OPENINGS
) -> dict[str, Any]:
    """Seconds from starting Python to the store's rows on the screen; CPU of the viewer's whole process, in percent
    of a core, when nothing happens and beside a run of 16 stages; that of the watcher alone beside the run; and the
    lag of the event loop. `trials` in the store, a third of them done; each measure takes `seconds`."""
    with tempfile.TemporaryDirectory(prefix="prunectl-bench-") as folder:
        maker = make_store(
            Path(folder) / "store", trials=trials, iterations=5, epochs=5, done=0.3, tell=tell
        )
        tell("opening it")
        opening = [_opened(maker.paths) for _ in range(openings)]
        tell("watching it: idle")
        idle = _cpu(maker.paths, seconds)
        tell("watching it: beside a run")
        with FakeRun(maker, RUNNING, HERTZ):
            busy = _cpu(maker.paths, seconds)
            watcher, frames = _watcher(maker, seconds)
    tell("replaying it: lag")
    return {
        "trials": trials,
        "stages": len(maker.stages),
        "running": RUNNING,
        "hertz": HERTZ,
        "columns": COLUMNS,
        "lines": LINES,
        "opening_seconds": round(median(opening), 3),
        "opening_slowest": round(max(opening), 3),
        "idle_cpu_percent": idle,
        "cpu_percent": busy,
        "watcher_cpu_percent": watcher,
        **replay.lag(frames, seconds, HERTZ, (COLUMNS, LINES)),
        "load": round(os.getloadavg()[0], 2),
    }


class Viewer:
    """`prunectl watch` on a terminal of its own; killed at the end."""

    def __init__(self, paths: StorePaths) -> None:
        self._terminal, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        command = [sys.executable, "-m", "prunectl.cli", "watch", "--store", str(paths.root)]
        environment = os.environ | {"TERM": "xterm-256color"}
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=environment,
            start_new_session=True,
        )
        os.close(inner)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def read(self, seconds: float) -> bytes:
        """What it draws within that time, at least once; b"" where it draws nothing."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self._terminal, 1 << 16)
        except OSError as error:
            raise PrunectlError("the viewer has ended") from error

    def wait_for(self, text: str) -> float:
        """Seconds since it was started, once the text has been drawn."""
        drawn = b""
        while time.monotonic() - self.began < PATIENCE:
            drawn += self.read(0.1)
            if text.encode() in drawn:
                return time.monotonic() - self.began
        raise PrunectlError(f"the viewer has not shown {text!r} within {PATIENCE:.0f} s")

    def watch(self, seconds: float) -> None:
        """Take what it draws for a while, as a terminal does."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(left)

    def cpu(self) -> float:
        """Seconds of CPU that all its threads have used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _opened(paths: StorePaths) -> float:
    with Viewer(paths) as viewer:
        # A strategy: only rows name it.
        return viewer.wait_for(next(iter(EFFECT)))


def _cpu(paths: StorePaths, seconds: float) -> float:
    with Viewer(paths) as viewer:
        viewer.wait_for(next(iter(EFFECT)))
        viewer.watch(SETTLING)
        used, began = viewer.cpu(), time.monotonic()
        viewer.watch(seconds)
        return round(100 * (viewer.cpu() - used) / (time.monotonic() - began), 1)


def _watcher(maker: FakeStore, seconds: float) -> tuple[float, list[Snapshot]]:
    """CPU of looking alone, and what was seen."""
    watcher = Watcher(maker.paths)
    seen = [watcher.snapshot()]
    used, began = 0.0, time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(1 / HERTZ)
        at = time.thread_time()
        seen += filter(None, [watcher.poll()])
        used += time.thread_time() - at
    return round(100 * used / (time.monotonic() - began), 1), seen


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tui", description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="in the made-up study")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long it is watched")
    parser.add_argument("--quick", action="store_true", help="try it, measure nothing")
    parser.add_argument("--json", action="store_true", help="for scripts")
    asked = parser.parse_args()
    with orderly():
        size = (200, 1.0) if asked.quick else (asked.trials, asked.seconds)
        openings = 1 if asked.quick else OPENINGS
        found = measure(*size, lambda text: print(text, file=sys.stderr), openings)
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:24} {value:.4g}")


if __name__ == "__main__":
    main()

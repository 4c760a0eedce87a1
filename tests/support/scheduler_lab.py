"""A store with a small plan, and schedulers with fake workers on it, in this process or in one of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prunectl.scheduler.devices.base import Device, Usage
from prunectl.scheduler.executors.local import LocalExecutor
from prunectl.scheduler.outcome import Outcome
from prunectl.scheduler.scheduler import Scheduler
from prunectl.scheduler.timeouts import Timeouts
from prunectl.spec.key import stage_key
from prunectl.spec.stage import Stage
from prunectl.store.paths import StorePaths
from tests.support.fake_plan import Plan, dense, retrain
from tests.support.records import scheduler_log, write_json

__all__ = ["FakeLayer", "Plan", "Store", "dense", "eventually", "exists", "retrain"]

FAKE = Path(__file__).with_name("fake_worker.py")
QUICK = Timeouts(
    hang=1.0,
    start=10.0,
    stop=1.0,
    grace=1.0,
    beat=0.05,
    device_lock=0.1,
    forecast=0.05,
    poll=0.02,
    measure=0.4,
    measure_steps=1,
)


class Store:
    """A store under a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.paths = StorePaths(root)
        root.mkdir(parents=True, exist_ok=True)
        self.fake()

    def fake(self, **settings: Any) -> None:
        """How fake workers behave from now on."""
        write_json(self.paths.root / "fake.json", {"seconds": 0.002, **settings})

    def save(self, plan: Plan) -> str:
        write_json(self.paths.plan(plan.digest), plan.record())
        return plan.digest

    def trace(self, what: str | None = None) -> list[dict[str, Any]]:
        """What fake workers did."""
        path = self.paths.root / "trace.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [line for line in found if what in (None, line["what"])]

    def log(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records of the scheduler's log, of one type or all."""
        records = scheduler_log(self.paths.scheduler_log)
        return [record for record in records if kind in (None, record["type"])]

    def done(self, spec: Stage) -> bool:
        return self.paths.stage(stage_key(spec)).result.exists()

    def scheduler(self, *plans: str, slots: int = 2, **options: Any) -> Scheduler:
        machines = {
            "devices": [Device("cpu", "cpu", "fake cpu", slots)],
            "command": [sys.executable, str(FAKE)],
            "layer": FakeLayer([]),
        }
        for name in (*machines, "data", "share", "checkpoint_every"):
            if name in options:
                machines[name] = options.pop(name)
        executor = LocalExecutor(self.paths, **machines)
        return Scheduler(self.paths, executor, plans, **{"timeouts": QUICK, **options})

    def run(self, *plans: str, **options: Any) -> Outcome:
        return self.scheduler(*plans, **options).run()

    def process(self, *plans: str, slots: int = 2) -> subprocess.Popen[str]:
        """A scheduler as a process of its own; prints its outcome."""
        code = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from pathlib import Path\n"
            "from tests.support import scheduler_lab as lab\n"
            "store = lab.Store.__new__(lab.Store)\n"
            "store.paths = lab.StorePaths(Path(sys.argv[2]))\n"
            "print(store.run(*sys.argv[4:], slots=int(sys.argv[3])), flush=True)\n"
        )
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                code,
                str(FAKE.parents[2]),
                str(self.paths.root),
                str(slots),
                *plans,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class FakeLayer:
    """Devices that exist on paper."""

    def __init__(self, devices: list[Device]) -> None:
        self._devices = devices

    def devices(self) -> list[Device]:
        return self._devices

    def about_cuda(self) -> str:
        return "nothing was looked at"

    def usage(self, device: Device) -> Usage:
        return Usage(utilisation=50.0)

    def close(self) -> None:
        pass


def meminfo(total: int, available: int) -> str:
    """A host's /proc/meminfo with these kB, and the other fields that psutil reads."""
    rest = ("MemFree", "Buffers", "Cached", "Active", "Inactive", "Shmem", "SReclaimable", "Slab")
    lines = [f"MemTotal: {total} kB", f"MemAvailable: {available} kB"]
    return "".join(f"{line}\n" for line in (*lines, *(f"{name}: 0 kB" for name in rest)))


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until the condition is true; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


def exists(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

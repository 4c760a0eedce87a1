"""A store with a small plan, and schedulers with fake workers on it, in this process or in one of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunectl.scheduler.devices.base import Device, Usage
from prunectl.scheduler.outcome import Outcome
from prunectl.scheduler.scheduler import Scheduler
from prunectl.scheduler.timeouts import Timeouts
from prunectl.spec.key import spec_to_dict, stage_key
from prunectl.spec.lr_schedule import constant, stepwise
from prunectl.spec.settings import DataSettings, NetworkSettings, PruneSettings, TrainSettings
from prunectl.spec.stage import Mask, StageSpec, Weights
from prunectl.store.files import write_json
from prunectl.store.journal import Record, read
from prunectl.store.paths import StorePaths

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


def dense(seed: int = 0, steps: int = 10, name: str = "fake-net") -> StageSpec:
    return StageSpec(
        NetworkSettings(name, (1, 8, 8), 10),
        DataSettings("fake-data", "f"),
        TrainSettings(),
        stepwise(0.1, steps, [steps // 2], 0.1),
        seed,
    )


def retrain(
    parent: StageSpec, density: str, iteration: int = 1, rewind: tuple[str, int] | None = None
) -> StageSpec:
    """Prune the parent and retrain: fine-tuning, or rewinding to a (dense stage, step)."""
    key = stage_key(parent)
    return replace(
        parent,
        lr=constant(0.01, 5),
        iteration=iteration,
        weights=Weights(*rewind) if rewind else Weights(key),
        mask=Mask(key, PruneSettings(density=density)),
    )


class Plan:
    """A plan record in the making."""

    def __init__(self, name: str = "study", digest: str = "") -> None:
        self.name, self.digest = name, digest or f"{name}-1"
        self.trials: list[dict[str, Any]] = []
        self.stages: dict[str, Any] = {}
        self.created = 1000.0

    def trial(self, *path: StageSpec, **labels: Any) -> str:
        keys = [stage_key(spec) for spec in path]
        for key, spec in zip(keys, path, strict=True):
            self.stages[key] = {"spec": spec_to_dict(spec), "steps": spec.steps, "epoch_steps": 5}
        name = f"{len(self.trials):02x}{abs(hash((self.name, *keys))) & (16**14 - 1):014x}"
        row = {"trial": name, "cell": "c" * 16, "plan": self.name, "seed": path[0].seed}
        row |= {"path": keys, "sparsities": [str(i * 0.2) for i in range(len(keys))]}
        self.trials.append({**row, "strategy": "fine-tune", "network": "fake-net", **labels})
        return name

    def record(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "name": self.name,
            "created": self.created,
            "trials": self.trials,
            "stages": self.stages,
        }


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

    def log(self, kind: str | None = None) -> list[Record]:
        records, _ = read(self.paths.scheduler_log)
        return [record for record in records if kind in (None, record["type"])]

    def done(self, spec: StageSpec) -> bool:
        return self.paths.stage(stage_key(spec)).result.exists()

    def scheduler(self, *plans: str, slots: int = 2, **options: Any) -> Scheduler:
        options = {
            "devices": [Device("cpu", "cpu", "fake cpu", slots)],
            "worker_command": [sys.executable, str(FAKE)],
            "layer": FakeLayer([]),
            "timeouts": QUICK,
            **options,
        }
        return Scheduler(self.paths, options.pop("devices"), plans, **options)

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

    def usage(self, device: Device) -> Usage:
        return Usage(utilisation=50.0)


def meminfo(total: int, available: int) -> str:
    """A host's /proc/meminfo with these kB, and the other fields that psutil reads."""
    rest = ("MemFree", "Buffers", "Cached", "Active", "Inactive", "Shmem", "SReclaimable", "Slab")
    lines = [f"MemTotal: {total} kB", f"MemAvailable: {available} kB"]
    return "".join(f"{line}\n" for line in (*lines, *(f"{name}: 0 kB" for name in rest)))


def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
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

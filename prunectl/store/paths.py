"""Every file name of a store is built here and nowhere else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StagePaths:
    """The files of one stage. The stage is complete when `result` exists; it is written last."""

    folder: Path

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def mask(self) -> Path:
        return self.folder / "mask.safetensors"

    @property
    def final(self) -> Path:
        return self.folder / "final.safetensors"

    @property
    def latest(self) -> Path:
        """The newest checkpoint inside the stage, for resuming; replaced as training goes on."""
        return self.folder / "latest.safetensors"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    def rewind(self, step: int) -> Path:
        """The training state before optimizer step number `step`."""
        return self.folder / f"rewind-{step}.safetensors"

    def rewind_steps(self) -> list[int]:
        """Steps of the rewind checkpoints that are there, ascending."""
        names = [path.stem for path in self.folder.glob("rewind-*.safetensors")]
        return sorted(int(name.removeprefix("rewind-")) for name in names)


@dataclass(frozen=True)
class StorePaths:
    """The files of a store."""

    root: Path

    @classmethod
    def locate(cls, option: Path | None = None) -> StorePaths:
        """`--store`, then PRUNECTL_STORE, then ./store."""
        chosen = option or Path(os.environ.get("PRUNECTL_STORE") or "store")
        return cls(chosen.expanduser().absolute())

    @property
    def database(self) -> Path:
        return self.root / "results.duckdb"

    @property
    def database_lock(self) -> Path:
        """Held by whoever writes the database; DuckDB's own lock vanishes when the file is replaced."""
        return self.control / "database.lock"

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    def stage(self, key: str) -> StagePaths:
        return StagePaths(self.stages / key)

    @property
    def plans(self) -> Path:
        return self.root / "plans"

    def plan(self, digest: str) -> Path:
        return self.plans / f"{digest}.json"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def run(self, run_id: str) -> Path:
        return self.runs / f"{run_id}.json"

    @property
    def scheduler_log(self) -> Path:
        """What the scheduler did, as a journal: requests obeyed, retries, failures, devices."""
        return self.root / "scheduler.jsonl"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def scheduler_lock(self) -> Path:
        return self.control / "lock"

    @property
    def heartbeat(self) -> Path:
        """What the scheduler is doing now, replaced every second."""
        return self.control / "heartbeat.json"

    @property
    def requests(self) -> Path:
        """One file per request, removed by the scheduler when it has been obeyed and logged."""
        return self.control / "requests"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def recipes(self) -> Path:
        """The user's own SQL recipes, beside those in the package."""
        return self.root / "recipes"

"""Plan records and stages made by hand, as `run` would write them for a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from prunectl.spec.key import stage_key
from prunectl.spec.lr_schedule import constant, stepwise
from prunectl.spec.settings import DataSettings, NetworkSettings, PruneSettings, TrainSettings
from prunectl.spec.stage import Mask, Stage, Weights
from tests.support.records import spec_json


def dense(seed: int = 0, steps: int = 10, name: str = "fake-net") -> Stage:
    """The dense training of a network that no registry holds."""
    return Stage(
        NetworkSettings(name, (1, 8, 8), 10),
        DataSettings("fake-data", "f"),
        TrainSettings(),
        stepwise(0.1, steps, [steps // 2], 0.1),
        seed,
    )


def retrain(
    parent: Stage, density: str, iteration: int = 1, rewind: tuple[str, int] | None = None
) -> Stage:
    """Prune the parent and retrain: fine-tuning, or rewinding to a (dense stage, step)."""
    key = stage_key(parent)
    return replace(
        parent,
        lr=constant(0.01, 5),
        iteration=iteration,
        weights=Weights(*rewind) if rewind else Weights(key),
        mask=Mask(key, PruneSettings(density=density)),
    )


@dataclass
class Plan:
    """A plan record in the making."""

    name: str = "study"
    digest: str = ""
    created: float | str = 1000.0
    trials: list[dict[str, Any]] = field(default_factory=list)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.digest = self.digest or f"{self.name}-1"

    def trial(self, *path: Stage, **labels: Any) -> str:
        """Add a trial of these stages; its id."""
        stages = {
            stage_key(spec): {"spec": spec_json(spec), "steps": spec.steps, "epoch_steps": 5}
            for spec in path
        }
        name = f"{len(self.trials):02x}{abs(hash((self.name, *stages))) & (16**14 - 1):014x}"
        return self.add(
            stages, trial=name, cell="c" * 16, seed=path[0].seed,
            sparsities=[str(i * 0.2) for i in range(len(path))],
            **{"strategy": "fine-tune", "network": "fake-net"} | labels,
        )  # fmt: skip

    def add(self, path: Mapping[str, dict[str, Any]], *, trial: str, **labels: Any) -> str:
        """Add a trial of these stage records, by key; its id."""
        self.stages |= path
        self.trials.append({"trial": trial, "plan": self.name, "path": list(path), **labels})
        return trial

    def record(self) -> dict[str, Any]:
        """What plans/<digest>.json holds."""
        return {
            "digest": self.digest, "name": self.name, "file": f"plans/{self.name}.toml",
            "text": f'name = "{self.name}"\n', "overrides": [], "created": self.created,
            "question": "Which is best?", "axes": ["strategy"],
            "trials": self.trials, "stages": self.stages,
        }  # fmt: skip

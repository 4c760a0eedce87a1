"""What a trial is: one cell of a plan's grid with one seed, as a path of stages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """One point of the grid with a seed: a path of stages, and the names its tables call it by."""

    trial: str
    cell: str
    plan: str
    network: str
    dataset: str
    recipe: str
    strategy: str
    schedule: str
    criterion: str
    scope: str
    granularity: str
    retrain: str
    seed: int
    path: tuple[str, ...]
    """Keys of its stages: iteration 0, 1 …"""
    sparsities: tuple[str, ...]
    """What each iteration aims at, as decimals; "0" first. Exact, but for filter ratios: see `plan.levels`."""

"""A task of one's own, from the plan to the screens: rooms that know no task by name show what it measures.

A regression, its data and a small network are added to a copy of the package; nothing else is changed in it, and the
copy's own commands run a plan, rank it, draw it and show it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support import waves
from tests.support.additions import ONE_HIDDEN, REGRESSION, WAVES, Copy, copy

__all__ = ["copy"]
pytestmark = pytest.mark.slow

NONE_OF_ITS = ("accuracy", "train_accuracy", "top5", "agreement", "ece")
"""Columns of classification."""
PLAN = """\
# Which retraining keeps a function that has been learned?
name = "functions"
seeds = [0, 1]

[grid]
network = ["one-hidden"]
dataset = ["waves"]
strategy = ["fine-tune", "lr-rewind"]

[recipe]
task = "regression"
length = "8ep"
batch = 32
optimizer = { name = "adam" }
schedule = { kind = "step", lr = 0.01, milestones = ["4ep", "6ep"] }
validation = { from = "train", count = 32 }
[recipe.retrain]
fine-tune = "full"
lr-rewind = "full"

[pruning]
schedule = { kind = "iterative", rate = 0.5, iterations = 2 }
"""
SCREENS = """
import asyncio
from pathlib import Path

from prunectl.store.paths import StorePaths
from prunectl.tui.app import Viewer


async def look(app, pilot, *wanted):
    for _ in range(200):
        await pilot.pause(0.05)
        strips = app.screen._compositor.render_strips()
        shown = "\\n".join("".join(segment.text for segment in strip) for strip in strips)
        if all(text in shown for text in wanted):
            return
    raise SystemExit(f"{wanted} never came; the screen is\\n{shown}")


async def main():
    app = Viewer(StorePaths(Path("here")), readonly=True)
    async with app.run_test(size=(150, 40)) as pilot:
        await look(app, pilot, "fine-tune", "done, 0.")
        await pilot.press("2")
        await look(app, pilot, "test rmse, mean±std (n) (lower is better)", "★", "rmse against sparsity")
        await pilot.press("1", "enter")
        await look(app, pilot, "test rmse", "done: rmse 0.", "regression")


asyncio.run(main())
"""


def by_hand(folder: Path) -> dict[str, float]:
    """The metrics of a stage's last weights on the test data, computed from the numbers alone."""
    content = load_file(folder / "final.safetensors")
    weights = {
        name.removeprefix("weights/"): value.astype(float) for name, value in content.items()
    }
    data = waves.read(None, {})  # type: ignore[arg-type]
    values = (data.test_images.reshape(-1, 4) / 255 - 0.5) / 0.3
    values = np.maximum(values @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
    values = values @ weights["classifier.weight"].T + weights["classifier.bias"]
    error = values - data.test_targets
    return {"rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean())}


@pytest.fixture
def store(repository: Path, copy: Copy) -> Path:
    """A finished study of the added task, by the copy's own commands."""
    added = (ONE_HIDDEN, REGRESSION, WAVES)
    for addition in added:
        addition.make(copy.package)
    assert copy.changed(repository / "prunectl") == {
        file.replace("NAME", addition.name) for addition in added for file in addition.touched
    }
    (copy.folder / "functions.toml").write_text(PLAN, encoding="utf-8")
    copy.prunectl("run", "functions.toml", "--plain", "--store", "here")
    return copy.folder / "here"


def test_a_task_of_ones_own_runs_and_is_shown(copy: Copy, store: Path) -> None:
    def rows(query: str) -> list[dict[str, Any]]:
        text = copy.prunectl("sql", query, "--store", store, "--format", "json")
        found: list[dict[str, Any]] = json.loads(text)
        return found

    stages = rows(
        "SELECT DISTINCT stage, score, best_score, accuracy, train_accuracy, top5, agreement, ece, "
        "other_metrics->>'$.mae' AS mae FROM iterations"
    )
    assert len(stages) == 10
    assert rows("FROM correctness") == rows("FROM labels") == []
    assert not [*store.glob("stages/*/predictions.*"), *store.glob("labels")]
    all_epochs = rows("SELECT stage, epoch, score, accuracy FROM epochs ORDER BY epoch")
    for stage in stages:
        wanted = by_hand(store / "stages" / stage["stage"])
        assert (stage["score"], float(stage["mae"])) == pytest.approx(
            (wanted["rmse"], wanted["mae"]), rel=1e-5
        )
        epochs = [epoch for epoch in all_epochs if epoch["stage"] == stage["stage"]]
        assert [epoch["epoch"] for epoch in epochs] == [*range(1, 9)]
        scores = [epoch["score"] for epoch in epochs]
        assert (stage["score"], stage["best_score"]) == (scores[-1], min(scores))
        assert {stage[name] for name in NONE_OF_ITS} == {None}
        assert {epoch["accuracy"] for epoch in epochs} == {None}

    cells = json.loads(copy.prunectl("rank", "functions", "--store", store, "--format", "json"))
    assert {(cell["task"], cell["metric"], cell["higher_is_better"]) for cell in cells} == {
        ("regression", "rmse", False)
    }
    pruned = [cell for cell in cells if cell["strategy"] != "dense"]
    assert len(pruned) == 4
    for sparsity in (0.5, 0.75):
        column = [cell for cell in pruned if cell["target_sparsity"] == sparsity]
        best = min(column, key=lambda cell: cell["mean"])
        assert [cell["rank"] == 1 for cell in column] == [cell is best for cell in column]
        assert not any(cell["best"] or cell["tied"] for cell in column), "two seeds mark nothing"
    board = rows("SELECT cell, iteration, mean FROM leaderboard")
    means = {(row["cell"], row["iteration"]): row["mean"] for row in board}
    assert all(means[cell["cell"], cell["iteration"]] == cell["mean"] for cell in cells)

    table = copy.prunectl("rank", "functions", "--store", store)
    assert "rmse (lower is better)" in table
    assert all(f"{cell['mean']:.4f} ± {cell['std']:.4f} (2)" in table for cell in pruned)
    assert "4 done" in copy.prunectl("status", "--store", store)
    last = rows("SELECT trial, score FROM iterations WHERE iteration = 2 ORDER BY trial")[0]
    shown = copy.prunectl("show", "--trial", last["trial"], "--store", store)
    assert " rmse " in shown
    assert re.search(r"\btask +regression\b", shown)
    assert f"{last['score']:.4f}" in shown
    copy.prunectl("plot", "functions", "--store", store, "--out", "figure.png")
    assert (copy.folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    copy.run("-c", SCREENS)

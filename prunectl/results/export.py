"""Export to other programs: a network's weights and mask, and a study's results as tables.

An exported network is two safetensors files, `NAME.safetensors` with its parameters and buffers by name and, after
the dense iteration, `NAME.mask.safetensors` with a boolean tensor for each prunable layer: True where a weight is
kept. Pruned weights are zero in the first. Both carry as metadata, all text: network (settings, JSON), data,
normalize (JSON), plan, trial, cell, strategy and the other labels, the seeds, iteration, stage, target_sparsity,
sparsity, flag, and what the task measured under the names of its metrics. To load one, with prunectl and torch:

    with safe_open("NAME.safetensors", "pt") as file:
        settings = NetworkSettings(**json.loads(file.metadata()["network"]))
    network = build(settings)
    network.load_state_dict(load_file("NAME.safetensors"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunectl.errors import ControlError, StoreError
from prunectl.results.formats import save
from prunectl.results.metrics import trial_metrics
from prunectl.results.plan_claims import claims_table, plan_claims
from prunectl.spec.key import to_json
from prunectl.store.db import query
from prunectl.store.paths import StorePaths
from prunectl.store.records.plan import FoundTrial, find_trial
from prunectl.store.records.result import Result
from prunectl.store.records.stage import has_result, read_result
from prunectl.store.tensors import read_checked, write_tensors

TABLES = {
    "iterations": "SELECT * FROM iterations WHERE plan = $plan ORDER BY trial, iteration",
    "leaderboard": "SELECT * FROM leaderboard WHERE plan = $plan ORDER BY ALL",
    "epochs": "SELECT * FROM epochs WHERE {stages} ORDER BY stage, epoch",
    "layers": "SELECT * FROM layers WHERE {stages} ORDER BY stage, position",
    "stages": "SELECT * FROM stages WHERE {stages} ORDER BY stage",
}
"""Tables of a study: one file each as Parquet, and as CSV for programs without it."""

_OWN = (
    "trial IN (SELECT trial FROM plan_trials JOIN current_plans USING (digest) WHERE plan = $plan)"
)


def export_network(
    paths: StorePaths, trial: str, iteration: int | None = None, out: Path | None = None
) -> list[Path]:
    """Write weights and mask of one iteration (the last one done, unless given). Returns the files.

    `trial` is an id or its beginning; `out` is the first file's name. Raises ControlError for a trial or an
    iteration there is not, StoreError where a checkpoint is missing or not what its checksum says.
    """
    found = find_trial(paths, trial)
    number = _iteration(paths, found, iteration)
    key = found.trial.path[number]
    stage = paths.stage(key)
    try:
        tensors = read_checked(stage.final).arrays
    except FileNotFoundError:
        raise StoreError(f"{stage.final} is not there") from None
    weights = {
        name.removeprefix("weights/"): tensor
        for name, tensor in tensors.items()
        if name.startswith("weights/")
    }
    metadata = _metadata(found, number, read_result(stage))
    file = out or Path(f"{_name(found, number)}.safetensors")
    if file.suffix != ".safetensors":
        file = file.with_name(file.name + ".safetensors")
    written = [file]
    write_tensors(file, weights, metadata)
    if stage.mask.exists():
        written.append(file.with_suffix(".mask.safetensors"))
        write_tensors(written[-1], read_checked(stage.mask).arrays, metadata)
    return written


def _iteration(paths: StorePaths, found: FoundTrial, wanted: int | None) -> int:
    path = found.trial.path
    done = [k for k, key in enumerate(path) if has_result(paths, key)]
    if wanted is None:
        if not done:
            raise ControlError(f"no iteration of trial {found.trial.id} is done")
        return done[-1]
    if wanted not in range(len(path)):
        raise ControlError(
            f"trial {found.trial.id} has the iterations 0 … {len(path) - 1}, not {wanted}"
        )
    if wanted not in done:
        raise ControlError(f"iteration {wanted} of trial {found.trial.id} is not done")
    return wanted


def _name(found: FoundTrial, iteration: int) -> str:
    trial = found.trial
    words = (trial.plan, trial.network, trial.strategy, f"seed{trial.seeds}")
    return "-".join((*words, trial.id[:8], f"k{iteration}")).replace("/", "-").replace(" ", "-")


def _metadata(found: FoundTrial, iteration: int, result: Result) -> dict[str, str]:
    """Collect the metadata, all of it text: safetensors has no other."""
    trial = found.trial
    key = trial.path[iteration]
    stage = found.study.stages[key].stage
    kept, prunable = result.kept or 0, result.prunable or 0
    values: dict[str, Any] = {
        "format": "pt",
        **{name: value for name, value in trial.labels.items() if name != "network"},
        "network": to_json(stage.network),
        "data": to_json(stage.data),
        "normalize": to_json(stage.train.normalize),
        "plan": trial.plan,
        "plan_digest": found.study.digest,
        "trial": trial.id,
        "cell": trial.cell,
        "seed": trial.seed,
        "order_seed": trial.seeds.order,
        "augment_seed": trial.seeds.augment,
        "iteration": iteration,
        "stage": key,
        "target_sparsity": trial.sparsities[iteration],
        "sparsity": repr(1 - kept / prunable) if prunable else None,
        "kept": kept,
        "prunable": prunable,
        **{metric.name: result.metrics.get(metric.name) for metric in trial_metrics(found).metrics},
        "flag": result.flag,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def export_tables(paths: StorePaths, plan: str, folder: Path) -> list[Path]:
    """Write the results of a plan's current version as Parquet and CSV. Returns the files.

    Raises StoreError for a plan the database does not have, or where a file cannot be written.
    """
    known = {row[0] for row in query.run(paths, "SELECT plan FROM current_plans").rows}
    if plan not in known:
        raise StoreError(f"the database has no plan {plan!r}")
    written = []
    stages = f"stage IN (SELECT stage FROM paths WHERE {_OWN})"
    tables = {
        name: query.run(paths, sql.format(own=_OWN, stages=stages), {"plan": plan})
        for name, sql in TABLES.items()
    }
    if claims := plan_claims(paths, plan):
        tables["claims"] = claims_table(claims)
    selections = query.run(
        paths, "SELECT * FROM selections WHERE plan = $plan ORDER BY ALL", {"plan": plan}
    )
    if selections.rows:
        tables["selections"] = selections
    for name, result in tables.items():
        for suffix in (".parquet", ".csv"):
            written.append(folder / f"{name}{suffix}")
            save(result, written[-1])
    return written

"""Before the first step of an attempt: weights and masks from where the spec says, or from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prunectl.errors import StoreError
from prunectl.ml.network_summary import summarise
from prunectl.ml.pruning.channels import dead_channels
from prunectl.ml.pruning.layers import batchnorm_names, layer_name
from prunectl.ml.pruning.masks import Masks, dead_layers, next_masks
from prunectl.ml.randomness import generator
from prunectl.ml.training.state import State
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.key import spec_from_dict, stage_key
from prunectl.spec.stage import StageSpec, Weights, replay_of
from prunectl.store.files import read_json
from prunectl.store.journal import Journal, Record
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.worker.checkpoint import CorruptFile, load_masks, load_state, save_masks, set_aside
from prunectl.worker.failures import MissingInput


def read_spec(folder: StagePaths, key: str) -> StageSpec:
    """Read what a stage is. Raises StoreError where that cannot be read, or is not what the key says."""
    try:
        spec = spec_from_dict(read_json(folder.spec))
    except (FileNotFoundError, ValueError) as error:
        raise StoreError(f"{folder.spec}: {error}") from error
    if stage_key(spec) != key:
        raise StoreError(f"{folder.spec} describes another stage than its folder")
    return spec


def resume(
    spec: StageSpec,
    trainer: Trainer,
    folder: StagePaths,
    history: Sequence[Record],
    journal: Journal,
) -> dict[str, Any] | None:
    """Bring the trainer to the newest checkpoint of an earlier attempt.

    Returns what `prepare` returned then, and None where there is no checkpoint that can be trusted.
    """
    try:
        state = load_state(folder.latest)
        masks = load_masks(folder.mask) if spec.mask else None
    except FileNotFoundError:
        return None
    except CorruptFile as error:
        for path in (folder.latest, folder.mask):
            if path.exists():
                set_aside(path)
        journal.append("note", text=f"starting over: {error}")
        return None
    trainer.set_masks(None)
    trainer.load(state, optimizer=True)
    trainer.set_masks(masks)
    if spec.replay:
        return {}
    facts = counts(spec, masks)
    for record in history:
        for name in ("accuracy_pruned", "accuracy_start", "loss_start"):
            if name in record:
                facts[name] = record[name]
    facts.setdefault("accuracy_pruned", None)
    return facts


def prepare(
    spec: StageSpec, key: str, trainer: Trainer, paths: StorePaths, journal: Journal
) -> dict[str, Any]:
    """Bring the trainer to the stage's first step, record what was pruned and what it scores.

    Returns counts and first accuracies, as they go into the result; nothing for a replay.
    Raises MissingInput, and NonFiniteWeights where the parent diverged.
    """
    if spec.replay:
        _begin_replay(spec, trainer, paths)
        return {}
    if spec.mask:
        masks, facts = _prune(spec, key, trainer, paths, journal)
        _load_weights(spec, masks, trainer, paths)
    else:
        facts = counts(spec, None) | {"accuracy_pruned": None}
        trainer.initialise(spec.seed, spec.iteration)
    scores = trainer.evaluate("test")
    assert scores is not None
    first: dict[str, Any] = {"accuracy_start": scores.accuracy, "loss_start": scores.loss}
    journal.append("begin", **first)
    return facts | first


def _prune(
    spec: StageSpec, key: str, trainer: Trainer, paths: StorePaths, journal: Journal
) -> tuple[Masks, dict[str, Any]]:
    """Score the mask on the parent's end weights, and evaluate the parent under it.

    Returns the masks, and counts and accuracy as they go into the result.
    """
    assert spec.mask is not None
    parent = read_state(paths, Weights(spec.mask.parent))
    before = _read_masks(paths, spec.mask.parent)
    settings = spec.mask.settings
    draw = generator(spec.seed, "criterion", spec.iteration)
    masks = next_masks(trainer.module, parent.weights, before, settings, draw)
    if settings.granularity == "channel" or settings.ratios:
        masks |= dead_channels(trainer.module, masks)
    save_masks(paths.stage(key).mask, masks, key)
    # The masks first: those of whichever stage had this trainer before would zero weights of this one.
    trainer.set_masks(masks)
    trainer.load(replace(parent, step=0, accumulators={}), optimizer=False)
    scores = trainer.evaluate("test")
    assert scores is not None
    layers = [
        {"name": layer_name(name), "total": mask.numel(), "kept": int(mask.sum())}
        for name, mask in masks.items()
        if mask.dim() > 1
    ]
    facts = counts(spec, masks) | {"accuracy_pruned": scores.accuracy}
    journal.append("pruned", **facts, loss_pruned=scores.loss, layers=layers)
    return masks, facts


def counts(spec: StageSpec, masks: Masks | None) -> dict[str, Any]:
    """Weights and multiply-adds, all and kept; `ml.network_summary` says what is counted."""
    exclude = spec.mask.settings.exclude if spec.mask else ()
    network = summarise(spec.network, exclude)
    kept = masks or {}
    return {
        "kept": network.weights_kept(kept),
        "prunable": network.prunable,
        "parameters": network.parameters,
        "kept_parameters": network.parameters_kept(kept),
        "macs": network.macs_kept(kept),
        "macs_dense": network.macs,
        "dead_layers": dead_layers(kept),
    }


def _load_weights(spec: StageSpec, masks: Masks, trainer: Trainer, paths: StorePaths) -> None:
    """Load weights, BatchNorm and optimizer state as the strategy says; step 0 of this stage."""
    if spec.weights.stage is None:
        trainer.initialise(spec.seed, spec.iteration)
        trainer.set_masks(masks)
        state = trainer.state()
    else:
        state = replace(read_state(paths, spec.weights), step=0, accumulators={})
    if spec.batchnorm == "parent":
        assert spec.mask is not None
        kept = batchnorm_names(trainer.module)
        parent = read_state(paths, Weights(spec.mask.parent)).weights
        state = replace(state, weights=state.weights | {name: parent[name] for name in kept})
    trainer.load(state, optimizer=spec.optimizer_state == "carried")


def read_state(paths: StorePaths, source: Weights) -> State:
    """Read a done stage's state at a step, or at its end.

    Raises MissingInput where it is not there, or was set aside because it could not be trusted.
    """
    assert source.stage is not None
    folder = paths.stage(source.stage)
    if source.step is None:
        candidates = [folder.final]
    else:
        candidates = [folder.rewind(source.step)]
        if folder.spec.exists():
            dense = spec_from_dict(read_json(folder.spec))
            replay = stage_key(replay_of(dense, source.stage, source.step))
            candidates.append(paths.stage(replay).rewind(source.step))
    for path in candidates:
        try:
            return load_state(path)
        except FileNotFoundError:
            continue
        except CorruptFile as error:
            set_aside(path)
            raise MissingInput(f"{error}; it was set aside", source.stage) from error
    where = "its end" if source.step is None else f"step {source.step}"
    raise MissingInput(f"stage {source.stage[:12]} has no checkpoint of {where}", source.stage)


def _read_masks(paths: StorePaths, key: str) -> Masks | None:
    """Read a done stage's masks; None of a dense one.

    Raises MissingInput where they should be there and are not, or were set aside as they could not be trusted:
    weights that are gone must not come back.
    """
    folder = paths.stage(key)
    try:
        return load_masks(folder.mask)
    except FileNotFoundError as error:
        if "mask" in read_json(folder.spec)["stage"]:
            raise MissingInput(f"stage {key[:12]} has lost its mask", key) from error
        return None
    except CorruptFile as error:
        set_aside(folder.mask)
        raise MissingInput(f"{error}; it was set aside", key) from error


def _begin_replay(spec: StageSpec, trainer: Trainer, paths: StorePaths) -> None:
    """Start from the dense run's nearest checkpoint before the step wanted, or from its initialisation."""
    assert spec.weights.stage is not None
    folder = paths.stage(spec.weights.stage)
    for step in reversed(folder.rewind_steps()):
        if step <= spec.steps:
            try:
                trainer.set_masks(None)
                trainer.load(load_state(folder.rewind(step)), optimizer=True)
                return
            except CorruptFile:
                set_aside(folder.rewind(step))
    trainer.initialise(spec.seed, spec.iteration)

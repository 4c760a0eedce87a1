"""Before the first step of an attempt: weights and masks from where the spec says, or from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prunectl.errors import StoreError
from prunectl.ml.pruning.channels import dead_channels
from prunectl.ml.pruning.layers import batchnorm_names, layer_name
from prunectl.ml.pruning.masks import Masks, dead_layers, next_masks
from prunectl.ml.randomness import generator
from prunectl.ml.summarise import summarise
from prunectl.ml.training.state import TrainingState
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.key import stage_key
from prunectl.spec.stage import Stage, Weights, replay_of
from prunectl.spec.task import Metric
from prunectl.store.files import set_aside
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.base import BadRecord, LogRecord, Metrics
from prunectl.store.records.events import Begin, Checkpoint, LayerCount, Note, Pruned
from prunectl.store.records.journal import Journal
from prunectl.store.records.result import Counts, Result
from prunectl.store.records.stage import read_result, read_spec
from prunectl.store.tensors import CorruptFile
from prunectl.worker.checkpoint import load_masks, load_state, save_masks
from prunectl.worker.failures import MissingInput


def read_stage(folder: StagePaths) -> Stage:
    """Read what a stage is. Raises StoreError where that cannot be read, or is not what the key says."""
    try:
        return read_spec(folder).computable
    except (FileNotFoundError, ValueError) as error:
        raise StoreError(f"{folder.spec}: {error}") from error


def resume(
    spec: Stage,
    trainer: Trainer,
    folder: StagePaths,
    history: Sequence[LogRecord],
    journal: Journal,
) -> Result | None:
    """Bring the trainer to the newest checkpoint of an earlier attempt.

    Returns what `prepare` returned then, and None where there is no checkpoint that can be trusted.
    """
    try:
        state = load_state(folder.latest)
        if not any(isinstance(each, Checkpoint) and each.step == state.step for each in history):
            # Lines of the log are gone: what they said of scores and times would be missing in the result.
            raise CorruptFile(
                f"{folder.latest} is of step {state.step}, unknown to {folder.events}"
            )
        masks = load_masks(folder.mask) if spec.mask else None
    except FileNotFoundError:
        return None
    except CorruptFile as error:
        for path in (folder.latest, folder.mask):
            if path.exists():
                set_aside(path)
        journal.append(Note(text=f"starting over: {error}"))
        return None
    trainer.set_masks(None)
    trainer.load(state, optimizer=True)
    trainer.set_masks(masks)
    result = Result()
    if spec.replay:
        return result
    result.count_from(counts(spec, masks))
    for record in history:
        if isinstance(record, Pruned):
            result.score_pruned = record.score_pruned
            result.metrics = {**result.metrics, **record.metrics}
        elif isinstance(record, Begin):
            result.score_start, result.loss_start = record.score_start, record.loss_start
            result.metrics = {**result.metrics, **record.metrics}
    return result


def prepare(
    spec: Stage, key: str, trainer: Trainer, paths: StorePaths, journal: Journal, score: Metric
) -> Result:
    """Bring the trainer to the stage's first step, record what was pruned and what it scores.

    Returns the beginning of the result: counts and first scores; nothing for a replay.
    Raises MissingInput, and NonFiniteWeights where the parent diverged.
    """
    result = Result()
    if spec.replay:
        _begin_replay(spec, trainer, paths)
        return result
    if spec.mask:
        masks, pruned = _prune(spec, key, trainer, paths, journal, score)
        result.count_from(pruned)
        result.score_pruned, result.metrics = pruned.score_pruned, pruned.metrics
        _load_weights(spec, masks, trainer, paths)
    else:
        result.count_from(counts(spec, None))
        trainer.initialise(spec.seed, spec.iteration)
    found = trainer.evaluate("test")
    assert found is not None
    metrics: Metrics = {f"{name}_start": value for name, value in found.metrics.items()}
    result.score_start, result.loss_start = found.metrics[score.name], found.loss
    result.metrics = {**result.metrics, **metrics}
    journal.append(Begin(loss_start=found.loss, score_start=result.score_start, metrics=metrics))
    return result


def _prune(
    spec: Stage, key: str, trainer: Trainer, paths: StorePaths, journal: Journal, score: Metric
) -> tuple[Masks, Pruned]:
    """Score the mask on the parent's end weights, and evaluate the parent under it.

    Returns the masks, and what was recorded of them.
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
    found = trainer.evaluate("test")
    assert found is not None
    pruned = Pruned(
        loss_pruned=found.loss,
        score_pruned=found.metrics[score.name],
        metrics={f"{name}_pruned": value for name, value in found.metrics.items()},
        layers=tuple(
            LayerCount(layer_name(name), mask.numel(), int(mask.sum()))
            for name, mask in masks.items()
            if mask.dim() > 1
        ),
    )
    pruned.count_from(counts(spec, masks))
    return masks, journal.append(pruned)


def counts(spec: Stage, masks: Masks | None) -> Counts:
    """Weights and multiply-adds, all and kept; `ml.network_summary` says what is counted."""
    exclude = spec.mask.settings.exclude if spec.mask else ()
    network = summarise(spec.network).excluding(exclude)
    kept = masks or {}
    return Counts(
        kept=network.weights_kept(kept),
        prunable=network.prunable,
        parameters=network.parameters,
        kept_parameters=network.parameters_kept(kept),
        macs=network.macs_kept(kept),
        macs_dense=network.macs,
        dead_layers=tuple(dead_layers(kept)),
    )


def _load_weights(spec: Stage, masks: Masks, trainer: Trainer, paths: StorePaths) -> None:
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


def read_state(paths: StorePaths, source: Weights) -> TrainingState:
    """Read a done stage's state at a step, or at its end.

    Raises MissingInput where it is not there, or was set aside because it could not be trusted.
    """
    assert source.stage is not None
    folder = paths.stage(source.stage)
    holders = [folder]
    if source.step is not None and folder.spec.exists():
        replay = replay_of(_computable(folder), source.stage, source.step)
        holders.append(paths.stage(stage_key(replay)))
    for holder in holders:
        path = holder.final if source.step is None else holder.rewind(source.step)
        try:
            return load_state(path, source.step, _checksum(holder, path))
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
        return load_masks(folder.mask, _checksum(folder, folder.mask))
    except FileNotFoundError as error:
        if _computable(folder).mask is not None:
            raise MissingInput(f"stage {key[:12]} has lost its mask", key) from error
        return None
    except CorruptFile as error:
        set_aside(folder.mask)
        raise MissingInput(f"{error}; it was set aside", key) from error


def _checksum(folder: StagePaths, path: Path) -> str | None:
    """Return what a done stage's result says of one of its files; None where it says nothing.

    A result of this version that does not name the file says that it is none of the stage's: no content is right then.
    Raises MissingInput where the result cannot be trusted.
    """
    try:
        result = read_result(folder)
    except FileNotFoundError:  # it is being trained
        return None
    except BadRecord as error:
        raise MissingInput(str(error), folder.key) from error
    return None if result.lines_before is None else result.digests.get(path.name, "")


def _computable(folder: StagePaths) -> Stage:
    """Read what a stage is. Raises ValueError where this version cannot compute it."""
    return read_spec(folder).computable


def _begin_replay(spec: Stage, trainer: Trainer, paths: StorePaths) -> None:
    """Start from the dense run's nearest checkpoint before the step wanted, or from its initialisation."""
    assert spec.weights.stage is not None
    folder = paths.stage(spec.weights.stage)
    for step in reversed(folder.rewind_steps()):
        if step <= spec.steps:
            try:
                trainer.set_masks(None)
                path = folder.rewind(step)
                state = load_state(path, step, _checksum(folder, path))
                trainer.load(state, optimizer=True)
                return
            except FileNotFoundError:  # the dense run starts over just now
                continue
            except CorruptFile:
                set_aside(folder.rewind(step))
    trainer.initialise(spec.seed, spec.iteration)

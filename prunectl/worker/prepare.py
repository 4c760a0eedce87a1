"""Before the first step of a stage: weights from where the spec says, masks, and what they score at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from prunectl.ml import network_summary as inspect
from prunectl.ml.pruning.channels import dead_channels
from prunectl.ml.pruning.layers import batchnorm_names, layer_name
from prunectl.ml.pruning.masks import Masks, dead_layers, next_masks
from prunectl.ml.randomness import generator
from prunectl.ml.training.trainer import State, Trainer
from prunectl.spec.key import spec_from_dict, stage_key
from prunectl.spec.stage import StageSpec, Weights, replay_of
from prunectl.store.files import read_json
from prunectl.store.journal import Journal
from prunectl.store.paths import StorePaths
from prunectl.worker.checkpoint import CorruptFile, load_masks, load_state, save_masks, set_aside
from prunectl.worker.failures import MissingInput


@dataclass
class Start:
    """What is known of a stage before its first step."""

    masks: Masks | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """Counts and first accuracies, as they go into the result."""


def prepare(
    spec: StageSpec, key: str, trainer: Trainer, paths: StorePaths, journal: Journal
) -> Start:
    """Bring the trainer to the stage's first step, record what was pruned and what it scores.

    Raises MissingInput, and NonFiniteWeights where the parent diverged.
    """
    if spec.replay:
        return _replay_start(spec, trainer, paths)
    start = _pruned(spec, key, trainer, paths, journal) if spec.mask else _dense(spec, trainer)
    if spec.mask:
        _load_weights(spec, start.masks, trainer, paths)
    scores = trainer.evaluate("test")
    assert scores is not None
    start.facts |= {"accuracy_start": scores.accuracy, "loss_start": scores.loss}
    journal.append("begin", accuracy_start=scores.accuracy, loss_start=scores.loss)
    return start


def _dense(spec: StageSpec, trainer: Trainer) -> Start:
    trainer.initialise(spec.seed, spec.iteration)
    return Start(facts=counts(spec, None) | {"accuracy_pruned": None})


def _pruned(
    spec: StageSpec, key: str, trainer: Trainer, paths: StorePaths, journal: Journal
) -> Start:
    """The mask, scored on the parent's end weights, and how the parent does under it."""
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
    facts = counts(spec, masks) | {"accuracy_pruned": scores.accuracy}
    layers = [
        {"name": layer_name(name), "total": mask.numel(), "kept": int(mask.sum())}
        for name, mask in masks.items()
        if mask.dim() > 1
    ]
    journal.append("pruned", **facts, loss_pruned=scores.loss, layers=layers)
    return Start(masks, facts)


def counts(spec: StageSpec, masks: Masks | None) -> dict[str, Any]:
    """Weights and multiply-adds, all and kept; see core.inspect for what is counted."""
    exclude = spec.mask.settings.exclude if spec.mask else ()
    anatomy = inspect.inspect(spec.network, exclude)
    return {
        "kept": anatomy.weights_kept(masks or {}),
        "prunable": anatomy.prunable,
        "parameters": anatomy.parameters,
        "kept_parameters": anatomy.parameters_kept(masks or {}),
        "macs": anatomy.macs_kept(masks or {}),
        "macs_dense": anatomy.macs,
        "dead_layers": dead_layers(masks or {}),
    }


def _load_weights(
    spec: StageSpec, masks: Masks | None, trainer: Trainer, paths: StorePaths
) -> None:
    """Weights, BatchNorm and optimizer state as the strategy says; step 0 of this stage."""
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
    carried = spec.optimizer_state == "carried"
    trainer.load(state, optimizer=carried)
    if not carried:
        trainer.reset_optimizer()


def read_state(paths: StorePaths, source: Weights) -> State:
    """A done stage's state at a step, or at its end.

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
    """A done stage's masks; None of a dense one.

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


def _replay_start(spec: StageSpec, trainer: Trainer, paths: StorePaths) -> Start:
    """From the dense run's nearest checkpoint before the step wanted, or from its initialisation."""
    assert spec.weights.stage is not None
    assert spec.weights.step is not None
    folder = paths.stage(spec.weights.stage)
    for step in reversed(folder.rewind_steps()):
        if step <= spec.weights.step:
            try:
                trainer.set_masks(None)
                trainer.load(load_state(folder.rewind(step)), optimizer=True)
            except CorruptFile:
                set_aside(folder.rewind(step))
                continue
            return Start()
    trainer.initialise(spec.seed, spec.iteration)
    return Start()

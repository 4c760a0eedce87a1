"""Checkpoints: safetensors files that carry their own checksum, written atomically, never pickles.

A file holds the whole training state, so that what is loaded goes on bit by bit as what was saved:
`weights/…`, `optimizer/…` and `accumulators/…` tensors, and as metadata the stage's key, the step, a sha256
over all tensors, and a checksum over these three. A mask file holds one boolean tensor per prunable layer, a file of
predictions one number per test item (`store.predictions`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prunectl.ml.pruning.masks import Masks
from prunectl.ml.training.state import TrainingState
from prunectl.store import files
from prunectl.store.files import replacing
from prunectl.store.predictions import TENSOR as PREDICTIONS
from prunectl.store.refusals import cannot_read
from prunectl.store.tensors import CorruptFile, holds, metadata_sum

PARTS = ("weights", "optimizer", "accumulators")
"""Fields of a state that hold tensors, which is also how their names in the file begin."""


def save_state(path: Path, state: TrainingState, stage: str) -> None:
    """Write a training state.

    Raises StoreError where it cannot be written.
    """
    tensors = {
        f"{part}/{n}": tensor for part in PARTS for n, tensor in getattr(state, part).items()
    }
    _save(path, tensors, {"stage": stage, "step": str(state.step)})


def load_state(path: Path, step: int | None = None, checksum: str | None = None) -> TrainingState:
    """Read a training state of the stage whose key names its folder.

    Args:
        path: its file.
        step: the step that it must be of; None for any.
        checksum: what its content must come to; None where that is not known.

    Raises FileNotFoundError as is, StoreError where it cannot be read, CorruptFile where the content cannot be trusted.
    """
    tensors, metadata = _load(path, checksum)
    if step is not None and metadata.get("step") != str(step):
        raise CorruptFile(f"{path} is of step {metadata.get('step')}")
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, value in tensors.items():
        part, _, inner = name.partition("/")
        parts[part][inner] = value
    return TrainingState(**parts, step=int(metadata["step"]))


def save_masks(path: Path, masks: Masks, stage: str) -> None:
    """Write a stage's mask: True where a weight is kept."""
    _save(path, dict(masks), {"stage": stage})


def load_masks(path: Path, checksum: str | None = None) -> Masks:
    """Read a stage's mask; arguments and errors as `load_state`."""
    return _load(path, checksum)[0]


def save_predictions(path: Path, classes: Tensor, stage: str) -> None:
    """Write the class that a stage's last network predicts for each test item, int64 [items], each below 65,536.

    Raises StoreError where it cannot be written.
    """
    _save(path, {PREDICTIONS: classes.to(torch.uint16)}, {"stage": stage})


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        try:
            metadata = metadata | {"sha256": _checksum(plain)}
            save_file(plain, temporary, metadata | {"sum": metadata_sum(metadata)})
        except SafetensorError as error:
            refused = _of_the_system(error)
            if refused is None:
                raise
            raise refused from error


def _of_the_system(error: SafetensorError) -> OSError | None:
    """Return the error of the system behind one of safetensors, which has its number in the text alone."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def _load(path: Path, checksum: str | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        # safetensors says of a file that may not be read that it is not there.
        with files.disk.open(path):
            pass
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot_read(path, error) from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CorruptFile(f"{path} cannot be read: {error}") from error
    found = _checksum(tensors)
    if metadata.get("sha256") != found or not holds(metadata):
        raise CorruptFile(f"{path} is not what its checksum says")
    if metadata.get("stage") != path.parent.name:
        raise CorruptFile(f"{path} is of stage {metadata.get('stage')}")
    if checksum not in (None, found):
        raise CorruptFile(f"{path} is not the file that its stage's result names")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()

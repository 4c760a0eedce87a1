"""What a warm worker keeps between stages: data sets and trainers."""

from __future__ import annotations

import gc
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from prunectl.ml.datasets import Images, Streamed, load
from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.settings import DataSettings, NetworkSettings, TrainSettings
from prunectl.spec.stage import StageSpec

_Kind = tuple[NetworkSettings, TrainSettings, DataSettings]


class Engines:
    """Trainers by what they are built for; stages that agree in it take turns on one, copied into in place."""

    def __init__(self, data_root: Path, device: str, keep: int = 2, *, fuse: bool = False) -> None:
        """`keep` kinds of trainers stay ready; `fuse` is the trainers' own."""
        self.device = device
        self.fuse = fuse
        self._root = data_root
        self._keep = keep
        self._images: OrderedDict[DataSettings, Images | Streamed] = OrderedDict()
        self._idle: OrderedDict[_Kind, list[Trainer]] = OrderedDict()
        self._alive: dict[int, _Kind] = {}

    @property
    def lanes(self) -> int | None:
        """Trainers that share the process's memory, idle ones too; None where they are of several kinds, and
        nobody can say what is whose."""
        kinds = list(self._alive.values())
        return len(kinds) if len(set(kinds)) == 1 else None

    def borrow(self, spec: StageSpec) -> Trainer:
        """A trainer for the stage, its state that of whoever used it last.

        Raises DataError where the data set is not there.
        """
        kind = _kind(spec)
        configure(self.device, spec.train)
        idle = self._idle.get(kind)
        if idle:
            return idle.pop()
        images = self._load(spec.data)
        trainer = Trainer(spec.network, spec.train, images, self.device, fuse=self.fuse)
        self._alive[id(trainer)] = kind
        return trainer

    def give_back(self, spec: StageSpec, trainer: Trainer) -> None:
        """Keep the trainer for the next stage of its kind; the kind used longest ago is dropped."""
        kind = _kind(spec)
        self._idle.setdefault(kind, []).append(trainer)
        self._idle.move_to_end(kind)
        while len(self._idle) > self._keep:
            _, dropped = self._idle.popitem(last=False)
            self.discard(*dropped)

    def discard(self, *trainers: Trainer) -> None:
        """Free what trainers hold on the device."""
        for trainer in trainers:
            self._alive.pop(id(trainer), None)
            trainer.close()
        if self.device != "cpu":
            # Trainers hold themselves in cycles, which Python would keep until it happens to look.
            gc.collect()

    def _load(self, settings: DataSettings) -> Images | Streamed:
        if settings not in self._images:
            self._images[settings] = load(settings, self._root)
        self._images.move_to_end(settings)
        while len(self._images) > self._keep:
            self._images.popitem(last=False)
        return self._images[settings]


def _kind(spec: StageSpec) -> _Kind:
    # How often a stage is evaluated is the stage's affair, not the engine's.
    return spec.network, replace(spec.train, evaluate_every=0), spec.data

"""What a warm worker keeps between stages: data sets and trainers."""

from __future__ import annotations

import gc
from collections import OrderedDict
from pathlib import Path

import torch
from msgspec.structs import replace

from prunectl.ml.datasets.images import Images, Streamed, load
from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.settings import DataSettings, NetworkSettings, TrainSettings
from prunectl.spec.stage import Stage
from prunectl.store.paths import StorePaths
from prunectl.store.records.dataset import check_dataset, dataset_record

Workload = tuple[NetworkSettings, TrainSettings, DataSettings, str]
"""What a trainer is built for."""


class TrainerCache:
    """Trainers by workload; stages of the same workload take turns on one, copied into in place."""

    def __init__(
        self,
        data_root: Path,
        device: str,
        keep: int = 2,
        *,
        fuse: bool = False,
        store: StorePaths | None = None,
    ) -> None:
        """Trainers of `keep` workloads stay ready, and as many data sets; `fuse` is the trainers' own.

        Data sets must hold what the `store` recorded of them.
        """
        self.device = device
        self.fuse = fuse
        self._root = data_root
        self._keep = keep
        self._store = store
        self._images: OrderedDict[DataSettings, Images | Streamed] = OrderedDict()
        self._idle: OrderedDict[Workload, list[Trainer]] = OrderedDict()
        self._alive: dict[int, Workload] = {}

    @property
    def sharing(self) -> int | None:
        """Trainers that share the process's memory, idle ones too; None where they are of several workloads, as
        then the memory of one cannot be told from that of the others."""
        workloads = list(self._alive.values())
        return len(workloads) if len(set(workloads)) == 1 else None

    def borrow(self, spec: Stage) -> Trainer:
        """Return a trainer for the stage, in the state that its last user left it in.

        Raises DataError where the data set is not there, or is not what the store's stages were trained on.
        """
        workload = _workload(spec)
        configure(self.device, spec.train)
        idle = self._idle.get(workload)
        if idle:
            return idle.pop()
        images = self._load(spec.data)
        trainer = Trainer(spec.network, spec.train, images, self.device, spec.task, fuse=self.fuse)
        self._alive[id(trainer)] = workload
        return trainer

    def give_back(self, spec: Stage, trainer: Trainer) -> None:
        """Keep the trainer for the next stage of its workload; drop the workload used longest ago."""
        workload = _workload(spec)
        self._idle.setdefault(workload, []).append(trainer)
        self._idle.move_to_end(workload)
        while len(self._idle) > self._keep:
            _, dropped = self._idle.popitem(last=False)
            self.discard(*dropped)

    def discard(self, *trainers: Trainer) -> None:
        """Free what trainers hold on the device."""
        for trainer in trainers:
            self._alive.pop(id(trainer), None)
            trainer.close()
        if self.device != "cpu":
            # Trainers hold themselves in cycles, which Python would keep until its collector happens to run.
            gc.collect()

    def discard_idle(self) -> None:
        """Free what no stage uses, and give it back to the device, where memory has run short."""
        idle = [trainer for trainers in self._idle.values() for trainer in trainers]
        self._idle.clear()
        self.discard(*idle)
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def _load(self, settings: DataSettings) -> Images | Streamed:
        if settings not in self._images:
            images = load(settings, self._root)
            if self._store is not None and images.digests:
                found = dataset_record(settings.name, settings.fingerprint, dict(images.digests))
                check_dataset(self._store, found)
            self._images[settings] = images
        self._images.move_to_end(settings)
        while len(self._images) > self._keep:
            self._images.popitem(last=False)
        return self._images[settings]


def _workload(spec: Stage) -> Workload:
    # How often a stage is evaluated changes nothing of the trainer.
    return spec.network, replace(spec.train, evaluate_every=0), spec.data, spec.task

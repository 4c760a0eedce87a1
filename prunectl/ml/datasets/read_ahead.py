"""Reading image files ahead: torch's DataLoader, whose processes make images while the device computes.

One `ImageLoader` serves everything that one process reads of a data set, one stream of batches at a time. Its
processes are started once and kept through epochs, evaluations and stages. A new stream makes them drop what is
left of the one before, which is little, because batches are read in small chunks.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from prunectl.errors import DataError
from prunectl.ml.datasets.image_files import ImageReader, Sample
from prunectl.ml.datasets.listing import Preprocessing

PREFETCH = 4
"""Chunks that wait or are worked on, for each process."""
CHUNK_BYTES = 4 << 20
"""Bytes of images in one chunk: with fewer, passing messages takes time; with more, much is dropped and held."""
COPIES = 2
"""Batches whose copies to the device are not waited for: with more the host gets further ahead of it, and every batch
stays in pinned memory until it is copied (256 images of ImageNet: 37 MiB)."""
MAX_WORKERS = 24
"""Processes beyond which reading is hardly ever what a device waits for."""


def worker_count(device: torch.device) -> int:
    """Return how many processes read ahead: PRUNECTL_LOADERS, else this process's share of the cores, less one.

    PRUNECTL_SHARING says how many processes with a device share them: a worker sees one device, whatever the run uses.
    On a CPU none read ahead: there every core has a worker that trains.
    """
    if (loaders := os.environ.get("PRUNECTL_LOADERS", "")).isdecimal():
        return int(loaders)
    if device.type == "cpu":
        return 0
    told = os.environ.get("PRUNECTL_SHARING", "")
    sharing = int(told) if told.isdecimal() else torch.cuda.device_count()
    return min(MAX_WORKERS, max(1, len(os.sched_getaffinity(0)) // max(1, sharing) - 1))


def images_per_chunk(preprocessing: Preprocessing, workers: int) -> int:
    """Return how many images go into one chunk.

    What `workers` processes hold in /dev/shm has to fit into half of what is free: containers often have 64 MB.
    """
    budget = CHUNK_BYTES
    if workers:
        shared = os.statvfs("/dev/shm")
        free = shared.f_bavail * shared.f_frsize
        budget = min(budget, free // 2 // (workers * (PREFETCH + 1)))
    channels, height, width = preprocessing.shape
    return max(1, min(64, budget // (channels * height * width)))


class ImageLoader:
    """Reads streams of batches of images for one device."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self.preprocessing = preprocessing
        self.device = device
        self.workers = worker_count(device)
        self.turn = 0
        """Number of the stream that is served; another one's next batch cannot be had."""
        self._sampler = _ChunkSampler(images_per_chunk(preprocessing, self.workers))
        self._loader: DataLoader[Any] | None = None

    def stream(self, batches: Iterable[list[Sample]]) -> Iterator[Tensor]:
        """Read `batches`, which may be endless, from now on, instead of whatever was read before.

        Yields each batch's images, uint8 [n, height, width, channels], on the device. Raises DataError for a file
        that cannot be read, RuntimeError where a loading process died or another stream has begun since.
        """
        if self._loader is None:
            self._loader = self._start()
        ahead, here = itertools.tee(batches)
        self._sampler.batches = ahead
        self.turn += 1
        return self._read(iter(self._loader), here, self.turn)

    def close(self) -> None:
        """End the processes; the next stream starts others."""
        self.turn += 1
        self._sampler.batches = iter(())
        self._loader = None

    def _read(
        self, chunks: Iterator[Any], batches: Iterator[list[Sample]], turn: int
    ) -> Iterator[Tensor]:
        copies: deque[torch.cuda.Event] = deque()
        for batch in batches:
            parts = []
            for _ in range(0, len(batch), self._sampler.size):
                if turn != self.turn:
                    raise RuntimeError("another stream has begun")
                parts.append(self._next(chunks).to(self.device, non_blocking=True))
            if self.device.type == "cuda":
                copies.append(torch.cuda.current_stream(self.device).record_event())
                if len(copies) > COPIES:
                    copies.popleft().synchronize()
            # Copies even a single part, which frees the shared memory that it came in.
            yield torch.cat(parts)

    def _next(self, chunks: Iterator[Any]) -> Tensor:
        try:
            chunk = next(chunks)
        except (RuntimeError, OSError, EOFError) as error:
            # One of the loader's processes has died: torch notices, or the broken pipe to it shows first.
            self.close()
            text = f"a process that loads images exited unexpectedly: {error}"
            raise RuntimeError(text) from error
        if isinstance(chunk, DataError):
            raise chunk
        assert isinstance(chunk, Tensor)
        return chunk

    def _start(self) -> DataLoader[Any]:
        # Forked processes would inherit this one's locks, pipes and CUDA context.
        context = torch.multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([ImageReader.__module__, "torchvision.transforms.v2"])
        return DataLoader(
            ImageReader(self.preprocessing),
            batch_sampler=self._sampler,
            collate_fn=_collate,
            num_workers=self.workers,
            prefetch_factor=PREFETCH if self.workers else None,
            persistent_workers=self.workers > 0,
            multiprocessing_context=context if self.workers else None,
            worker_init_fn=_exit_with_parent,
            pin_memory=self.device.type == "cuda",
            # Without one it would draw a seed for its processes from the global generator.
            generator=torch.Generator(),
        )


class _ChunkSampler(Sampler[list[Sample]]):
    """A batch sampler that cuts batches of samples into chunks, none of which crosses a batch's end."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.batches: Iterator[list[Sample]] = iter(())

    def __iter__(self) -> Iterator[list[Sample]]:
        for batch in self.batches:
            for start in range(0, len(batch), self.size):
                yield batch[start : start + self.size]


def _collate(images: list[Tensor | DataError]) -> Tensor | DataError:
    """Stack images to uint8 [n, height, width, channels]; or return what is wrong with the first bad file."""
    for image in images:
        if isinstance(image, DataError):
            return image
    stacked: Tensor = default_collate(images)
    return stacked


def _exit_with_parent(worker: int) -> None:
    """Exit at once when the process that reads is gone, however it ended.

    torch's own watchdog looks at the parent's id, and the parent of these is the fork server, which for its part
    lives as long as they do.
    """
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

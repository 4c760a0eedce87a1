"""Reading ahead: processes that answer requests for images while the device computes.

One loader serves everything that one process reads of a data set, one stream of requests at a time. Its processes
are started once and kept through epochs, evaluations and stages; a new stream makes them drop what is left of the
one before, which is little, because requests are small.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from prunectl.errors import DataError
from prunectl.ml.datasets.image_files import Reader, Request
from prunectl.ml.datasets.listing import View

AHEAD = 4
"""Requests that wait or are worked on, for each process."""
REQUEST_BYTES = 4 << 20
"""Bytes of images in one answer: less, and the passing of messages shows; more, and much lies about."""
MOST = 24
"""Processes beyond which reading is hardly ever what a device waits for."""


def processes(device: torch.device) -> int:
    """How many processes read ahead: PRUNECTL_LOADERS, else this GPU's share of the cores, but for one.

    On a CPU none: there every core has a worker that trains.
    """
    if os.environ.get("PRUNECTL_LOADERS", "").isdecimal():
        return int(os.environ["PRUNECTL_LOADERS"])
    if device.type == "cpu":
        return 0
    devices = torch.cuda.device_count() if device.type == "cuda" else 1
    return min(MOST, max(1, len(os.sched_getaffinity(0)) // max(1, devices) - 1))


def images_per_request(view: View, count: int) -> int:
    """Images asked for at once, so that what `count` processes hold in shared memory fits, in a container too."""
    budget = REQUEST_BYTES
    if count:
        shared = os.statvfs("/dev/shm")
        free = shared.f_bavail * shared.f_frsize
        budget = min(budget, free // 2 // (count * (AHEAD + 1)))
    channels, height, width = view.shape
    return max(1, min(64, budget // (channels * height * width)))


class Loader:
    """Answers streams of requests, in order."""

    def __init__(self, view: View, count: int) -> None:
        """`count` processes read ahead; with 0 the caller's reads when it is asked."""
        self.view = view
        self.count = count
        self.per_request = images_per_request(view, count)
        self.stream: Stream | None = None
        """The stream that is served; another one's next image cannot be had."""
        self._requests = _Requests()
        self._loader: DataLoader[Any] | None = None

    def begin(self, requests: Iterable[Request]) -> Stream:
        """Serve these from now on, instead of whatever was served before; they may be endless."""
        if self._loader is None:
            self._loader = self._made()
        self._requests.coming = iter(requests)
        self.stream = Stream(self, iter(self._loader))
        return self.stream

    def close(self) -> None:
        """End the processes; the next stream starts others."""
        self.stream = None
        self._requests.coming = iter(())
        self._loader = None

    def _made(self) -> DataLoader[Any]:
        ahead: dict[str, Any] = {}
        if self.count:
            # Forked processes would inherit this one's locks, pipes and CUDA context.
            context = torch.multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([Reader.__module__, "torchvision.transforms.v2"])
            ahead = {
                "multiprocessing_context": context,
                "persistent_workers": True,
                "prefetch_factor": AHEAD,
                "worker_init_fn": _die_with_parent,
            }
        return DataLoader(
            Reader(self.view),  # type: ignore[arg-type]
            batch_size=None,
            sampler=self._requests,
            num_workers=self.count,
            collate_fn=_as_it_is,
            # It would draw a seed for its processes from the global generator.
            generator=torch.Generator(),
            **ahead,
        )


class Stream:
    """The images of one stream of requests, in order."""

    def __init__(self, loader: Loader, answers: Iterator[Any]) -> None:
        self._loader = loader
        self._answers = answers

    @property
    def live(self) -> bool:
        """Whether the loader still serves it."""
        return self._loader.stream is self

    def take(self) -> Tensor:
        """The next request's images, uint8 [n, height, width, channels].

        Raises DataError for a file that cannot be read, RuntimeError where a loading process died, StopIteration
        where there are no more requests.
        """
        if not self.live:
            raise RuntimeError("another stream has begun")
        try:
            answer = next(self._answers)
        except (RuntimeError, OSError, EOFError) as error:
            # A process of the loader's has died, which torch notices or the broken pipe to it tells first.
            self._loader.close()
            raise RuntimeError(
                f"a process that loads images exited unexpectedly: {error}"
            ) from error
        if isinstance(answer, DataError):
            raise answer
        assert isinstance(answer, Tensor)
        return answer


class _Requests:
    """The DataLoader's sampler: goes through whatever is coming now."""

    coming: Iterator[Request] = iter(())

    def __iter__(self) -> Iterator[Request]:
        return self.coming


def _as_it_is(answer: Any) -> Any:
    return answer


def _die_with_parent(number: int) -> None:
    """Leave at once when the process that reads is gone, however it went.

    torch's own watchdog looks at the parent's id, and the parent of these is the fork server, which for its part
    lives as long as they do.
    """
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

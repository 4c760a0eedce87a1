"""CUDA streams and graphs: where a trainer's work is queued, and how a step becomes one launch.

A training step of a small network is a few hundred kernels of a few microseconds: launched one by one from Python,
the device waits for the host most of the time. A graph is the whole step, recorded once and launched at once. It
reads and writes the memory it was recorded with, so everything a step depends on lives in tensors that never move,
and stages are copied into them.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunectl.gc_pause import without_collector

Step = Callable[[Tensor, Tensor], None]
"""A function of pixels and targets that works in place on tensors that stay where they are."""
Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Does a call a few times to warm it up, then makes a replay of it: nothing is done by recording itself, and everything
by each replay."""

NO_WORKSPACE = (
    "there is no memory for the workspace of the kernel that cuDNN prefers, and another kernel would give other last "
    "bits (deterministic = false takes it)"
)
"""torch takes the next of cuDNN's plans where memory lacks for one, and tells nobody; where it lacks for all of them it
says that no engine was found."""
WARM_UP = 3
"""Steps done before recording: cuDNN and cuBLAS choose kernels and take their workspaces in the first ones."""
AHEAD = 4
"""Marks (of some 16 steps each) that a trainer may be ahead of its device: enough to hide what the host does at the
end of an epoch, few enough to stop at once and to share the device evenly."""

_free_streams: dict[torch.device, list[torch.cuda.Stream]] = {}
_shared: dict[int, SharedMemory] = {}


class DeviceSlot:
    """A trainer's slot on a device: a CUDA stream of its own, or nothing on a CPU, where calls do the work.

    torch hands out 32 streams in turn and then the same again. Two graphs on one stream share cuBLAS' workspace, and
    freeing one would free it for the other, so streams are given back and used again by one trainer at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream: torch.cuda.Stream | None = None
        self._marks: deque[torch.cuda.Event] = deque()
        self._pool: Any = None
        if device.type == "cuda":
            self._free = _free_streams.setdefault(device, [])
            if not self._free:
                self._free.append(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
            self.stream = self._free.pop()
            # What all trainers share was uploaded on another stream.
            self.stream.wait_stream(torch.cuda.current_stream(device))

    def queue(self) -> contextlib.AbstractContextManager[object]:
        """Return a context in which launches are queued here. Must not be held across a yield: others run then."""
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def mark(self) -> None:
        """Mark the present end of the queue, for `ahead`."""
        if self.stream is not None:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(self.stream)
            self._marks.append(event)

    def ahead(self) -> int:
        """Return how many marks the device has not reached yet. Does not wait."""
        while self._marks and self._marks[0].query():  # type: ignore[no-untyped-call]
            self._marks.popleft()
        return len(self._marks)

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        """Warm a call up and record what it launches as a graph.

        All graphs of a slot share their memory, since they never run at the same time and nothing of one is used
        by the next.
        """
        assert self.stream is not None
        graph = _record(call, self.stream, self._pool)
        self._pool = graph.pool()
        return graph.replay

    def close(self) -> None:
        """Wait for what is queued and give the stream back; the slot must not be used again."""
        if self.stream is not None:
            self.stream.synchronize()
            self._free.append(self.stream)
            self.stream = None


def _record(
    call: Callable[[], None],
    stream: torch.cuda.Stream,
    pool: Any,
    warm_up: Callable[[], None] | None = None,
) -> torch.cuda.CUDAGraph:
    """Warm a call up on the stream that it is then recorded on: cuBLAS keeps a workspace for each stream, which would
    belong to the graph if it were first taken while recording."""
    graph = torch.cuda.CUDAGraph()
    spoilt: Exception | None = None
    # A capture that cannot be ended leaves its stream in place; this puts the one from before back.
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            (warm_up or call)()
        try:
            with (
                # Python must not free another trainer's graphs while one is being recorded.
                without_collector(),
                torch.cuda.graph(
                    graph, pool=pool, stream=stream, capture_error_mode="thread_local"
                ),
            ):
                try:
                    call()
                except Exception as error:
                    spoilt = error
                    raise
        except Exception as error:
            if spoilt is None or spoilt is error:
                raise
            raise spoilt from error  # ending the capture only says that something was wrong before
    return graph


class SharedMemory:
    """Graphs of all trainers of a device that work in the same memory, each from when the one before is over.

    They are recorded on one stream, because blocks of torch's allocator belong to the stream they were taken on: on a
    stream for each trainer, nothing would be shared. Nothing that a graph leaves behind may be in that memory.
    """

    @classmethod
    def of(cls, device: torch.device) -> SharedMemory:
        """Return the device's."""
        index = torch.cuda.current_device() if device.index is None else device.index
        if index not in _shared:
            _shared[index] = cls(index)
        return _shared[index]

    def __init__(self, device: int) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Not only a handle, so that warming up uses the same memory, too. What it holds it keeps.
        with torch.cuda.device(device):  # a pool is of the device that is current
            self._pool = torch.cuda.MemPool()
        self._over = torch.cuda.Event()  # type: ignore[no-untyped-call]
        """The end of the last work in the memory that was queued, on whichever stream."""

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        """Warm a call up and record it. Its replay is queued on the stream that is current then."""
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        self._stream.wait_event(self._over)

        def warm_up() -> None:
            with torch.cuda.use_mem_pool(self._pool, self._device):
                call()

        try:
            graph = _record(call, self._stream, self._pool.id, warm_up)
        finally:
            # The memory is in use until warming up is over, for others, too.
            self._over.record(self._stream)
            here.wait_stream(self._stream)

        def replay() -> None:
            stream = torch.cuda.current_stream(self._device)
            self._wait(stream)
            graph.replay()
            self._over.record(stream)

        return replay

    def _wait(self, stream: torch.cuda.Stream) -> None:
        """Let a stream, not the host, wait until the memory is free."""
        stream.wait_event(self._over)


class CaptureFailed(Exception):
    """A step that cannot be recorded, and why; the attempt has changed nothing."""


class Graphs:
    """Runs a step by replaying graphs of it, one per size of batch and variant, each recorded when first needed."""

    def __init__(
        self, step: Step, changes: Callable[[], Iterable[Tensor]], record: Recorder
    ) -> None:
        """`changes` gives all tensors that the step changes: recording leaves them as they were."""
        self._step = step
        self._changes = changes
        self._record = record
        self._recorded: dict[Hashable, tuple[Tensor, Tensor, Callable[[], None]]] = {}

    def __len__(self) -> int:
        """Graphs recorded."""
        return len(self._recorded)

    def forget(self) -> None:
        """Record anew from now on."""
        self._recorded.clear()

    def run(self, pixels: Tensor, targets: Tensor, variant: Hashable = None) -> None:
        """Do the step on a batch. `variant` names whatever else decides which kernels it launches.

        Raises CaptureFailed; the step has not been done then.
        """
        key = (len(targets), variant)
        if key not in self._recorded:
            self._recorded[key] = self._prepare(pixels, targets)
        own_pixels, own_targets, replay = self._recorded[key]
        own_pixels.copy_(pixels)
        own_targets.copy_(targets)
        replay()

    def _prepare(
        self, pixels: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Callable[[], None]]:
        own_pixels, own_targets = pixels.clone(), targets.clone()
        if own_pixels.is_cuda:
            # Kernels may be chosen by timing them: let no other slot's work disturb that.
            torch.cuda.synchronize(own_pixels.device)
        with torch.no_grad():
            before = [(tensor, tensor.clone()) for tensor in self._changes()]
        lacked = _lacked(own_pixels)
        try:
            replay = self._record(lambda: self._step(own_pixels, own_targets))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if _lacked(own_pixels) > lacked:
                raise torch.OutOfMemoryError(NO_WORKSPACE) from error
            raise CaptureFailed(_told(error)) from error
        finally:
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)
        if _lacked(own_pixels) > lacked and torch.are_deterministic_algorithms_enabled():
            raise torch.OutOfMemoryError(NO_WORKSPACE)
        return own_pixels, own_targets, replay


def _lacked(tensor: Tensor) -> int:
    """Return how often the device has had no memory for a request of this process, whether anybody was told or not."""
    return torch.cuda.memory_stats(tensor.device).get("num_ooms", 0) if tensor.is_cuda else 0


def _told(error: BaseException) -> str:
    """Return an error in one line, with the line of code outside torch where it happened."""
    line = str(error).strip().split("\n", 1)[0]
    ours = Path(torch.__file__).parent
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if not Path(frame.filename).is_relative_to(ours)]
    where = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {line}{where}"

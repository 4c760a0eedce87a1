"""A fake CUDA runtime: torch's own CUDA code on a machine without a GPU (README.md beside this says what it does).

`python -m tests.support.fakecuda build` compiles it, and `python -m tests.support.fakecuda run COMMAND…` runs a command
with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = Path(__file__).parent
PARTS = ("runtime", "driver", "libraries")
NAMES = ("libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1")
"""What else it stands for."""


def folder() -> Path:
    """Return where it is built: FAKECUDA, or `build` beside the sources."""
    return Path(os.environ.get("FAKECUDA") or SOURCES / "build").resolve()


def packages() -> Path | None:
    """Return the folder in which torch and the nvidia-* wheels are installed; None without torch."""
    spec = importlib.util.find_spec("torch")
    return None if spec is None or spec.origin is None else Path(spec.origin).parents[1]


def why_not() -> str | None:
    """Return why it cannot be built here; None if it can."""
    if shutil.which("g++") is None:
        return "the fake CUDA runtime needs g++"
    found = packages()
    if found is None or not (found / "nvidia/cu13/include/cuda_runtime_api.h").exists():
        return "the fake CUDA runtime needs a torch for CUDA 13 with its nvidia-* wheels"
    return None


def build(out: Path | None = None) -> Path:
    """Compile it into a folder, in about ten seconds. Returns the folder.

    Raises:
        RuntimeError: where something it needs is missing.
        CalledProcessError: where it does not compile.
    """
    if (reason := why_not()) is not None:
        raise RuntimeError(reason)
    out, found = out or folder(), packages()
    out.mkdir(parents=True, exist_ok=True)
    headers = [
        SOURCES / "stub",
        *(f"{found}/nvidia/{part}/include" for part in ("cu13", "cudnn")),
    ]
    flags = ["-std=c++17", "-O1", "-fPIC", "-w", *(f"-I{each}" for each in headers)]
    objects = [out / f"{part}.o" for part in PARTS]
    compilers = [
        subprocess.Popen(["g++", *flags, "-c", SOURCES / f"{part}.cpp", "-o", target])
        for part, target in zip(PARTS, objects, strict=True)
    ]
    if any([compiler.wait() for compiler in compilers]):
        raise subprocess.CalledProcessError(1, "g++")
    library = out / "libfakecuda.so"
    subprocess.run(
        ["g++", "-shared", "-o", library, *objects, "-ldl", "-lpthread", "-lrt"], check=True
    )
    for name in NAMES:
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(library.name)
    return out


def missing() -> str | None:
    """Return why no process can be started with it now; None if it is built."""
    if (folder() / "libfakecuda.so").exists():
        return None
    return why_not() or "not built: python -m tests.support.fakecuda build"


def environment(**knobs: object) -> dict[str, str]:
    """Return the environment of a process with the fake: FAKE_DEVICES=2 as `devices=2`, and so on.

    A process of its own shares no device's memory with others, unless FAKE_SESSION (`session`) says so.
    """
    out = folder()
    before = {name: os.environ.get(name) for name in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
    first = {"LD_PRELOAD": str(out / "libfakecuda.so"), "LD_LIBRARY_PATH": str(out)}
    joined = {
        name: ":".join(filter(None, [path, before[name] if before[name] != path else None]))
        for name, path in first.items()
    }
    chosen = {f"FAKE_{name.upper()}": str(value) for name, value in knobs.items()}
    session = {"FAKE_SESSION": f"{os.getpid()}"}
    return {**os.environ, **joined, "TRITON_LIBCUDA_PATH": str(out), **session, **chosen}


# --- from inside ------------------------------------------------------------------------------------


def running() -> bool:
    """Return whether this process was started with it."""
    return hasattr(ctypes.CDLL(None), "fake_dump")


@dataclass
class Counts:
    """What a process asked of CUDA."""

    kernels: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """By name: launched eagerly, captured into graphs, replayed."""
    calls: Counter[str] = field(default_factory=Counter)
    copies: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By how and between what, as in ``eager pinned->device``: how many, and their bytes together."""
    notes: list[str] = field(default_factory=list)
    """Rules of CUDA's that were broken."""

    @classmethod
    def read(cls, path: Path) -> Counts:
        """Read what the fake wrote."""
        found = json.loads(path.read_text())
        return cls(
            {name: (n[0], n[1], n[2]) for name, n in found["kernels"].items()},
            Counter(found["calls"]),
            {name: (n[0], n[1]) for name, n in found["copies"].items()},
            found["notes"],
        )

    def launched(self, how: int | None = None) -> int:
        """Return the kernels launched: eagerly (0), captured (1), replayed (2), or eagerly and replayed (None)."""
        places = (0, 2) if how is None else (how,)
        return sum(each[place] for each in self.kernels.values() for place in places)

    @property
    def waits(self) -> int:
        """Times that the host waited for a device, and so for all that was queued on it."""
        names = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize")
        # torch waits once more, which costs nothing, for a copy to pageable memory that has waited by itself.
        return max(
            sum(self.calls[name] for name in names), self.calls["(copy to pageable memory waits)"]
        )

    def copied(self, between: str) -> tuple[int, int]:
        """Return how many copies there were, such as ``pinned->device``, eager and replayed, and their bytes."""
        found = [self.copies.get(f"{how} {between}", (0, 0)) for how in ("eager", "replayed")]
        return sum(n for n, _ in found), sum(size for _, size in found)


@dataclass(frozen=True)
class Totals:
    """What a process asked of CUDA altogether (FAKE_TOTALS), also one that was killed."""

    eager: int
    captured: int
    replayed: int
    """Kernels."""
    graphs: int
    """Launches of graphs."""
    waits: int
    notes: int
    """Rules of CUDA's that were broken."""

    @classmethod
    def read(cls, path: Path) -> Totals:
        """Read what the fake wrote."""
        return cls(*array("Q", path.read_bytes()))


@contextlib.contextmanager
def counted() -> Iterator[Counts]:
    """Count what is asked of CUDA inside; the counts are filled in at the end."""
    fake, counts = ctypes.CDLL(None), Counts()
    fake.fake_reset()
    yield counts
    with tempfile.NamedTemporaryFile() as file:
        fake.fake_dump(file.name.encode())
        vars(counts).update(vars(Counts.read(Path(file.name))))


@contextlib.contextmanager
def traced() -> Iterator[list[tuple[str, str]]]:
    """List what is queued inside, in order, as (device.stream, what), a stream by its handle, the default one as 0;
    filled in at the end."""
    fake, queued = ctypes.CDLL(None), list[tuple[str, str]]()
    fake.fake_trace()
    yield queued
    with tempfile.NamedTemporaryFile() as file:
        fake.fake_traced(file.name.encode())
        for line in Path(file.name).read_text().splitlines():
            stream, _, what = line.partition(" ")
            queued.append((stream, what))


@dataclass
class Memory:
    """Memory that will run out."""

    left: int
    """Allocations until it does, filled in at the end; 0 where it has."""


@contextlib.contextmanager
def out_of_memory(allocation: int) -> Iterator[Memory]:
    """Let the n-th allocation from a device fail inside, and again when it is repeated at once; 0 for none."""
    fake, memory = ctypes.CDLL(None), Memory(allocation)
    fake.fake_allocations_left.restype = ctypes.c_long
    fake.fake_deny(ctypes.c_long(allocation))
    try:
        yield memory
    finally:
        memory.left = fake.fake_allocations_left()
        fake.fake_deny(ctypes.c_long(0))

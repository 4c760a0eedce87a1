"""The steps of `bench card`, from the most to the least telling. Free of torch: `child` imports what a part needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import prunectl
from prunectl.bench.card.records import Order, Outcome, PartResult
from prunectl.bench.train import cuda_tables
from prunectl.errors import UnknownName

TESTS = Path(prunectl.__file__).parents[1] / "tests"
"""Of a source tree; an installed package has none."""


@dataclass(frozen=True)
class Step:
    """One question to a card."""

    name: str
    what: str
    module: str
    """Of this package; its `run(order)` does a part."""
    parts: tuple[str, ...]
    seconds: float
    """Time limit of each part."""

    def run(self, order: Order) -> Outcome:
        """Do a part, in this process."""
        found: Callable[[Order], Outcome] = import_module(self.module).run
        return found(order)


def all_steps() -> list[Step]:
    """List the steps in their order."""
    return [
        _step("doctor", "driver, NVML, memory, torch against the driver", ["doctor"], 180),
        _step("tests", "the tests that need a device, of the source tree", test_files(), 600),
        _step(
            "numbers",
            "the quickstart study on the card against the CPU's: first steps, scores, masks",
            ["steps", "cpu", "card", "compared"],
            600,
        ),
        _step(
            "resume",
            "killed with kill -9 and started again: the same bits",
            ["whole", "worker", "scheduler"],
            400,
        ),
        _step(
            "slots",
            "stages side by side against one, on streams and as processes: the same bits",
            ["2", "4", "2-processes"],
            400,
        ),
        _step(
            "memory",
            "memory that runs out: survived, and the neighbour's bits unchanged",
            ["limits", "filled"],
            400,
        ),
        _step("fault", "a kernel that faults: the study goes on", ["assert"], 400),
        _step("table", "a plain loop to fused graphs in slots: seconds an epoch", _table(), 500),
        _step(
            "kernels",
            "kernels of a step, and memory against NVML's",
            [f"{network}-{precision}" for network in NETWORKS for precision in PRECISIONS],
            200,
        ),
        _step(
            "costs",
            "precision, fusion against graphs, deterministic kernels: seconds an epoch",
            [f"{network}-{variant}" for network in NETWORKS for variant in VARIANTS],
            300,
        ),
        _step(
            "packing",
            "trainings side by side: streams of one process, processes, processes under MPS",
            [f"{how}-{count}" for count in COUNTS for how in ("streams", "processes", "mps")],
            300,
        ),
        _step(
            "loaders", "JPEG files read ahead by so many processes: images a second", LOADERS, 200
        ),
        _step("overlap", "copies beside kernels", ["copies"], 120),
    ]


NETWORKS = ("resnet-20", "wrn-16-8")
"""One whose steps are bound by launches, and one whose are bound by arithmetic."""
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
VARIANTS = ("fp32", "tf32", "bf16", "fp16", "eager", "fused", "fused-graphs", "nondeterministic")
COUNTS = (1, 2, 4, 8)
LOADERS = ("1", "2", "4", "8", "16")


def _step(name: str, what: str, parts: Sequence[str], seconds: float) -> Step:
    return Step(name, what, f"prunectl.bench.card.{name}", tuple(parts), seconds)


def _table() -> list[str]:
    """List the parts of the table: network and contender, by the letters of its rows."""
    return [
        part_of(contenders[0].work.network, contender.label)
        for contenders in cuda_tables(False, "cuda")
        for contender in contenders
    ]


def part_of(network: str, label: str) -> str:
    """Return the part that measures a row of the table: ``resnet-20-E``, ``resnet-20-G4``, ``resnet-20-stage``."""
    letter, _, rest = label.partition(" ")
    slots = [word for word in rest.split() if word.isdigit() and letter == "G"]
    name = letter.replace("'", "-bf16") or "stage"
    return "".join([network, "-", name, *slots])


def test_files() -> list[str]:
    """List the files of the source tree that have tests for a device; one part that is skipped where it has none.

    Not those of the fake CUDA runtime, which skip themselves on a card.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("test_*.py"))}
    marked = [
        str(path.relative_to(TESTS))
        for path, text in texts.items()
        if "mark.gpu" in text and "mark.fake" not in text
    ]
    return marked or ["none"]


def in_order(results: Sequence[PartResult]) -> list[PartResult]:
    """Sort results as the steps have their parts; those of parts that are no more come last."""
    places = [f"{step.name}/{part}" for step in all_steps() for part in step.parts]
    last = len(places)
    return sorted(
        results, key=lambda each: places.index(each.name) if each.name in places else last
    )


def chosen(steps: Sequence[Step], names: Sequence[str]) -> list[tuple[Step, str]]:
    """Return the parts that are named, by step or as step/part; all of them where none is.

    Raises:
        UnknownName: for a name that is neither.
    """
    parts = [(step, part) for step in steps for part in step.parts]
    known = {f"{step.name}/{part}" for step, part in parts} | {step.name for step in steps}
    for name in names:
        if name not in known:
            of = name.partition("/")[0]
            own = [f"{of}/{part}" for step, part in parts if step.name == of]
            raise UnknownName("step", name, own or [step.name for step in steps])
    return [
        (step, part)
        for step, part in parts
        if not names or step.name in names or f"{step.name}/{part}" in names
    ]

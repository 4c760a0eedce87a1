"""Studies that parts run as a user would, and whether two of them came to the same bits."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from prunectl.bench.card.records import Check, Order
from prunectl.bench.records import Work
from prunectl.bench.rounds import BenchError, one_thread
from prunectl.bench.workload import plan_text
from prunectl.child import module_command
from prunectl.scheduler.parent_death import dies_with_us
from prunectl.store.paths import StagePaths, StorePaths
from prunectl.store.records.events import Start, latest_epochs, read_events
from prunectl.store.records.stage import read_result
from prunectl.store.tensors import read_checked

SLOTS_WORK = Work("resnet-20", (3, 32, 32), train=25_600, test=2_000, epochs=8, pad=4)
"""Stages of 1,600 steps: seconds on a card, so that something is left to be killed."""
QUICK_WORK = Work("resnet-8", (3, 16, 16), train=1_280, test=200, epochs=4, batch=64, pad=2)
SCHEDULE = '{ kind = "step", lr = 0.05, milestones = ["2ep"] }'
"""With a constant rate the two strategies would share their stages."""
SEEDS = 4


def work_of(order: Order) -> Work:
    """Return the training of each stage of the study."""
    return QUICK_WORK if order.quick else SLOTS_WORK


def write_plan(order: Order) -> Path:
    """Write the study that is run in several ways: 4 seeds, each a dense network and two that are pruned."""
    text = plan_text(work_of(order), SEEDS, 1, ("fine-tune", "lr-rewind"), SCHEDULE)
    path = order.work / "study.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def start(
    plan: Path, store: Path, device: str, *options: str, environment: Mapping[str, str] = {}
) -> subprocess.Popen[bytes]:
    """Start `prunectl run`; its output goes to a log beside the store. It dies with this process."""
    log = store.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = module_command("prunectl.cli")
    arguments = ["run", str(plan), "--plain", "--share", "--store", str(store)]
    with log.open("ab") as out:
        return subprocess.Popen(
            dies_with_us([*command, *arguments, "--devices", device, *options]),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**one_thread(), **environment},
        )


def finish(
    plan: Path, store: Path, device: str, *options: str, environment: Mapping[str, str] = {}
) -> StorePaths:
    """Run a study to its end, or go on with it. Raises BenchError where it fails."""
    return ended(start(plan, store, device, *options, environment=environment), store)


def ended(process: subprocess.Popen[bytes], store: Path) -> StorePaths:
    """Wait for the end of a run. Raises BenchError where it failed."""
    if code := process.wait():
        lines = store.with_suffix(".log").read_text(errors="replace").strip().splitlines()
        raise BenchError(f"prunectl run ended with {code}: {' / '.join(lines[-3:])}")
    return StorePaths(store)


def reference(order: Order) -> StorePaths:
    """Return the study as one slot does it without interruption; run where that has not been done yet."""
    return finish(write_plan(order), order.work / "reference", order.device, "--slots", "1")


def another(order: Order) -> tempfile.TemporaryDirectory[str]:
    """Make a folder for a store that is compared and then removed."""
    order.work.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=order.work, prefix=f"{order.step}-{order.part}-")


def stages(store: StorePaths) -> list[StagePaths]:
    """List the folders of a store's stages."""
    return [StagePaths(folder) for folder in sorted(store.stages.iterdir())]


def same_bits(one: StorePaths, other: StorePaths) -> Check:
    """Compare weights, masks, scores and losses of every stage of two stores."""
    pairs = [(stage, StagePaths(other.stages / stage.key)) for stage in stages(one)]
    differing = [first.key[:12] for first, second in pairs if _content(first) != _content(second)]
    found = f"{len(pairs) - len(differing)} of {len(pairs)} stages alike"
    if differing:
        found += f"; not {', '.join(differing[:3])}"
    return Check("weights, masks and losses have the same bits", not differing, found)


def _content(stage: StagePaths) -> list[object]:
    """Return what the numbers of a stage came to."""
    if not stage.result.exists():
        return [stage.key, "is lacking"]
    masks = [read_checked(stage.mask).checksum] if stage.mask.exists() else []
    epochs = latest_epochs(read_events(stage.events).records)
    losses = [(each.step, each.train_loss, each.loss, each.score) for each in epochs]
    score = read_result(stage).score
    return [read_checked(stage.final).checksum, *masks, score, *losses]


def resumed(store: StorePaths) -> int:
    """Count the attempts that went on from a checkpoint."""
    records = (each for stage in stages(store) for each in read_events(stage.events).records)
    return sum(isinstance(each, Start) and each.resumed for each in records)

"""Step `kernels`: how many kernels a step really has, launched or replayed, and what memory it takes by whose count."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

import torch
from msgspec.structs import replace
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from prunectl.bench.card.records import Check, Figure, Order, Outcome
from prunectl.bench.card.training import Training, cifar_work
from prunectl.bench.records import Options, Work
from prunectl.child import NoAnswer
from prunectl.scheduler import doctor
from prunectl.scheduler.devices.nvml_facts import Nvml
from prunectl.store.records.base import BadRecord, decode

WARM_UP, STEPS = 12, 10
NVML_SECONDS = 20.0
MIB = 2**20
CONVOLUTIONS = ("aten::cudnn_convolution", "aten::convolution_backward")


def run(order: Order) -> Outcome:
    """Profile a network's steps in one precision."""
    network, _, precision = order.part.rpartition("-")
    work = replace(cifar_work(order, network), precision=precision)
    before = memory_by_nvml(order.device)
    launched = profiled(work, graphs=False)
    replayed = profiled(work, graphs=True)
    return Outcome(
        (
            Check(
                "the profiler sees the device's kernels",
                min(launched.kernels, replayed.kernels) > 0,
                f"{launched.kernels / STEPS:g} a step launched, {replayed.kernels / STEPS:g} replayed",
            ),
        ),
        (
            *launched.figures("launched"),
            *replayed.figures("replayed"),
            *memory(order.device, before),
        ),
    )


@dataclass
class Profile:
    """What a device did in some steps."""

    kernels: int = 0
    copies: int = 0
    microseconds: float = 0.0
    """Of kernels, together."""
    names: Counter[str] = field(default_factory=Counter)
    convolutions: Counter[str] = field(default_factory=Counter)
    """Calls by name, and kernels that they launched by `NAME kernels`."""

    def figures(self, how: str) -> list[Figure]:
        """Return them per step."""
        found = [
            Figure(f"kernels {how}", self.kernels / STEPS, "a step"),
            Figure(f"kinds of kernels {how}", len(self.names), "names"),
            Figure(f"copies and sets {how}", self.copies / STEPS, "a step"),
            Figure(f"kernels' time {how}", self.microseconds / STEPS, "µs a step"),
        ]
        for name in CONVOLUTIONS:
            if calls := self.convolutions[name]:
                label = f"{name.removeprefix('aten::')}, kernels of a call"
                found.append(Figure(label, self.convolutions[f"{name} kernels"] / calls, "kernels"))
        return found


def profiled(work: Work, *, graphs: bool) -> Profile:
    """Profile some steps of a training."""
    training = Training(work, options=Options(graphs=graphs))
    training.advance(WARM_UP)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        training.advance(STEPS)
        torch.cuda.synchronize()
    found = Profile()
    for event in profiler.events() or ():
        if event.device_type == DeviceType.CUDA:
            if event.name.startswith(("Memcpy", "Memset")):
                found.copies += 1
            elif "::" not in event.name or "<" in event.name or "(" in event.name:
                found.kernels += 1
                found.names[event.name] += 1
                found.microseconds += event.time_range.elapsed_us()
        elif event.name in CONVOLUTIONS:
            found.convolutions[event.name] += 1
            found.convolutions[f"{event.name} kernels"] += len(event.kernels)
    training.trainer.close()
    return found


def memory(device: str, before: tuple[int, int] | None) -> list[Figure]:
    """Return the memory that torch and NVML count, of trainings before: launched, then recorded and replayed."""
    after = memory_by_nvml(device)
    found = [
        Figure("most allocated", torch.cuda.max_memory_allocated(device) / MIB, "MiB"),
        Figure("most reserved", torch.cuda.max_memory_reserved(device) / MIB, "MiB"),
        Figure("reserved now", torch.cuda.memory_reserved(device) / MIB, "MiB"),
    ]
    if before is not None and after is not None:
        found.append(Figure("more in use by NVML", (after[0] - before[0]) / MIB, "MiB"))
        if after[1]:
            outside = after[1] - torch.cuda.memory_reserved(device)
            found.append(Figure("this process's by NVML", after[1] / MIB, "MiB"))
            found.append(Figure("of these not torch's: context, libraries", outside / MIB, "MiB"))
    return found


def memory_by_nvml(device: str) -> tuple[int, int] | None:
    """Return bytes in use on the device, and of these by this process (0 where hidden); None where NVML is no help."""
    try:
        answer = doctor.ask_nvml(NVML_SECONDS).answer()
        known = decode(answer, Nvml, "NVML's answer").devices
    except (NoAnswer, BadRecord):
        return None
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    for each in known:
        if each.uuid.partition("-")[2] == uuid and each.used is not None:
            own = (holder.memory for holder in each.holders if holder.pid == os.getpid())
            return each.used, sum(own)
    return None

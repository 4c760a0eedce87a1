"""Checks of the rules that captured training keeps, each a function that raises AssertionError where one is broken.

Those of values replay a tape on a CPU (`tests.support.tape`); the others look at what the fake CUDA runtime was asked
for.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prunectl.ml.randomness import epoch_offsets
from prunectl.ml.training import cuda_graphs
from prunectl.ml.training.cuda_graphs import DeviceSlot, Graphs, SharedMemory
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import decaying, stepwise
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import NetworkSettings, OptimizerSettings
from tests.cuda.counting import BATCH, CIFAR, go, images, settings
from tests.cuda.counting import trainer as cuda_trainer
from tests.cuda.step_rules import broken_rules
from tests.ml.test_train_capture import captured, same, trainer
from tests.support import tape
from tests.support.fakecuda import counted, traced
from tests.support.prunable import some_masks

ADAM = OptimizerSettings("adam")
LONG = 200_000_000
"""Device cycles of a tenth of a second."""

# --- values, on a CPU -----------------------------------------------------------------------------


def life(made: Trainer) -> list[Any]:
    """Return all that can be told of two stages, with masks, a milestone, an evaluation and a return to a state."""
    schedule, told = stepwise(0.1, 12, [7], 0.1), []

    def train(until: int, seed: int) -> None:
        for _ in made.train(schedule, Seeds.of(seed), 0, until):
            pass
        told.extend([made.metrics(), made.evaluate("test"), made.lrs_applied()])

    for seed in (0, 1):
        made.initialise(seed, 0)
        train(5, seed)
        early = made.state()
        made.set_masks(some_masks(made.parameters))
        train(12, seed)
        told.append(made.state())
        made.set_masks(some_masks(made.parameters, 0.6))
        made.load(early)
        train(9, seed)
        told.append(made.state())
    return told


def replays_do_what_calls_do(**values: Any) -> None:
    """Recorded or called, a training gives the same bits."""
    called, replayed = trainer(**values), captured(trainer(**values), tape.record)
    replayed.evaluator.batch = called.evaluator.batch = 16
    assert called.mode == "eager"
    told, expected = life(replayed), life(called)
    assert replayed._training is not None, replayed.notes()
    for one, other in zip(told, expected, strict=True):
        assert same(one, other) if hasattr(one, "weights") else one == other


def replays_do_what_calls_do_with_adam() -> None:
    """With Adam, too, which counts steps."""
    replays_do_what_calls_do(optimizer=ADAM)


def replays_do_what_calls_do_in_fp16() -> None:
    """In fp16, too, with its loss scale."""
    replays_do_what_calls_do(precision="fp16")


def nothing_moves() -> None:
    """What a step works on stays where it is through stages."""
    for optimizer in (OptimizerSettings(), ADAM):
        made = trainer(optimizer=optimizer)
        made.set_masks(some_masks(made.parameters))

        def places(made: Trainer = made) -> list[int]:
            tensors = [*made._changed(), *made.module.parameters(), made.optimizer.lr]
            return [t.data_ptr() for t in (*tensors, *made._masking._masks.values())]

        before = places()
        life(made)
        assert places() == before


def pruned_weights_stay_zero() -> None:
    """After every replay, by masks set before and after recording."""
    made = captured(trainer("resnet-8"), tape.record)
    for density in (None, 0.5, 0.2):
        chosen = some_masks(made.parameters, density) if density else {}
        made.initialise(0, 0)
        if chosen:
            made.set_masks(chosen)
        for _ in made.train(stepwise(0.1, 12, [7], 0.1), Seeds.of(0), 0, 3, yield_every=1):
            for name, mask in chosen.items():
                assert not made.parameters[name][~mask].any(), name


def metrics_are_of_their_steps() -> None:
    """Of those since they were last asked for, whatever was before."""
    schedule = stepwise(0.1, 12, [7], 0.1)
    whole, late = trainer(), trainer()
    for _ in whole.train(schedule, Seeds.of(0), 0, 4):
        pass
    whole.metrics()
    late.load(replace(whole.state(), accumulators={}))
    for made in (whole, late):
        for _ in made.train(schedule, Seeds.of(0), 0, 8):
            pass
    assert whole.metrics() == late.metrics()
    assert whole.evaluate("test") == whole.evaluate("test") == late.evaluate("test")


class Twice(nn.Module):
    """A layer that is used twice, so that autocast casts its weights, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(192, 32)
        self.again = nn.Linear(32, 32)
        self.last = nn.Linear(32, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.again(self.again(self.first(pixels.flatten(1)).relu()).relu())
        out: Tensor = self.last(hidden)
        return out


def twice(source: torch.Generator | None) -> nn.Module:
    """Build it."""
    module = Twice()
    with torch.no_grad():
        for parameter in module.parameters() if source is not None else ():
            parameter.normal_(0, 0.1, generator=source)
    return module


def half_weights_are_the_present_ones() -> None:
    """In bf16 every pass uses the weights as they are then, also where somebody else's autocast keeps casts."""

    def made() -> Trainer:
        plain = trainer()
        new = Trainer(
            twice, settings("bf16", batch=16, augment=plain.settings.augment), plain.images
        )
        new.initialise(0, 0)
        return new

    def train(one: Trainer) -> None:
        for _ in one.train(stepwise(0.1, 12, [7], 0.1), Seeds.of(0), 0, 9):
            pass

    alone, inside, reader = made(), made(), made()
    train(alone)
    before = alone.evaluate("test")
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=True):
        train(inside)
    assert same(inside.state(), alone.state())
    reader.load(alone.state())
    assert reader.evaluate("test") == before


def crops_and_flips_are_of_each_image() -> None:
    """Not of a batch."""
    offsets = epoch_offsets(0, 0, 0, 64, 4)
    assert all(len(set(part.tolist())) > 1 for part in offsets)


# --- what CUDA is asked for -----------------------------------------------------------------------


def warm(precision: str = "fp32", **values: Any) -> Trainer:
    """Return a trainer of a small network that has recorded all its graphs."""
    made = cuda_trainer("convnet", settings(precision, **values))
    go(made, 3)
    made.evaluate("test")
    torch.cuda.synchronize()
    return made


def steps_are_recorded() -> None:
    """In every precision, by both optimizers: nothing is read while recording."""
    for precision in ("fp32", "bf16", "fp16"):
        for optimizer in (OptimizerSettings(nesterov=True), ADAM):
            made = warm(precision, optimizer=optimizer)
            assert (made.mode, made.notes()) == ("graph", [])
            made.close()


def a_step_is_one_launch() -> None:
    """And two copies of its batch: no wait, nothing from the host, whatever the rate does."""
    made = warm()
    with counted() as counts:
        for _ in made.train(decaying("cosine", 0.1, 0.0, 100), Seeds.of(0), 0, 4):
            pass
    assert counts.waits == 0
    assert counts.launched(1) == 0
    assert counts.calls["cudaGraphLaunch"] == 1
    assert counts.launched(0) == 1, counts.kernels  # the rate
    # The rate's record, images, targets.
    outside = {between: n for between, (n, _) in counts.copies.items() if "eager" in between}
    assert outside == {"eager device->device": 3}
    made.close()


def uploads_are_from_pinned_memory() -> None:
    """Of epochs' orders and of states, so that nothing waits."""
    made = warm()
    state, masks = made.state(), some_masks(made.parameters)
    with counted() as counts:
        go(made, 3 * 200 // BATCH)
        made.load(state)
        made.set_masks(masks)
    assert counts.waits == 0
    assert counts.copied("pinned->device")[0] > 4
    assert not counts.copied("pageable->device")[0], counts.copies
    made.close()


def all_work_is_on_the_slot_s_stream() -> None:
    """Rates included: each takes effect between the steps where it was set."""
    made = warm()
    with made.slot.queue(), traced() as own:
        made.optimizer.lr.zero_()
    with traced() as queued:
        for _ in made.train(decaying("cosine", 0.1, 0.0, 100), Seeds.of(0), 0, 30):
            pass
    assert {stream for stream, _ in queued} == {own[0][0]}
    made.close()


def _waits(call: Callable[[], object], made: Trainer) -> None:
    """Assert that a call comes back when what was queued before is done."""
    assert made.slot.stream is not None
    with made.slot.queue():
        torch.cuda._sleep(LONG)
        event = made.slot.stream.record_event()
    assert not event.query()
    call()
    assert event.query()


def what_is_read_has_been_waited_for() -> None:
    """Metrics, evaluations, rates and states; and a stream that is given back has nothing left to do."""
    made = warm()
    _waits(made.metrics, made)
    _waits(lambda: made.evaluate("test"), made)
    go(made, 4)
    _waits(made.lrs_applied, made)
    _waits(made.state, made)
    _waits(made.slot.close, made)


def a_slot_begins_after_what_was_uploaded() -> None:
    """On the stream that is current when it is made."""
    torch.cuda.synchronize()
    torch.cuda._sleep(LONG)
    slot = DeviceSlot(torch.device("cuda:0"))
    assert slot.stream is not None
    assert not slot.stream.record_event().query()
    slot.close()


def evaluations_are_in_order() -> None:
    """Graphs that share their memory never overlap."""
    two = [warm(), warm()]
    for made in two:
        made.evaluator.batch = 100
        made.evaluate("test")
    torch.cuda.synchronize()
    with counted() as counts:
        for made in two:
            with made.slot.queue():
                for pixels, targets in made.images.parts("test", 100) or ():
                    made.evaluator.graphs.run(pixels, targets)  # type: ignore[union-attr]
    assert counts.waits == 0
    assert not counts.notes
    for made in two:
        made.close()


def sleep() -> None:
    """Keep the current stream busy."""
    torch.cuda._sleep(LONG)


def watched(
    warming_up: Callable[[], object] = lambda: None, recording: Callable[[], object] = lambda: None
) -> Callable[[], None]:
    """Return what can be recorded: it launches something, and calls these before."""
    work = torch.zeros(1, device="cuda")

    def call() -> None:
        (recording if torch.cuda.is_current_stream_capturing() else warming_up)()
        work.zero_()

    return call


def at_the_end() -> bool:
    """Return whether all that is queued on the current stream is done."""
    return torch.cuda.current_stream().record_event().query()


def recording_in_shared_memory_is_in_order() -> None:
    """It begins when the caller's work is done, and the caller's next work when it is, also where it fails."""
    memory, early = SharedMemory(0), list[bool]()
    call = watched(lambda: [early.append(at_the_end()), sleep()])
    torch.cuda.synchronize()
    sleep()
    memory.record(call)
    assert not early[0]
    torch.cuda.synchronize()

    def fails() -> None:
        sleep()
        raise ValueError

    with contextlib.suppress(ValueError):
        memory.record(fails)
    assert not at_the_end()
    torch.cuda.synchronize()


def kernels_are_chosen_on_an_idle_device() -> None:
    """Warming up begins when no other stream has anything to do."""
    other, idle = torch.cuda.Stream(), list[bool]()
    call = watched(lambda: idle.append(event.query()))
    slot = DeviceSlot(torch.device("cuda:0"))
    with torch.cuda.stream(other):
        sleep()
        event = other.record_event()
    batch = torch.zeros(4, device="cuda"), torch.zeros(4, device="cuda")
    with slot.queue():
        Graphs(lambda pixels, targets: call(), list, slot.record).run(*batch)
    assert idle
    assert all(idle)
    slot.close()


def workspaces_are_not_in_graphs() -> None:
    """cuBLAS takes its workspace of a stream before recording, not from the graph's memory."""
    torch._C._cuda_clearCublasWorkspaces()
    made = cuda_trainer("lenet-300-100", settings())
    go(made, 1)
    assert made.slot._pool is not None
    assert held(made.slot._pool) < 32 << 20, "of which a workspace is"
    made.close()


def held(pool: Any) -> int:
    """Return the bytes of a pool of graphs."""
    segments = torch.cuda.memory_snapshot()
    return sum(s["total_size"] for s in segments if tuple(s["segment_pool_id"]) == tuple(pool))


def graphs_share_memory() -> None:
    """All of a slot's, and the evaluations of all slots: three pools for two trainers with two graphs each."""
    gc.collect()
    torch.cuda.empty_cache()
    before = pools()
    two = [warm(straddle=False, batch=60), warm(straddle=False, batch=60)]
    for made in two:
        go(made, 5)
        made.set_masks(some_masks(made.parameters))
        go(made, 9)
    assert len(pools() - before) <= 3
    for made in two:
        made.close()


def pools() -> set[tuple[int, int]]:
    """Return the pools that hold memory."""
    return {tuple(s["segment_pool_id"]) for s in torch.cuda.memory_snapshot()} - {(0, 0)}


def graphs_are_kept() -> None:
    """Nothing is recorded twice, whatever stages come."""
    made = warm(straddle=False, batch=60)
    go(made, 5)
    made.set_masks(some_masks(made.parameters))
    go(made, 10)
    with counted() as counts:
        for seed in (1, 2):
            made.initialise(seed, 0)
            go(made, 5)
            made.evaluate("test")
        made.set_masks(some_masks(made.parameters))
        go(made, 10)
    assert counts.launched(1) == 0
    made.close()


def the_collector_is_paused() -> None:
    """While recording: it would free other trainers' graphs."""
    enabled, slot = list[bool](), DeviceSlot(torch.device("cuda:0"))
    slot.record(watched(recording=lambda: enabled.append(gc.isenabled())))
    assert enabled == [False]
    assert gc.isenabled()
    slot.close()


def other_threads_may_allocate() -> None:
    """While a step is recorded."""
    begun, over, failed = threading.Event(), threading.Event(), list[BaseException]()

    def allocate() -> None:
        begun.wait()
        try:
            torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
        except RuntimeError as error:
            failed.append(error)
        over.set()

    slot, thread = DeviceSlot(torch.device("cuda:0")), threading.Thread(target=allocate)
    thread.start()
    try:
        slot.record(watched(recording=lambda: [begun.set(), over.wait()]))
    except RuntimeError as error:
        failed.append(error)
    begun.set()
    thread.join()
    slot.close()
    torch.cuda.empty_cache()
    assert not failed, failed


def a_step_breaks_no_rule() -> None:
    """In bf16, with layers that are used once and twice."""
    for network in (NetworkSettings("convnet", CIFAR, 10), NetworkSettings("resnet-8", CIFAR, 10)):
        made = Trainer(network, settings("bf16"), images(CIFAR, 40, 20), "cuda")
        found = broken_rules(made)
        assert not found, "\n".join(map(str, found))
        made.close()


def run_ahead_is_bounded() -> None:
    """By marks; nothing that is queued is taken for done."""
    made = warm()
    with made.slot.queue():
        sleep()
    done = 0
    for went in made.train(decaying("cosine", 0.1, 0.0, 1000), Seeds.of(0), 0, 1000, yield_every=2):
        if not went:
            break
        done += 2
    assert done <= 2 * (cuda_graphs.AHEAD + 1), done
    assert not made.idle()
    made.close()


def streams_are_owned() -> None:
    """By one slot at a time, and given back: torch has 32, and then the same again."""
    device = torch.device("cuda:0")

    def streams() -> set[int]:
        slots = [DeviceSlot(device) for _ in range(4)]
        found = {slot.stream.cuda_stream for slot in slots if slot.stream is not None}
        for slot in slots:
            slot.close()
        return found

    first = streams()
    assert len(first) == 4
    assert torch.cuda.default_stream().cuda_stream not in first
    assert streams() == first


def a_warm_trainer_takes_no_memory() -> None:
    """Through stages, whatever they do."""
    made = warm()
    masks = some_masks(made.parameters)

    def stage(seed: int) -> int:
        made.initialise(seed, 0)
        go(made, 30)
        made.set_masks(masks)
        go(made, 40)
        made.evaluate("test")
        made.metrics()
        made.state()
        return torch.cuda.memory_reserved()

    stage(0)
    assert len({stage(seed) for seed in range(1, 6)}) == 1
    made.close()


def recording_in_shared_memory_waits_for_it() -> None:
    """A replay of another slot's may be going on in it."""
    memory, other, early = SharedMemory(0), torch.cuda.Stream(), list[bool]()
    replay, call = memory.record(sleep), watched(lambda: early.append(at_the_end()))
    torch.cuda.synchronize()
    with torch.cuda.stream(other):
        replay()
    memory.record(call)
    assert early
    assert not early[0]
    torch.cuda.synchronize()

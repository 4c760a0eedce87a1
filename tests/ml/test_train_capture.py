"""What recording a step must not change, tried without a GPU: a recorder that calls instead of recording."""

from __future__ import annotations

import gc
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunectl.ml.datasets.images import Images
from prunectl.ml.training import cuda_graphs
from prunectl.ml.training.cuda_graphs import CaptureFailed, Graphs
from prunectl.ml.training.state import TrainingState
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import stepwise
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    AugmentSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)

LR = stepwise(0.1, 12, [7], 0.1)


def trainer(name: str = "convnet", channels: int = 3, size: int = 8, **values: Any) -> Trainer:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, size, size, channels), dtype=torch.uint8, generator=source)
    labels = torch.randint(0, 10, (50,), generator=source)
    split = (pixels.permute(0, 3, 1, 2), labels)
    normalize = NormalizeSettings("channel", (0.5,) * channels, (0.25,) * channels)
    settings = TrainSettings(
        **{
            "batch": 16,
            "optimizer": OptimizerSettings(nesterov=True, weight_decay=1e-4),
            "normalize": normalize,
            **values,
        }
    )
    made = Trainer(
        NetworkSettings(name, (channels, size, size), 10), settings, Images(*split, *split, 10)
    )
    made.initialise(0, 0)
    return made


def warmed(call: Callable[[], None]) -> Callable[[], None]:
    """Recording as it is done without a device: its replay is the call."""
    for _ in range(cuda_graphs.WARM_UP):
        call()
    return call


def captured(made: Trainer, record: cuda_graphs.Recorder | None = None) -> Trainer:
    record = record or warmed
    made._training = Graphs(made._step, made._changed, record)
    made.evaluator.capture(record)
    return made


def masks(made: Trainer) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(weight.shape, generator=source) < 0.4
        for name, weight in made.parameters.items()
        if weight.ndim > 1
    }


def finish(made: Trainer) -> tuple[TrainingState, Any, Any]:
    for _ in made.train(LR, Seeds.of(0), 0, 5):
        pass
    made.set_masks(masks(made))
    for _ in made.train(LR, Seeds.of(0), 0, 12):
        pass
    return made.state(), made.evaluate("test"), made.metrics()


def same(one: TrainingState, other: TrainingState) -> bool:
    return all(
        torch.equal(getattr(one, kind)[name], tensor)
        for kind in ("weights", "optimizer", "accumulators")
        for name, tensor in getattr(other, kind).items()
    )


@pytest.mark.parametrize("optimizer", [OptimizerSettings(nesterov=True), OptimizerSettings("adam")])
def test_warm_up_and_recording_leave_no_trace(optimizer: OptimizerSettings) -> None:
    plain = finish(trainer(optimizer=optimizer))
    recorded = finish(captured(trainer(optimizer=optimizer)))
    assert same(recorded[0], plain[0])
    assert recorded[1:] == plain[1:]


def test_one_graph_per_size_of_batch_and_set_of_masks() -> None:
    made = captured(trainer())
    finish(made)
    assert made._training is not None
    assert made.evaluator.graphs is not None
    assert len(made._training) == 4  # batches of 16 and 2, without masks and with
    assert len(made.evaluator.graphs) == 1
    finish(made)
    made.initialise(1, 0)
    finish(made)
    assert len(made._training) == 4


def test_a_recorded_step_reads_the_same_memory_at_every_replay() -> None:
    """Everything that a replay depends on is copied into place, wherever the batch comes from."""
    made = trainer()
    seen = set()

    def step(pixels: Tensor, labels: Tensor) -> None:
        seen.add((pixels.data_ptr(), labels.data_ptr(), len(labels)))
        made._step(pixels, labels)

    made._training = Graphs(step, made._changed, lambda call: call)
    for _ in made.train(LR, Seeds.of(0), 0, 8):
        pass
    assert len(seen) == 2


def failing(times: int) -> Callable[[Callable[[], None]], Callable[[], None]]:
    left = [times]

    def record(call: Callable[[], None]) -> Callable[[], None]:
        if left[0]:
            left[0] -= 1
            call()
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return call

    return record


def test_where_recording_fails_steps_run_eagerly_and_the_reason_is_told() -> None:
    plain = finish(trainer())
    made = captured(trainer(), failing(100))
    assert made.mode == "graph"
    done = finish(made)
    assert same(done[0], plain[0])
    assert done[1:] == plain[1:]
    assert made.mode == "eager"
    (note,) = made.notes()
    assert re.fullmatch(
        "steps run eagerly, not as CUDA graphs: RuntimeError: operation not permitted when stream "
        r"is capturing \(test_train_capture.py:\d+\)",
        note,
    )
    assert made.notes() == []


def test_where_recording_an_evaluation_fails_it_runs_eagerly_and_steps_go_on_as_they_were() -> None:
    plain = finish(trainer())
    made = captured(trainer())
    made.evaluator.capture(failing(1))
    done = finish(made)
    assert same(done[0], plain[0])
    assert done[1:] == plain[1:]
    assert made.mode == "graph"
    (note,) = made.notes()
    assert note.startswith("evaluation runs eagerly, not as CUDA graphs: RuntimeError")


def test_fusion_is_given_up_before_graphs_are() -> None:
    made = captured(trainer(), failing(1))
    made._fused = lambda pixels: made.module(pixels)
    assert made.mode == "graph+fused"
    assert made._training is not None
    before: dict[Any, Any] = {"another batch's": None}
    made._training._recorded.update(before)
    finish(made)
    assert not made._training._recorded.keys() & before.keys()
    assert made.mode == "graph"
    assert made.notes()[0].startswith("steps run without fused kernels: RuntimeError")


def test_lack_of_memory_is_no_reason_to_go_on() -> None:
    def record(call: Callable[[], None]) -> Callable[[], None]:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        finish(captured(trainer(), record))


def test_what_failed_has_changed_nothing() -> None:
    made = trainer()
    before = made.state()
    graphs = Graphs(made._step, made._changed, failing(1))
    pixels, labels = made.batches.get(Seeds.of(0), 0, 0)
    with pytest.raises(CaptureFailed):
        graphs.run(pixels, labels)
    assert same(made.state(), before)


# --- the step, counted --------------------------------------------------------------------------


class Counted(TorchDispatchMode):
    """Operations that reach a device, views left out."""

    VIEWS = ("detach", "t", "view", "permute", "slice", "unsqueeze", "expand", "as_strided")

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2]
        if name not in self.VIEWS:
            self.names[name] += 1
        return func(*args, **(kwargs or {}))


def step_ops(made: Trainer) -> Counter[str]:
    for _ in made.train(LR, Seeds.of(0), 0, 1):
        pass
    with Counted() as counted:
        for _ in made.train(LR, Seeds.of(0), 0, 2):
            pass
    return counted.names


@pytest.mark.parametrize(
    ("name", "channels", "size", "bound"),
    # Ten are ours: three to normalise, one each for optimizer and masks, five to measure; the rest is what the
    # network, its loss and its backward pass need by themselves.
    [("lenet-300-100", 1, 28, 30), ("convnet", 1, 8, 42), ("resnet-20", 3, 16, 182)],
)
def test_operations_of_a_step(name: str, channels: int, size: int, bound: int) -> None:
    made = trainer(name, channels, size)
    made.set_masks(masks(made))
    names = step_ops(made)
    assert names.total() <= bound, names
    assert not {"item", "_local_scalar_dense", "is_nonzero", "nonzero"} & names.keys()
    assert names["_fused_sgd_"] == names["_foreach_mul_"] == 1


def test_a_step_of_a_deeper_network_has_no_more_operations_of_ours() -> None:
    def ours(name: str) -> int:
        made = trainer(name, 3, 8)
        names = step_ops(made)
        network = ("conv", "batch_norm", "relu", "threshold", "empty", "add", "mm", "mean")
        return sum(n for op, n in names.items() if not any(part in op for part in network))

    assert ours("resnet-8") == ours("resnet-20")


# --- slots ----------------------------------------------------------------------------------------


def test_two_trainings_interleaved_give_the_bits_of_each_alone() -> None:
    values: dict[str, Any] = {"augment": AugmentSettings(1, "zero", True)}

    def steps(made: Trainer, seed: int) -> Iterator[bool]:
        made.initialise(seed, 0)
        made.set_masks(masks(made))
        yield from made.train(LR, Seeds.of(seed), 0, 12, yield_every=1)

    alone = []
    for seed in (0, 1):
        made = trainer(**values)
        assert all(steps(made, seed))
        alone.append((made.state(), made.evaluate("test")))
    trainers = [trainer(**values), trainer(**values)]
    going = [steps(one, seed) for seed, one in enumerate(trainers)]
    for turn in range(12):
        next(going[turn % 2])
        trainers[turn % 2].evaluate("test")
        next(going[1 - turn % 2])
    for one, (state, metrics) in zip(trainers, alone, strict=True):
        assert same(one.state(), state)
        assert one.evaluate("test") == metrics


def test_a_slot_that_is_ahead_waits_without_working() -> None:
    made = trainer()
    behind = iter([0, 0, 4, 4, 4, 3, 0])
    made.slot.ahead = lambda: next(behind)  # type: ignore[method-assign]
    turns = list(made.train(LR, Seeds.of(0), 0, 9, yield_every=3))
    assert turns == [True, True, False, False, False, True]
    assert made.step == 9


def test_streams_are_given_back_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Stream:
        def __init__(self, device: object) -> None:
            made.append(self)

        def wait_stream(self, other: object) -> None: ...

        def synchronize(self) -> None: ...

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(cuda_graphs, "_free_streams", {})
    device = torch.device("cuda:0")
    slots = [cuda_graphs.DeviceSlot(device) for _ in range(3)]
    assert len({id(slot.stream) for slot in slots}) == len(made) == 3
    for slot in slots:
        slot.close()
    for _ in range(50):
        cuda_graphs.DeviceSlot(device).close()
    assert len(made) == 3


def test_a_closed_trainer_holds_no_memory_though_something_holds_it() -> None:
    made = captured(trainer())
    finish(made)
    held = weakref.ref(made.parameters["conv1.weight"])
    graphs = weakref.ref(made._training)
    evaluation = weakref.ref(made.evaluator)
    made.close()
    gc.collect()
    assert held() is None
    assert graphs() is None
    assert evaluation() is None


def test_a_network_s_own_buffers_are_restored_too() -> None:
    """Also those that are no part of its state."""

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(3 * 8 * 8, 10)
            self.register_buffer("calls", torch.zeros(()), persistent=False)

        def forward(self, pixels: Tensor) -> Tensor:
            self.calls.add_(1)
            out: Tensor = self.dense(pixels.flatten(1))
            return out

    def build(source: torch.Generator | None) -> nn.Module:
        return Counts()

    made = trainer()
    own = Trainer(build, made.settings, made.images)
    own.initialise(0, 0)
    own._training = Graphs(own._step, own._changed, warmed)
    for _ in own.train(LR, Seeds.of(0), 0, 3):
        pass
    assert float(own.module.calls) == 3


def test_a_network_that_comes_in_evaluation_mode_is_trained_all_the_same() -> None:
    def build(source: torch.Generator | None) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(3 * 8 * 8, 10)).eval()

    plain = trainer()
    made = Trainer(build, plain.settings, plain.images)
    made.initialise(0, 0)
    for _ in made.train(LR, Seeds.of(0), 0, 1):
        pass
    assert made.module.training


def test_masks_of_no_layer_leave_all_whole() -> None:
    made = trainer()
    before = made.state()
    made.set_masks({})
    assert same(made.state(), before)

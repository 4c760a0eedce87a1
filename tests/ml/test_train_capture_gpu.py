"""Steps as CUDA graphs against the same steps launched one by one."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunectl.ml.datasets.images import Images
from prunectl.ml.training import cuda_graphs
from prunectl.ml.training.cuda_graphs import DeviceSlot, Graphs
from prunectl.ml.training.state import TrainingState
from prunectl.ml.training.torch_flags import configure
from prunectl.ml.training.trainer import Trainer
from prunectl.spec.lr_schedule import constant, decaying, stepwise
from prunectl.spec.seeds import Seeds
from prunectl.spec.settings import (
    AugmentSettings,
    NetworkSettings,
    NormalizeSettings,
    OptimizerSettings,
    TrainSettings,
)
from tests.support import fakecuda
from tests.support.prunable import some_masks
from tests.support.waiting import no_waits

pytestmark = pytest.mark.gpu

LR = stepwise(0.05, 24, [10], 0.1)
SGD = OptimizerSettings(nesterov=True, weight_decay=1e-3)


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    configure("cuda", TrainSettings())
    yield
    torch.use_deterministic_algorithms(False)
    gc.collect()


def images(count: int = 200, size: int = 16) -> Images:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=source)
    labels = torch.randint(0, 10, (count,), generator=source)
    split = (pixels.permute(0, 3, 1, 2), labels)
    return Images(*split, *split, 10)


def trainer(
    name: str = "resnet-8", graphs: bool = True, fuse: bool = False, **values: Any
) -> Trainer:
    settings = TrainSettings(
        **{
            "batch": 48,
            "optimizer": SGD,
            "augment": AugmentSettings(2, "zero", True),
            "normalize": NormalizeSettings("channel", (0.5,) * 3, (0.25,) * 3),
            **values,
        }
    )
    network = NetworkSettings(name, (3, 16, 16), 10)
    made = Trainer(network, settings, images(), "cuda", graphs=graphs, fuse=fuse)
    made.initialise(0, 0)
    return made


def run(made: Trainer, until: int, lr: Any = LR, seed: int = 0) -> None:
    for _ in made.train(lr, Seeds.of(seed), 0, until):
        pass


def assert_same(one: TrainingState, other: TrainingState) -> None:
    for kind in ("weights", "optimizer", "accumulators"):
        for name, tensor in getattr(other, kind).items():
            assert torch.equal(getattr(one, kind)[name], tensor), name


@pytest.mark.numbers
@pytest.mark.parametrize("optimizer", [SGD, OptimizerSettings("adam")], ids=["sgd", "adam"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_replayed_steps_have_the_bits_of_launched_ones(
    optimizer: OptimizerSettings, precision: str
) -> None:
    """Warm-up leaves no trace, batches of 48 and of 8 both count, masks and rates take effect (traps 1–3, 7–9)."""
    values: dict[str, Any] = {"optimizer": optimizer, "precision": precision}
    configure("cuda", TrainSettings(**values))
    found = []
    for graphs in (False, True):
        made = trainer(graphs=graphs, **values)
        run(made, 7)
        made.set_masks(some_masks(made.parameters))
        run(made, 24)
        assert made.mode == ("graph" if graphs else "eager"), made.notes()
        found.append((made.state(), made.evaluate("test"), made.metrics(), made.lrs_applied()))
    assert_same(found[1][0], found[0][0])
    assert found[1][1:] == found[0][1:]


@pytest.mark.numbers
def test_the_learning_rate_is_read_at_every_replay() -> None:
    made, still = trainer(), trainer()
    run(made, 6, constant(0.05, 24))
    before = made.state().weights
    run(made, 12, (*constant(0.05, 6), *constant(0.0, 18)))
    after = made.state().weights
    for name in made.parameters:
        assert torch.equal(before[name], after[name]), name
    run(still, 24, decaying("cosine", 0.05, 0.0, 24))
    rates = [rate for _, rate in still.lrs_applied()]
    assert len(set(rates)) == 24


@pytest.mark.numbers
def test_pruned_weights_are_zero_after_a_single_replay() -> None:
    made = trainer()
    run(made, 8)
    for density in (0.5, 0.2):
        chosen = some_masks(made.parameters, density)
        made.set_masks(chosen)
        run(made, made.step + 1)
        for name, mask in chosen.items():
            assert (made.parameters[name].detach().cpu()[~mask] == 0).all(), name
        state = made.state()
        for name, mask in chosen.items():
            assert (state.weights[name][~mask] == 0).all()
            assert (state.optimizer[f"momentum_buffer/{name}"][~mask] == 0).all()


@pytest.mark.numbers
def test_a_trainer_used_again_is_as_good_as_new_and_nothing_moves() -> None:
    fresh = trainer()
    run(fresh, 9)
    used = trainer()
    places = [t.data_ptr() for t in used._changed()]
    run(used, 24)
    used.set_masks(some_masks(used.parameters))
    used.initialise(3, 0)
    run(used, 5, seed=3)
    assert used._training is not None
    graphs = len(used._training)
    used.initialise(0, 0)
    run(used, 9)
    assert_same(used.state(), fresh.state())
    assert [t.data_ptr() for t in used._changed()] == places
    assert len(used._training) == graphs


@pytest.mark.numbers
def test_resuming_in_another_process_s_trainer_is_bit_identical() -> None:
    whole, part, other = trainer(), trainer(), trainer()
    run(whole, 24)
    run(part, 11)
    other.load(part.state())
    run(other, 24)
    assert_same(other.state(), whole.state())
    assert other.evaluate("test") == whole.evaluate("test")


def test_steps_do_not_wait_for_the_device() -> None:
    made = trainer()
    run(made, 10)
    with no_waits():
        run(made, 20)  # epochs begin in between: their order is uploaded, too


def test_training_allocates_nothing_once_it_is_warm() -> None:
    made = trainer()
    run(made, 10)
    made.evaluate("test")

    def segments() -> int:
        return int(torch.cuda.memory_stats()["segment.all.allocated"])

    def reserved() -> int:
        return torch.cuda.memory_reserved()

    before = segments(), reserved()
    for stage in range(3):
        made.initialise(stage, 0)
        run(made, 24, seed=stage)
        made.evaluate("test")
        made.metrics()
    assert (segments(), reserved()) == before


@pytest.mark.numbers
def test_metrics_are_of_the_steps_they_are_asked_after() -> None:
    """Nothing stale is read, and nothing is left over from the epoch before (trap 18)."""
    eager, replayed = trainer(graphs=False), trainer()
    for until in (5, 10, 15):
        run(eager, until)
        run(replayed, until)
        assert replayed.metrics() == eager.metrics()
        assert replayed.evaluate("test") == eager.evaluate("test")


def test_bf16_keeps_weights_momenta_and_statistics_in_fp32() -> None:
    made = trainer(precision="bf16")
    run(made, 6)
    state = made.state()
    assert {t.dtype for t in (*state.weights.values(), *state.optimizer.values())} == {
        torch.float32
    }


def test_a_step_that_cannot_be_recorded_runs_eagerly_and_says_why() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(3 * 16 * 16, 10)

        def forward(self, pixels: Tensor) -> Tensor:
            out: Tensor = self.dense(pixels.flatten(1))
            return out * float(out.sum().item() < float("inf"))

    def build(source: torch.Generator | None) -> nn.Module:
        module = Reads()
        with torch.no_grad():
            for parameter in module.parameters() if source is not None else ():
                parameter.normal_(0, 0.05, generator=source)
        return module

    normalize = NormalizeSettings("channel", (0.5,) * 3, (0.25,) * 3)
    settings = TrainSettings(batch=48, optimizer=SGD, normalize=normalize)
    states = []
    for graphs in (True, False):
        made = Trainer(build, settings, images(), "cuda", graphs=graphs)
        made.initialise(0, 0)
        run(made, 6)
        states.append(made.state())
        assert made.mode == "eager"
        notes = made.notes()
        assert len(notes) == graphs
        # Not that ending the capture failed, but what spoilt it, and where.
        assert all("when stream is capturing (test_train_capture_gpu.py:" in note for note in notes)
    if not fakecuda.running():
        assert_same(states[0], states[1])


# --- slots ----------------------------------------------------------------------------------------


@pytest.mark.numbers
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "eager"])
@pytest.mark.parametrize("count", [2, 4])
def test_a_lane_does_not_depend_on_its_neighbours(count: int, graphs: bool) -> None:
    """Several networks with BatchNorm at once, again and again (traps 15, 20)."""
    names = ["resnet-8", "convnet", "resnet-14", "resnet-8"][:count]
    alone = []
    for seed, name in enumerate(names):
        made = trainer(name, graphs)
        made.initialise(seed, 0)
        run(made, 24, seed=seed)
        alone.append((made.state(), made.evaluate("test"), made.metrics()))
        made.close()
    trainers = [trainer(name, graphs) for name in names]
    for _ in range(3):
        going: dict[int, Iterator[bool]] = {}
        for seed, one in enumerate(trainers):
            one.initialise(seed, 0)
            going[seed] = one.train(LR, Seeds.of(seed), 0, 24, yield_every=2)
        while going:
            for seed, steps in list(going.items()):
                if next(steps, None) is None:
                    del going[seed]
        for one, (state, tested, trained) in zip(trainers, alone, strict=True):
            assert_same(one.state(), state)
            assert one.evaluate("test") == tested
            assert one.metrics() == trained


def test_lanes_have_streams_of_their_own_and_give_them_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Trainers of other tests were never closed, and torch has no more than 32 streams.
    monkeypatch.setattr(cuda_graphs, "_free_streams", {})
    device = torch.device("cuda:0")
    slots = [DeviceSlot(device) for _ in range(6)]
    streams = {slot.stream.cuda_stream for slot in slots if slot.stream is not None}
    assert len(streams) == 6
    assert torch.cuda.default_stream().cuda_stream not in streams
    for slot in slots:
        slot.close()
    again = [DeviceSlot(device) for _ in range(6)]
    assert {slot.stream.cuda_stream for slot in again if slot.stream is not None} == streams
    for slot in again:
        slot.close()


@pytest.mark.numbers
def test_closing_a_trainer_leaves_the_others_graphs_alone() -> None:
    """Traps 4, 5, 10: memory that is given back is somebody else's at once."""
    whole = trainer()
    run(whole, 24)
    stays, goes = trainer(), trainer()
    run(stays, 8)
    run(goes, 8)
    goes.close()
    del goes
    gc.collect()
    torch.cuda.empty_cache()
    late = trainer("resnet-14")
    run(late, 8)
    run(stays, 24)
    assert_same(stays.state(), whole.state())


def test_a_lane_runs_ahead_of_its_device_by_a_bounded_number_of_steps() -> None:
    made = trainer()
    run(made, 10)
    assert made.slot.ahead() >= 0
    with made.slot.queue():
        torch.cuda._sleep(200_000_000)  # device cycles, about a tenth of a second
    turns = made.train(constant(0.01, 10_000), Seeds.of(0), 0, 10_000, yield_every=2)
    done = 0
    while next(turns):
        done += 2
        assert done <= 2 * (cuda_graphs.AHEAD + 1)
    assert not made.idle()
    assert made.step == 10 + done


# --- fusion -------------------------------------------------------------------------------------


@pytest.mark.numbers
@pytest.mark.slow
def test_fused_steps_are_close_to_plain_ones_and_recorded_too() -> None:
    fused, plain = trainer(fuse=True), trainer()
    for made in (fused, plain):
        run(made, 6)
    assert fused.mode == "graph+fused", fused.notes()
    one, other = fused.state(), plain.state()
    for name, tensor in other.weights.items():
        torch.testing.assert_close(one.weights[name], tensor, atol=5e-3, rtol=5e-3)
    before = fused.evaluate("test")
    assert before is not None
    fused.initialise(0, 0)
    run(fused, 6)
    assert_same(fused.state(), one)


@pytest.mark.slow
def test_fusion_compiles_once_per_size_of_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    first = trainer(fuse=True)
    run(first, 10)
    compiled = counters["stats"]["unique_graphs"]
    first.evaluate("test")
    first.initialise(1, 0)
    run(first, 24, seed=1)
    assert counters["stats"]["unique_graphs"] == compiled <= 2
    assert not counters["graph_break"]


def test_graphs_are_recorded_while_another_thread_lives(tmp_path: Path) -> None:
    """The worker reads its commands in a thread: recording must not mind."""
    import threading

    over = threading.Event()
    thread = threading.Thread(target=lambda: over.wait(60))
    thread.start()
    try:
        made = trainer()
        run(made, 6)
        assert made.mode == "graph", made.notes()
    finally:
        over.set()
        thread.join()


def test_out_of_memory_while_recording_is_told_as_such() -> None:
    def record(call: Any) -> Any:
        call()
        return torch.empty(1 << 50, dtype=torch.uint8, device="cuda")

    made = trainer()
    made._training = Graphs(made._step, made._changed, record)
    with pytest.raises(torch.OutOfMemoryError):
        run(made, 2)


def test_a_worker_process_uses_graphs_in_stages(tmp_path: Path) -> None:
    """Through the command a scheduler starts: two slots, and the mode told in the results."""
    import json

    from prunectl.ml.datasets.registry import describe
    from prunectl.spec.key import stage_key
    from prunectl.spec.settings import DataSettings
    from prunectl.spec.stage import Stage
    from prunectl.store.paths import StorePaths
    from tests.support.records import write_spec

    about = describe("digits", ())
    train = TrainSettings(
        batch=64,
        evaluate_every=10,
        optimizer=SGD,
        normalize=NormalizeSettings("channel", about.mean, about.std),
    )
    paths = StorePaths(tmp_path / "store")
    keys = []
    for seed in (0, 1):
        spec = Stage(
            NetworkSettings("convnet", (1, 8, 8), 10),
            DataSettings("digits", about.fingerprint),
            train,
            constant(0.05, 40),
            seed,
        )
        keys.append(stage_key(spec))
        write_spec(paths, keys[-1], spec)
    commands = [{"do": "run", "key": key, "keep": []} for key in keys]
    options = {"store": paths.root, "data": tmp_path, "device": "cuda", "slots": 2}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    worker = [sys.executable, "-m", "prunectl.worker", *words]
    with subprocess.Popen(worker, text=True, **pipes) as process:  # type: ignore[call-overload]
        for command in commands:
            process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        done = 0
        for line in process.stdout:
            message = json.loads(line)
            assert message["is"] != "failed", message
            done += message["is"] == "done"
            if done == 2:
                break
        process.kill()
    for key in keys:
        assert json.loads(paths.stage(key).result.read_text())["mode"] == "graph"

"""The fake CUDA runtime keeps CUDA's rules: what it notices, and what it lets pass."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor

from tests.support import fakecuda
from tests.support.fakecuda import counted, out_of_memory, traced

pytestmark = [pytest.mark.gpu, pytest.mark.fake]


@pytest.fixture
def graph() -> tuple[torch.cuda.CUDAGraph, int]:
    """A graph with a convolution and a product, and its kernels."""
    images, weights = torch.zeros(8, 3, 8, 8, device="cuda"), torch.zeros(4, 3, 3, 3, device="cuda")

    def work() -> Tensor:
        dense = torch.zeros(144, 5, device="cuda")
        return torch.nn.functional.conv2d(images, weights).relu().flatten(1).mm(dense)

    work()
    made = torch.cuda.CUDAGraph()
    with counted() as counts, torch.cuda.graph(made):
        work()
    assert counts.launched(0) == 0
    return made, counts.launched(1)


def refused(says: str) -> pytest.RaisesExc[RuntimeError]:
    return pytest.RaisesExc(RuntimeError, check=lambda error: says in f"{error}{error.__context__}")


@pytest.fixture(autouse=True)
def default_stream() -> object:
    """torch.cuda.graph leaves its stream in place where the end of a capture fails."""
    yield None
    torch.cuda.set_stream(torch.cuda.default_stream(0))


def test_copies_keep_their_values() -> None:
    values = torch.arange(6.0)
    assert torch.equal(values.cuda().cpu(), values)
    pinned = torch.empty(6).pin_memory()
    pinned.copy_(values.cuda(), non_blocking=True)
    torch.cuda.synchronize()
    assert torch.equal(pinned, values)


def test_kernels_copies_and_waits_are_counted() -> None:
    values = torch.arange(6.0)
    with counted() as counts:
        (values.cuda() + 1).sum().item()
    assert counts.launched() == 2
    assert counts.copied("pageable->device") == (1, 24)
    assert counts.waits >= 1
    assert not counts.notes


def test_a_stream_lags_behind_and_events_tell() -> None:
    stream = torch.cuda.Stream()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.stream(stream):
        first.record()
        torch.cuda._sleep(200_000_000)
        last.record()
    assert not last.query()
    last.synchronize()
    assert last.query()
    assert 90 < first.elapsed_time(last) < 200


def test_a_replay_is_one_launch_of_all_kernels(graph: tuple[torch.cuda.CUDAGraph, int]) -> None:
    made, kernels = graph
    assert kernels >= 3
    with counted() as counts:
        for _ in range(5):
            made.replay()
    assert counts.launched(2) == 5 * kernels
    assert counts.launched(0) == 0
    assert counts.calls["cudaGraphLaunch"] == 5


def test_a_wait_inside_a_capture_is_refused() -> None:
    values = torch.ones(4, device="cuda")
    with refused("capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        values.sum().item()


def test_the_legacy_stream_is_refused_while_a_blocking_stream_is_captured() -> None:
    runtime, values = ctypes.CDLL(None), torch.ones(4, device="cuda")
    blocking, graph = ctypes.c_void_p(), ctypes.c_void_p()
    runtime.cudaStreamCreate(ctypes.byref(blocking))
    assert runtime.cudaStreamBeginCapture(blocking, 0) == 0
    with refused("legacy"):
        values.add_(1)
    assert runtime.cudaStreamEndCapture(blocking, ctypes.byref(graph)) == 901
    runtime.cudaGetLastError()  # torch would take it for one of its own


def test_work_that_is_not_joined_is_refused() -> None:
    values, other = torch.ones(4, device="cuda"), torch.cuda.Stream()
    with refused("unjoined"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            values.add_(1)


@pytest.mark.parametrize(("mode", "allowed"), [("thread_local", True), ("global", False)])
def test_another_thread_s_allocation_during_a_capture(mode: str, allowed: bool) -> None:
    values, said = torch.ones(4, device="cuda"), list[str]()
    ready, over = threading.Event(), threading.Event()

    def allocate() -> None:
        ready.wait()
        try:
            torch.empty(64 << 20, device="cuda", dtype=torch.uint8)
        except RuntimeError as error:
            said.append(str(error))
        over.set()

    thread = threading.Thread(target=allocate)
    thread.start()
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode=mode):
            values + 1
            ready.set()
            over.wait()
    except RuntimeError as error:
        said.append(str(error))
    thread.join()
    torch.cuda.empty_cache()
    assert (not said) == allowed, said


def run(code: str, **knobs: object) -> None:
    """Run code in a process of its own, as what it does to the device is for ever."""
    done = subprocess.run(
        [sys.executable, "-c", "import ctypes, torch\n" + code],
        env=fakecuda.environment(**knobs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_freeing_a_live_graph_s_memory_is_noticed_and_fatal() -> None:
    run(
        """
from tests.support.fakecuda import counted
x, graph = torch.ones(1 << 20, device="cuda"), torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    x + 1
pool = next(s for s in torch.cuda.memory_snapshot() if s["segment_pool_id"] != (0, 0))
with counted() as counts:
    ctypes.CDLL(None).cudaFree(ctypes.c_void_p(pool["address"]))
assert any("FREE-IN-GRAPH" in note for note in counts.notes), counts.notes
try:
    graph.replay()
    raise SystemExit("replayed")
except RuntimeError as error:
    assert "illegal memory access" in str(error), error
"""
    )


def test_devices_have_their_own_memory_and_streams() -> None:
    run(
        """
try:
    torch.empty(5 << 30, dtype=torch.uint8, device="cuda")
    raise SystemExit("more memory than there is")
except torch.OutOfMemoryError:
    pass
a, b = torch.ones(4, device="cuda:0"), torch.ones(4, device="cuda:1")
assert torch.equal(a.to("cuda:1").cpu(), b.cpu())
with torch.cuda.device(1):
    assert torch.cuda.mem_get_info(1)[0] > 3 << 30
fake, stream = ctypes.CDLL(None), ctypes.c_void_p()
fake.cudaSetDevice(1)
fake.cudaStreamCreate(ctypes.byref(stream))
fake.cudaSetDevice(0)
with torch.cuda.stream(torch.cuda.ExternalStream(stream.value, device="cuda:0")):
    try:
        a + 1
        raise SystemExit("a stream of another device was taken")
    except RuntimeError as error:
        assert "invalid resource handle" in str(error), error
""",
        devices=2,
        total_mb=4096,
    )


def test_a_lost_device_stays_lost() -> None:
    run(
        """
a = torch.ones(4, device="cuda")
try:
    [a.add_(1) for _ in range(9)]
    raise SystemExit("not lost")
except RuntimeError as error:
    assert "ECC" in str(error), error
try:
    torch.cuda.synchronize()
    raise SystemExit("well again")
except RuntimeError:
    pass
""",
        fail_at=4,
        fail_error=214,
    )


def test_the_chosen_allocation_fails_and_its_repetition_too() -> None:
    def allocate() -> Tensor:
        return torch.empty(30 << 20, dtype=torch.uint8, device="cuda")

    with out_of_memory(2):
        kept = [allocate()]
        with pytest.raises(torch.OutOfMemoryError):
            allocate()
        kept.append(allocate())
    del kept
    torch.cuda.empty_cache()


def test_the_order_of_what_is_queued_is_known() -> None:
    stream, values = torch.cuda.Stream(), torch.ones(4, device="cuda")
    with traced() as queued:
        values.add_(1)
        with torch.cuda.stream(stream):
            values.mul_(2)
    streams, names = zip(*queued, strict=True)
    assert streams == ("0.0", f"0.{stream.cuda_stream}")
    assert "Mul" in names[1]


@pytest.mark.parametrize("ordered", [True, False])
def test_graphs_that_share_memory_have_to_be_ordered(ordered: bool) -> None:
    """Two graphs of one pool on two streams: an event between them, or the host in between, or a note."""
    capture, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
    images, weights = torch.zeros(8, 3, 8, 8, device="cuda"), torch.zeros(4, 3, 3, 3, device="cuda")
    graphs = [torch.cuda.CUDAGraph() for _ in range(2)]
    torch.nn.functional.conv2d(images, weights)
    torch.cuda.synchronize()
    for graph in graphs:
        with torch.cuda.graph(graph, pool=pool, stream=capture):
            torch.nn.functional.conv2d(images, weights).relu()
    streams = [torch.cuda.Stream() for _ in range(2)]
    with counted() as counts:
        with torch.cuda.stream(streams[0]):
            graphs[0].replay()
            event = streams[0].record_event()
        with torch.cuda.stream(streams[1]):
            if ordered:
                streams[1].wait_event(event)
            graphs[1].replay()
        torch.cuda.synchronize()
        with torch.cuda.stream(streams[0]):
            graphs[0].replay()
    assert len([note for note in counts.notes if note.startswith("UNORDERED")]) == (not ordered)

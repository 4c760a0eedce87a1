"""`bench train`: what a step costs here, against the loops people write and against our own parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import UNSET
from msgspec.structs import asdict, replace

from prunectl.bench import workload
from prunectl.bench.records import ContenderRow, Options, Row, TrainResult, epoch_work
from prunectl.bench.rounds import BenchError, Contender, compared, load, measure, timings

Tell = Callable[[str], None]


def cpu_tables(quick: bool, networks: Sequence[str] = ()) -> list[list[Contender]]:
    """Return tables of stages against a bare loop and a DataLoader, and bf16 against fp32; one thread each."""
    tables = []
    for each in (workload.LENET, workload.RESNET):
        if networks and each.network not in networks:
            continue
        work = workload.quick(each) if quick else each
        tables.append(
            [
                Contender("prunectl stage", "stage", work),
                Contender("bare loop", "bare", work),
                Contender("DataLoader, 2 workers", "loader", work, Options(workers=2)),
                Contender("prunectl stage, bf16", "stage", replace(work, precision="bf16")),
            ]
        )
    return tables


def cuda_tables(quick: bool, device: str, networks: Sequence[str] = ()) -> list[list[Contender]]:
    """Return tables from a plain loop to several fused slots, a step at a time; letters are those of the design's
    table."""
    tables = []
    for name, each in workload.CIFAR.items():
        if networks and name not in networks:
            continue
        work = replace(workload.quick(each) if quick else each, device=device, precision="tf32")
        half = replace(work, precision="bf16")
        tables.append(
            [
                Contender("B  DataLoader, 8 workers, TF32", "loader", work, Options(workers=8)),
                Contender("   stage: graphs, events, checkpoints, TF32", "stage", work),
                Contender(
                    "D  data on the GPU, eager, TF32", "trainer", work, Options(graphs=False)
                ),
                Contender("E  D as one CUDA graph", "trainer", work),
                Contender("E' E in bf16", "trainer", half),
                Contender("F  E' with fused kernels", "trainer", half, Options(fuse=True)),
                *(
                    Contender(
                        f"G  F in {slots} slots", "trainer", half, Options(fuse=True, slots=slots)
                    )
                    for slots in (2, 4, 8)
                ),
            ]
        )
    return tables


def run(tables: Sequence[Sequence[Contender]], rounds: int, tell: Tell) -> list[TrainResult]:
    """Measure table after table. Raises BenchError where nothing of one could be measured."""
    results = []
    for contenders in tables:
        work = contenders[0].work
        before = load()
        on_cpu = work.device == "cpu"
        how = measure if on_cpu else _one_by_one
        measured = how(contenders, rounds, tell)
        options = {contender.label: contender.options for contender in contenders}
        rows = tuple(_with_options(row, options[row.label]) for row in measured)
        slots = UNSET if on_cpu else worth(rows)
        results.append(TrainResult(epoch_work(work), (before, load()), rows, slots))
    return results


def _with_options(row: Row, options: Options) -> ContenderRow:
    return ContenderRow(**asdict(row), slots=options.slots, options=options)


def _one_by_one(contenders: Sequence[Contender], rounds: int, tell: Tell) -> list[Row]:
    """Time one contender after the other, what fails left out: on a GPU even an idle process would hold memory."""
    found: dict[str, list[float]] = {}
    for contender in contenders:
        try:
            found |= timings([contender], rounds, tell)
        except BenchError as error:
            tell(str(error))
    if not found:
        raise BenchError("nothing could be measured")
    first = next(iter(found.values()))
    return [compared(label, values, first) for label, values in found.items()]


def worth(rows: Sequence[ContenderRow]) -> int:
    """Return the slots worth having: doubled while that makes an epoch at least 5 % cheaper."""
    fused = [row for row in rows if row.options.fuse]
    chosen, fastest = 1, float("inf")
    for row in fused:
        if row.seconds > 0.95 * fastest:
            break
        chosen, fastest = row.slots, row.seconds
    return chosen

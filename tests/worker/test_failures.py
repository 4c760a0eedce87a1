"""What a worker calls its failures, and what it says of its memory and its device where the system says little."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from prunectl.errors import DataError, DiskError
from prunectl.ml.pruning.masks import NonFiniteWeights
from prunectl.worker import failures, memory, versions
from prunectl.worker.failures import MissingInput, failed_message, failed_record
from prunectl.worker.trainer_cache import TrainerCache
from tests.support.sharing import spec


def _from(error: Exception, cause: Exception) -> Exception:
    """The error, raised from its cause."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NonFiniteWeights("conv1.weight"), "nonfinite"),
        (MissingInput("no checkpoint", "ab" * 32), "missing"),
        (DiskError("full"), "disk"),
        (OSError(errno.EMFILE, "full"), "disk"),
        (DataError("train/ant/0.png: the file is empty"), "data"),
        (_from(DataError("train/ant/0.png: cut short"), EOFError()), "data"),
        (
            _from(DataError("train/ant/0.png: gone"), FileNotFoundError(errno.ENOENT, "gone")),
            "data",
        ),
        (_from(DataError("full: train/ant/0.png"), OSError(errno.ESTALE, "stale")), "disk"),
        (torch.OutOfMemoryError("none"), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom"),
        (RuntimeError("CUDA error: out of memory"), "oom"),
        (RuntimeError("something else"), "exception"),
        (ValueError("CUDA error: out of memory"), "exception"),
    ],
)
def test_errors_are_called_by_their_kind(error: Exception, reason: str) -> None:
    record = failed_record(error, "cpu", 7)
    assert (record.reason, record.step) == (reason, 7)
    # What the system refuses ends the run, which says so without the name of a class.
    named = record.message.startswith(type(error).__name__)
    assert named == (reason != "disk")
    said = failed_message("cd" * 32, 2, record)
    assert (said.key, said.attempt, said.reason) == ("cd" * 32, 2, reason)
    assert said.missing == (error.key if isinstance(error, MissingInput) else None)


@pytest.mark.parametrize(("ran_out", "reason"), [(1, "oom"), (0, "exception")])
def test_an_engine_that_is_not_found_lacked_memory_if_memory_lacked(
    ran_out: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: {"num_ooms": ran_out})
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    assert failures.reason(error, "cpu") == reason


def test_memory_is_told_where_proc_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.restart_peak("cpu")
    assert memory.peak_memory("cpu") > 1 << 20
    monkeypatch.setattr(memory, "PROC", tmp_path / "missing")
    memory.restart_peak("cpu")
    assert memory.peak_memory("cpu") == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_cpu_without_a_model_has_its_machine_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = versions.device_name.__wrapped__
    assert name("cpu")
    monkeypatch.setattr(Path, "read_text", lambda self, *arguments, **named: "processor : 0\n")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert name("cpu") == "riscv64"


def test_the_data_set_used_longest_ago_is_dropped(tmp_path: Path) -> None:
    trainers = TrainerCache(tmp_path, "cpu", 1)
    first = spec("convnet", 0, 4)
    other = replace(first, data=replace(first.data, validation_from="train", validation_count=9))
    for stage in (first, other):
        trainers.give_back(stage, trainers.borrow(stage))
        assert list(trainers._images) == [stage.data]
        assert trainers.sharing == 1
    trainers.discard_idle()
    assert trainers.sharing is None

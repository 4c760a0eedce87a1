"""torch's switches, and what is said about bf16 without instructions for it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from prunectl.ml.training import torch_flags

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse2 avx512f{}\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd{}\n"


@pytest.mark.parametrize(
    ("text", "precision", "there"),
    [
        (X86.format(" avx512_bf16"), "bf16", True),
        (X86.format(" avx512_bf16"), "fp16", False),
        (X86.format(" amx_bf16 amx_tile"), "bf16", True),
        (X86.format(" avx512_fp16"), "fp16", True),
        (X86.format(""), "bf16", False),
        (ARM.format(" bf16"), "bf16", True),
        (ARM.format(" asimdhp"), "fp16", True),
        (ARM.format(""), "fp16", False),
    ],
)
def test_instructions_are_read_from_cpuinfo(
    tmp_path: Path, text: str, precision: str, there: bool
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert torch_flags._has("cpu", precision, file) is there
    assert torch_flags._has("cpu", precision, tmp_path / "missing") is True


def test_emulation_is_told_of_half_precisions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    emulation = torch_flags.emulation.__wrapped__
    monkeypatch.setattr(torch_flags, "_has", lambda kind, precision: False)
    assert emulation("cpu", "fp32") is emulation("cpu", "tf32") is None
    for precision in ("bf16", "fp16"):
        assert f"{precision} is emulated" in (emulation("cpu", precision) or "")
    monkeypatch.setattr(torch_flags, "_has", lambda kind, precision: True)
    assert emulation("cpu", "bf16") is None


CHURN = """
import resource, sys
from prunectl.ml.training import torch_flags
import torch
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    assert torch_flags.keep_freed_memory()
for _ in range(3):
    a = [torch.ones(1 << 20) for _ in range(8)]; del a
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    a = [torch.ones(1 << 20) for _ in range(8)]; del a
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
def test_memory_freed_and_taken_again_is_not_mapped_again(repository: Path) -> None:
    """Counts page faults, in a process of its own: eight tensors of 4 MiB are 8,192 pages."""
    assert resource.getpagesize() == 4096
    faults = subprocess.run(
        [sys.executable, "-c", CHURN, "kept"],
        capture_output=True,
        text=True,
        check=True,
        cwd=repository,
    ).stdout
    assert int(faults) < 8192


def test_a_libc_that_is_not_glibc_keeps_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert torch_flags.keep_freed_memory.__wrapped__() is False

"""What `doctor` concludes about torch."""

from __future__ import annotations

import sys

import pytest
from msgspec.structs import replace

from prunectl.child import NoAnswer
from prunectl.worker import ask_torch, torch_facts
from prunectl.worker.torch_facts import TorchDevice, TorchFacts, findings, has_kernels

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_90a", "compute_120")
H100 = TorchDevice((9, 0), bf16=True)
TORCH = TorchFacts("2.14.1+cu130", "13.0", ARCHITECTURES, (H100,))


def health(torch: TorchFacts, driver: int = 13000, devices: int = 1) -> dict[str, str]:
    return {each.about: each.health for each in findings(torch, driver, devices)}


@pytest.mark.parametrize(
    ("torch", "driver", "devices", "expected"),
    [
        (TORCH, 13000, 1, "ok"),
        (replace(TORCH, cuda="13.2"), 13000, 1, "ok"),  # a driver runs all of its major version
        (TORCH, 12080, 1, "error"),
        (replace(TORCH, cuda="12.8"), 13000, 1, "ok"),
        (TorchFacts("2.14.1+cpu", None), 13000, 1, "error"),
        (TorchFacts("2.14.1+cpu", None), 0, 0, "ok"),
        (TorchFacts("2.14.1+cu130", "13.0", error="Found no NVIDIA driver"), 0, 0, "ok"),
        (replace(TORCH, devices=(), error="unknown error"), 13000, 1, "error"),
        (TORCH, 13000, 2, "error"),
    ],
)
def test_a_build_against_a_driver(
    torch: TorchFacts, driver: int, devices: int, expected: str
) -> None:
    assert health(torch, driver, devices)["torch"] == expected


def test_kernels_run_on_newer_devices_of_their_major_version_alone() -> None:
    for capability in ((7, 5), (8, 0), (8, 9), (9, 0)):
        assert has_kernels(ARCHITECTURES, capability)
    for capability in ((7, 0), (10, 0), (12, 0)):
        assert not has_kernels(ARCHITECTURES, capability)
    assert has_kernels(("sm_120",), (12, 1))


def test_a_device_without_kernels_and_one_whose_kernels_fail() -> None:
    volta = replace(TORCH, devices=(TorchDevice((7, 0), bf16=False),))
    assert health(volta)["cuda:0 kernels"] == "warning"
    assert health(volta)["cuda:0 precision"] == "warning"
    broken = replace(TORCH, devices=(TorchDevice((7, 0), False, "no kernel image"),))
    assert health(broken)["cuda:0 kernels"] == "error"
    assert set(health(TORCH).values()) == {"ok"}


def test_what_the_cpu_emulates_is_told() -> None:
    *_, cpu = findings(replace(TORCH, emulated=("bf16",)), 13000, 1)
    assert cpu.found == "fp32 and fp16 by instructions of its own; bf16 emulated, which is slow"
    *_, cpu = findings(TORCH, 13000, 1)
    assert cpu.found == "fp32 and bf16 and fp16 by instructions of its own"


def test_a_torch_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch_facts, "COMMAND", (sys.executable, "-c", "raise SystemExit('no libcudart')")
    )
    with pytest.raises(NoAnswer, match="no libcudart") as caught:
        torch_facts.ask(20).answer()
    finding = torch_facts.no_answer(str(caught.value))
    assert (finding.about, finding.health) == ("torch", "error")
    assert "no libcudart" in finding.found


def test_cuda_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("Found no NVIDIA driver\nmore")

    monkeypatch.setattr("torch.cuda.init", init)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    found = ask_torch.facts()
    assert found.error == "Found no NVIDIA driver"
    assert found.devices == ()

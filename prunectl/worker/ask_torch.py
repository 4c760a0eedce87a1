"""`python -m prunectl.worker.ask_torch`: prints `TorchFacts`, in a process that a broken driver may hang or crash."""

from __future__ import annotations

import warnings

import torch

from prunectl.ml.training.torch_flags import INSTRUCTIONS, emulation
from prunectl.store.records.base import encode
from prunectl.worker.torch_facts import TorchDevice, TorchFacts


def facts() -> TorchFacts:
    """Ask torch, and launch a kernel on each device."""
    error = _start() if torch.version.cuda else ""
    usable = torch.version.cuda is not None and not error
    return TorchFacts(
        version=str(torch.__version__),
        cuda=torch.version.cuda,
        architectures=tuple(torch.cuda.get_arch_list()) if usable else (),
        devices=tuple(map(_device, range(torch.cuda.device_count()))) if usable else (),
        error=error,
        emulated=tuple(each for each in INSTRUCTIONS if emulation("cpu", each)),
    )


def _start() -> str:
    """Start CUDA. Returns why it does not; nothing where it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of, the findings say
            torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return _line(error)
    return ""


def _device(index: int) -> TorchDevice:
    name = f"cuda:{index}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.ones(1, device=name).add_(1)
            torch.cuda.synchronize(name)
        error = ""
        with torch.cuda.device(index):
            bf16 = bool(torch.cuda.is_bf16_supported(including_emulation=False))
    except Exception as failure:
        error, bf16 = _line(failure), False
    return TorchDevice(torch.cuda.get_device_capability(index), bf16, error)


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


if __name__ == "__main__":
    print(encode(facts()).decode())

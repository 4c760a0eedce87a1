"""What torch says of itself and its devices, and what that means here; torch-free, `worker.ask_torch` asks it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from prunectl.child import Asked, module_command
from prunectl.findings import Finding, ok

HALF = ("bf16", "fp16")
COMMAND = module_command("prunectl.worker.ask_torch")


class TorchDevice(msgspec.Struct, frozen=True):
    """A CUDA device as torch has it."""

    capability: tuple[int, int]
    bf16: bool
    """It multiplies bf16 by instructions of its own."""
    error: str = ""
    """Of the first kernel that was launched."""


class TorchFacts(msgspec.Struct, frozen=True):
    """What torch says."""

    version: str
    cuda: str | None
    """CUDA's version that it was built for; None for a build without."""
    architectures: tuple[str, ...] = ()
    """For which it has kernels: ``sm_90``, and ``compute_90``, which the driver translates for later ones."""
    devices: tuple[TorchDevice, ...] = ()
    error: str = ""
    """Why it does not use CUDA."""
    emulated: tuple[str, ...] = ()
    """Precisions for which the CPU has no instructions."""


def ask(seconds: float) -> Asked:
    """Ask torch, without waiting for the answer."""
    return Asked(COMMAND, seconds)


def no_answer(why: str) -> Finding:
    """Return the finding of a torch that hung or crashed when it was asked."""
    advice = '`python -c "import torch"` shows the whole error'
    return Finding("torch", "error", f"cannot be used: {why}", advice)


def findings(torch: TorchFacts, driver: int, devices: int) -> Iterator[Finding]:
    """Judge torch.

    Args:
        driver: the newest CUDA that the driver supports, 13000 for 13.0; 0 without a driver.
        devices: CUDA devices that the driver shows.
    """
    yield _build(torch, driver, devices)
    for index, device in enumerate(torch.devices):
        yield _kernels(f"cuda:{index}", torch, device)
        yield _precision(f"cuda:{index}", device)
    own = " and ".join(["fp32", *(each for each in HALF if each not in torch.emulated)])
    slow = f"; {' and '.join(torch.emulated)} emulated, which is slow" if torch.emulated else ""
    yield ok("cpu precision", f"{own} by instructions of its own{slow}")


def _build(torch: TorchFacts, driver: int, devices: int) -> Finding:
    name = f"{torch.version}, built for {f'CUDA {torch.cuda}' if torch.cuda else 'the CPU alone'}"
    if not devices:
        return ok("torch", f"{name}; there is no CUDA device")
    if torch.cuda is None:
        advice = f"install torch for CUDA {driver // 1000} or older, or run with --devices cpu"
        return Finding("torch", "error", f"{name}, but there is a CUDA device", advice)
    supported = f"{driver // 1000}.{driver % 1000 // 10}"
    # Since CUDA 11 a driver runs all of its major version, whatever the minor one.
    if int(torch.cuda.split(".")[0]) > driver // 1000:
        found = f"{name}, and the driver supports CUDA {supported} at most"
        advice = f"update the driver, or install torch for CUDA {driver // 1000}"
        return Finding("torch", "error", found, advice)
    if torch.error or len(torch.devices) != devices:
        found = f"{name}, sees {len(torch.devices)} of {devices} CUDA devices"
        found += f": {torch.error}" if torch.error else ""
        advice = "`python -c 'import torch; torch.zeros(1).cuda()'` shows the whole error"
        return Finding("torch", "error", found, advice)
    return ok("torch", f"{name}; the driver supports CUDA {supported}")


def _kernels(name: str, torch: TorchFacts, device: TorchDevice) -> Finding:
    """Judge whether torch has kernels for a device."""
    about, dotted = f"{name} kernels", ".".join(map(str, device.capability))
    if device.error:
        advice = f"install a build of torch with kernels for compute capability {dotted}"
        if has_kernels(torch.architectures, device.capability):
            advice = "look for Xid errors in `dmesg`; reset the device or restart the machine"
        return Finding(about, "error", f"the first one failed: {device.error}", advice)
    if not has_kernels(torch.architectures, device.capability):
        found = f"none for compute capability {dotted} in {', '.join(torch.architectures)}"
        advice = "install a build of torch that has them: others are translated at each start, or missing"
        return Finding(about, "warning", found, advice)
    return ok(about, f"one was launched; torch has some for compute capability {dotted}")


def has_kernels(architectures: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Return whether one of torch's architectures runs on a device: of the same major version, not newer."""
    numbers = ["".join(filter(str.isdigit, each)) for each in architectures if each[:3] == "sm_"]
    built = [(int(each[:-1]), int(each[-1])) for each in numbers if len(each) > 1]
    return any(major == capability[0] and minor <= capability[1] for major, minor in built)


def _precision(name: str, device: TorchDevice) -> Finding:
    """Say which precisions a device has: TF32 and bf16 came with Ampere, 8.0."""
    about = f"{name} precision"
    lacking = [] if device.capability >= (8, 0) else ["tf32 (computed as fp32)"]
    lacking += [] if device.bf16 else ["bf16 (emulated, which is slow)"]
    if not lacking:
        return ok(about, "fp32, tf32, bf16 and fp16")
    advice = 'use precision = "fp32" or "fp16" on this device'
    return Finding(about, "warning", f"fp32 and fp16; not {' and not '.join(lacking)}", advice)

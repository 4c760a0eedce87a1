"""Why there is no such CUDA device: what was looked at, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prunectl.scheduler.devices.driver import VISIBLE, Driver
from prunectl.scheduler.devices.torch_build import TorchBuild


def explain(driver: Driver, environment: Mapping[str, str], torch: TorchBuild | None) -> str:
    """Return lines of what the driver, CUDA_VISIBLE_DEVICES and torch say, and the next step."""
    visible = environment.get(VISIBLE)
    many = len(driver.devices)
    facts = [
        driver.trouble or f"the driver shows {many} CUDA device{'' if many == 1 else 's'}",
        f"{VISIBLE} is not set" if visible is None else f"{VISIBLE} is {visible!r}",
        built_for(torch),
    ]
    return "\n".join(f"  {line}" for line in (*facts, *_advice(driver, visible)))


def built_for(torch: TorchBuild | None) -> str:
    """Return what torch is, in words."""
    if torch is None:
        return "torch is not installed, or does not say for what it was built"
    return f"torch {torch.version} is built for " + (
        f"CUDA {torch.cuda}" if torch.cuda else "the CPU alone"
    )


def _advice(driver: Driver, visible: str | None) -> Iterator[str]:
    if driver.devices:
        last = len(driver.devices) - 1
        yield f"to do: use cuda:0{f' to cuda:{last}' if last else ''}" + (
            f", or let {VISIBLE} show more" if visible is not None else ""
        )
    elif not driver.loaded:
        yield "to do: install NVIDIA's driver, or let the container have the devices (docker run --gpus all)"
    elif visible is not None:
        yield f"to do: unset {VISIBLE}, or name devices that `nvidia-smi -L` lists"
    else:
        yield "to do: `nvidia-smi` tells what the driver lacks"

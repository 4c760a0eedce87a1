"""torch's process-wide switches. Stages that differ in them do not share a process."""

from __future__ import annotations

import torch

from prunectl.core.settings import TrainSettings


def configure(device: str | torch.device, settings: TrainSettings) -> None:
    """Set determinism, TF32 and threads for all training that this process will do on `device`.

    Deterministic kernels on CUDA need CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment from the process's start.
    """
    if torch.device(device).type == "cpu":
        # One thread per worker, one worker per core: small batches lose more to waiting than they gain, and sums
        # split between threads would depend on how many there are.
        torch.set_num_threads(1)
    torch.use_deterministic_algorithms(settings.deterministic)
    # Deterministic mode would also fill every new tensor, to show up reads of memory nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = settings.deterministic
    torch.backends.cudnn.benchmark = not settings.deterministic
    torch.backends.cuda.matmul.allow_tf32 = settings.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = settings.precision == "tf32"

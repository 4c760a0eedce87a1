"""Scaling the loss of fp16 training, so that small gradients do not vanish: what torch.amp.GradScaler does, without
reading anything back from the device.

Gradients of fp16 below 6e-8 are zero, so the loss is multiplied by `scale` and the gradients divided by it in float32.
Where one of them overflowed the step is skipped and the scale halved; after `INTERVAL` steps without it is doubled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

INITIAL = 2.0**16
GROWTH, BACKOFF = 2.0, 0.5
INTERVAL = 2000
"""torch.amp.GradScaler's defaults (torch 2.14)."""


class LossScale:
    """The scale, and what decides on it, in tensors that never move."""

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), INITIAL, device=device)
        self.tracker = torch.zeros((), dtype=torch.int32, device=device)
        """Steps since the last overflow or growth."""
        self.found = torch.zeros((), device=device)
        """1 where the gradients of the last step overflowed, which was skipped then; else 0."""

    def state(self) -> dict[str, Tensor]:
        """Return the state itself, not copies: part of an optimizer's."""
        return {"scale": self.scale, "growth_tracker": self.tracker}

    def reset(self) -> None:
        """Begin anew, in place."""
        self.scale.fill_(INITIAL)
        self.tracker.zero_()

    def unscale(self, gradients: Sequence[Tensor]) -> Tensor:
        """Divide gradients (float32) by the scale in place. Returns `found`."""
        # By the reciprocal in float64, as GradScaler does: that of a power of two is exact anyhow.
        self.found.zero_()
        inverse = self.scale.double().reciprocal().float()
        torch._amp_foreach_non_finite_check_and_unscale_([*gradients], self.found, inverse)
        return self.found

    def update(self) -> None:
        """Move the scale after a step."""
        torch._amp_update_scale_(self.scale, self.tracker, self.found, GROWTH, BACKOFF, INTERVAL)

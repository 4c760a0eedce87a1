"""One measured number in the form that ours and the published ones share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """The median accuracy of n networks; accuracies in percent (BLEU for gnmt), sparsity from 0 to 1."""

    network: str
    dataset: str
    structure: str
    """unstructured, or structured with whatever the publication adds."""
    schedule: str
    kind: str
    """one-shot or iterative."""
    prune_step: float | None
    """Fraction removed per iteration; None where it is not stated or does not apply."""
    strategy: str
    sparsity: float
    retrain_epochs: float | None
    """Epochs of each retraining; None where the publication has one length."""
    n: int
    median: float
    low: float | None
    high: float | None
    """The spread: minimum and maximum, or 10th and 90th percentile."""
    dense: float
    """Mean accuracy of the dense networks of the same study."""
    label: str = ""
    """Figure of the publication; plan and recipe of ours."""
    criterion: str = "magnitude"

    @property
    def delta(self) -> float:
        """Change from the dense networks, percentage points."""
        return self.median - self.dense

    @property
    def compression(self) -> float:
        """Prunable weights of the dense network / weights kept."""
        return 1 / (1 - self.sparsity)

"""The check of plans against their networks, in this process."""

from __future__ import annotations

from prunectl.ml.summarise import summarise
from prunectl.spec.settings import NetworkSettings, PruneSettings


def check(network: NetworkSettings, prune: PruneSettings) -> int:
    """Count the weights that a pruning keeps of a network."""
    return summarise(network, readers=bool(prune.ratios)).kept_by(prune)

"""The check of plans against their networks, in this process."""

from __future__ import annotations

from prunectl.ml.summarise import examine
from prunectl.spec.settings import NetworkSettings, PruneSettings

check = examine


def kept(network: NetworkSettings, prune: PruneSettings) -> int:
    """Count the weights that a pruning keeps of a network."""
    return check(network, readers=bool(prune.ratios)).kept_by(prune)

"""What `store verify` finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from prunectl.spec.settings import DataSettings


@dataclass
class Verdict:
    """The findings of `verify`."""

    stages: int = 0
    done: int = 0
    files: int = 0
    """Checkpoints and masks whose checksums were computed."""
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    """Errors, a sentence each."""
    notes: list[str] = field(default_factory=list)
    """What does no harm but could be removed, or was not checked; a sentence each."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Of the final weights of each done stage, by key."""
    data: set[DataSettings] = field(default_factory=set)
    """What done stages were trained on."""

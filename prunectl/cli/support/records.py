"""What a run writes into the store before it starts: its plans, and where it came from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunectl.errors import StoreError

if TYPE_CHECKING:
    from prunectl.plan.expand import Expansion
    from prunectl.scheduler.devices.base import Device
    from prunectl.store.paths import StorePaths


def record_plans(paths: StorePaths, expansions: Sequence[Expansion]) -> None:
    """Make these the versions of their plans that were used last."""
    from prunectl.store.files import write_json

    # Written anew each time: the version of a plan that was used last is the current one, whatever the clock says.
    created = max(time.time(), last_use(paths) + 1e-3)
    for expansion in expansions:
        write_json(paths.plan(expansion.digest), {"created": created, **expansion.record()})


def last_use(paths: StorePaths) -> float:
    """When a plan was recorded or run last, Unix seconds; later than now where the clock was set back."""
    from prunectl.store.files import read_json

    last = 0.0
    for folder, name in ((paths.plans, "created"), (paths.runs, "started")):
        for path in folder.glob("*.json"):
            try:
                when = read_json(path)[name]
            except (OSError, StoreError, KeyError, TypeError):
                continue
            last = max(last, when) if isinstance(when, int | float) else last
    return last


def record_run(
    paths: StorePaths, expansions: Sequence[Expansion], devices: Sequence[Device]
) -> str:
    """Write the plans and the run into the store. Raises StoreError where it cannot be written."""
    from prunectl.cli.support.provenance import collect, run_id
    from prunectl.store.files import write_json

    identifier = run_id()
    record_plans(paths, expansions)
    digests = [expansion.digest for expansion in expansions]
    write_json(
        paths.run(identifier), collect(identifier, digests, [device.id for device in devices])
    )
    return identifier

"""The heartbeat, `control/heartbeat.json`: what the scheduler is doing now, replaced every second.

run, pid, host, time, started (Unix seconds), version, plans [digest …]
stopping  null | soft | now
ended     Unix seconds, null while it runs
devices   [{id, name, uuid, kind, slots, auto, state (open | drained | leased), reason, running [key …],
          utilisation (percent), memory_used, memory_total (bytes), temperature (°C), power (W),
          processes [[pid, bytes] …]}]; null where the system does not report it
running   {key: {device, worker, pid, attempt, since, step, steps, loss, accuracy, eta (seconds), trials (count)}}
queue     {stages {state: count}, next [key …] (those that start next, in order), reasons {key: why not yet}}
eta       {end (Unix seconds, null before the first measurement), trials {id: Unix seconds} (the soonest ones),
          stages {key: seconds} (what the stages of `next` take)}
trouble   what goes wrong without stopping the run, such as a database that somebody keeps open; else null
"""

from __future__ import annotations

from typing import Any

from prunectl.errors import StoreError
from prunectl.store.files import read_json
from prunectl.store.paths import StorePaths


def read_heartbeat(paths: StorePaths) -> dict[str, Any]:
    """Read the last heartbeat, also of a scheduler that is gone; empty where there is none that can be read."""
    try:
        found = read_json(paths.heartbeat)
    except (OSError, StoreError):
        return {}
    return found if isinstance(found, dict) else {}

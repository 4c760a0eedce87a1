"""Requests to a scheduler, `control/requests/<id>.json`, and in its log with their answers (`scheduler_log`).

All have id (the file's name, in the order of time), time (Unix seconds), by (who asks, in words), and do:

    cancel | hold | release | retry   trials [id …]
    priority         trials, and value (to set) or change (to add)
    stop             now (bool: do not wait for checkpoints)
    add-plan         plan (digest)
    drain | undrain  device (id)
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

from prunectl.store.locks import process_name

Request = dict[str, Any]

TrialAction = Literal["cancel", "hold", "release", "retry", "priority"]
PAST = {"cancel": "cancelled", "hold": "held", "release": "released", "retry": "retried"}
"""Types of the log records that actions on trials leave."""


def make_request(do: str, **fields: Any) -> Request:
    """Make a request of this user and moment."""
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    return {"id": name, "do": do, "time": time.time(), "by": process_name(), **fields}

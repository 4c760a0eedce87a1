"""Messages between the scheduler and its workers: a JSON object a line, on the worker's stdin and stdout.

To a worker (`do`):

    run          key, keep [steps before which the state is kept as a rewind checkpoint]
    cancel       key: checkpoint at the end of the epoch, or after 30 s, and give the stage back
    stop         the same with all its stages, then exit

From a worker (`is`), where K is a stage's key:

    ready        device_name
    started      key
    done         key
    interrupted  key, step
    failed       key, and what the log's record `failed` has (`events`)
    beat         running {K: {step, steps, loss, accuracy}} (each absent until known; of the last evaluation),
                 turns, preparing, memory, lanes; about once a second

Beats come from a thread, also while data are loaded or a step is compiled. `turns` grows with every few steps of any
stage: where it stands still, and no stage is `preparing` (has yet to take its first steps), the worker hangs. `memory`
is the most bytes that the process has used since it last was without a stage, and `lanes` how many trainers shared it
(null where they are of several workloads).

The end of its input means to a worker that the scheduler is gone: it exits at once, and nothing is lost by it. The
scheduler itself makes one more message, when a worker is gone:

    ended        code (exit status), how (in words), log (its last lines)
"""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, Any]


def parse(line: bytes) -> Message | None:
    """Return a worker's message; None for a line that is none, such as what a library printed."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "is" in message else None
